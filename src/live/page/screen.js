// The screen of a machine. Who looks types nothing: the server passes no input on until this page has taken over.

import { element } from './text.js';

/** Between two attempts to see a machine that runs, milliseconds. */
const AGAIN = 1000;

const PURPOSES = { install: 'installation', layer: 'build', seal: 'seal' };

function label({ template, purpose }) {
  return `${template}: ${PURPOSES[purpose] ?? purpose.replace(/^verify-/, 'verification ')}`;
}

export class Screen {
  constructor(nodes) {
    Object.assign(this, nodes);
    this.machines = [];
    this.chosen = null;
    this.taken = new Set();
    this.over = false;
    this.shown = null;
    this.take.addEventListener('click', () => (this.mine() ? this.giveBack() : this.takeOver('take')));
    this.keys.addEventListener('click', () => this.shown?.rfb?.sendCtrlAltDel());
    this.machine.addEventListener('change', () => this.choose(this.machine.value));
    this.yes.addEventListener('click', () => this.confirmed('take-anyway'));
    this.no.addEventListener('click', () => this.confirmed(null));
    // All keys are the guest's then, so one must lead out; QEMU's own windows have the same.
    addEventListener('keydown', (event) => this.leave(event), { capture: true });
  }

  mine() {
    return this.shown?.mine === true;
  }

  current() {
    return this.machines.find(({ id }) => id === this.chosen);
  }

  setMachines(machines) {
    this.machines = machines;
    const there = machines.some(({ id }) => id === this.chosen);
    // What began last is what happens now.
    if (!there) this.chosen = (machines.findLast(({ screen }) => screen) ?? machines.at(-1))?.id ?? null;
    this.machine.replaceChildren(...machines.map((machine) => {
      const option = element('option', '', label(machine));
      option.value = machine.id;
      option.selected = machine.id === this.chosen;
      return option;
    }));
    this.machine.parentElement.hidden = machines.length < 2;
    this.update();
  }

  choose(id) {
    this.chosen = id;
    this.update();
  }

  setTaken(machines) {
    this.taken = new Set(machines);
    this.tell();
  }

  /** The run is over: there is nothing to see any more. */
  end() {
    this.over = true;
    this.view.classList.add('over');
    this.setMachines([]);
  }

  /** Connects to the machine that is to be seen, unless that is so. */
  update() {
    const machine = this.current();
    const wanted = machine?.screen ? `${machine.id} ${machine.started}` : null;
    if (this.shown && this.shown.key !== wanted) this.close();
    if (wanted && !this.shown) this.open(machine, wanted);
    this.tell();
  }

  async open(machine, key) {
    const viewer = crypto.randomUUID();
    const shown = { key, viewer, mine: false, connected: false, rfb: null };
    this.shown = shown;
    // Not needed before there is a screen, and then once.
    const library = await import('./novnc/core/rfb.js').catch(() => null);
    if (this.shown !== shown) return;
    if (!library) {
      this.lost(shown);
      return;
    }
    const { default: RFB } = library;
    const address = new URL(`screen/${encodeURIComponent(machine.id)}/${viewer}`, location.href);
    address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const holder = element('div', 'rfb');
    this.view.append(holder);
    const rfb = new RFB(holder, address.href, { shared: true });
    Object.assign(shown, { rfb, holder });
    rfb.viewOnly = true;
    rfb.scaleViewport = true;
    rfb.background = 'transparent';
    rfb.addEventListener('connect', () => {
      shown.connected = true;
      const canvas = holder.querySelector('canvas');
      canvas.setAttribute('role', 'img');
      canvas.setAttribute('aria-label', `Screen of ${label(machine)}`);
      this.tell();
    });
    rfb.addEventListener('disconnect', () => this.lost(shown));
  }

  lost(shown) {
    shown.holder?.remove();
    if (this.shown !== shown) return;
    this.shown = null;
    this.tell();
    // The machine may have just ended, which the next event tells; else it is tried again.
    setTimeout(() => this.shown ?? this.update(), AGAIN);
  }

  close() {
    const { rfb, holder } = this.shown;
    this.shown = null;
    rfb?.disconnect();
    holder?.remove();
  }

  async ask(what) {
    const shown = this.shown;
    if (!shown) return 0;
    const answer = await fetch(`${what}/${shown.viewer}`, { method: 'POST' }).catch(() => null);
    return this.shown === shown ? answer?.status ?? 0 : 0;
  }

  async takeOver(how) {
    const status = await this.ask(how);
    if (status === 428) {
      this.confirm.showModal();
      return;
    }
    if (status !== 204) {
      this.tell(status === 409 ? 'another page has taken over' : 'the screen cannot be taken over now');
      return;
    }
    this.shown.mine = true;
    this.shown.rfb.viewOnly = false;
    this.shown.rfb.focus();
    this.tell();
  }

  confirmed(how) {
    this.confirm.close();
    if (how) this.takeOver(how);
  }

  async giveBack() {
    this.shown.mine = false;
    this.shown.rfb.viewOnly = true;
    this.tell();
    this.take.focus();
    await this.ask('give-back');
  }

  leave(event) {
    if (!this.mine() || !event.ctrlKey || !event.altKey || event.code !== 'KeyG') return;
    event.preventDefault();
    event.stopImmediatePropagation();
    this.giveBack();
  }

  /** Says how things are; `problem` instead of it, once. */
  tell(problem) {
    const machine = this.current();
    const connected = this.shown?.connected === true;
    const mine = this.mine();
    const others = !mine && machine !== undefined && this.taken.has(machine.id);
    this.empty.hidden = connected;
    this.empty.textContent = this.nothing(machine);
    this.take.disabled = !connected || others;
    this.take.textContent = mine ? 'Give back' : 'Take over';
    this.take.setAttribute('aria-pressed', String(mine));
    this.keys.hidden = !mine;
    this.view.classList.toggle('mine', mine);
    this.view.classList.toggle('on', connected);
    let mode = '';
    if (connected) mode = others ? 'another page has taken over' : 'view only';
    if (mine) mode = 'you type; Ctrl+Alt+G gives back';
    this.mode.textContent = problem ?? mode;
    this.mode.dataset.mode = mine ? 'mine' : '';
  }

  nothing(machine) {
    if (this.over) return 'The build has ended.';
    if (!machine) return 'No machine is running.';
    if (!machine.screen) return `${label(machine)} runs in a container, which has no screen. Its console is in the log.`;
    return `Connecting to ${label(machine)} …`;
  }
}
