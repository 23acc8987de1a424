// Templates and their steps. Elements are kept and only changed where something changed, so that a reader's selection
// and a screen reader's place stay.

import { counting, duration, element, part, progress } from './text.js';

const WORDS = {
  waiting: 'waiting',
  running: 'running',
  done: 'done',
  failed: 'failed',
  skipped: 'unchanged',
  stopped: 'stopped',
  unbegun: 'not begun',
};

function time(model, { state, began, seconds }) {
  if (state === 'running') return counting(model.now() - began);
  return seconds === undefined ? '' : duration(seconds);
}

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function mark(node, state) {
  if (node.dataset.state === state) return;
  node.dataset.state = state;
  // For those who do not see the mark.
  set(node.querySelector('.word'), WORDS[state]);
}

function row(name) {
  const made = element('li', 'phase');
  const line = element('div', 'phase-line');
  line.append(element('span', 'mark'), element('span', 'phase-name', name), element('span', 'word hidden'));
  line.append(element('span', 'number time'));
  made.append(line);
  return made;
}

function showProgress(node, phase) {
  let bar = node.querySelector('progress');
  let told = node.querySelector('.told');
  if (!phase.progress || phase.state !== 'running') {
    bar?.remove();
    told?.remove();
    return;
  }
  if (!bar) {
    bar = element('progress');
    bar.max = 1;
    bar.setAttribute('aria-label', phase.name);
    told = element('p', 'told number');
    node.append(bar, told);
  }
  const done = part(phase.progress);
  if (done === null) bar.removeAttribute('value');
  else bar.value = done;
  set(told, progress(phase.progress));
}

function showPhase(model, node, phase) {
  mark(node, phase.state);
  set(node.querySelector('.time'), time(model, phase));
  showProgress(node, phase);
}

export class Stages {
  constructor(model, list, empty) {
    Object.assign(this, { model, list, empty });
    this.nodes = new Map();
    this.phases = new Map();
  }

  /** Everything as it is now. */
  show() {
    const stages = [...this.model.stages.values()];
    this.empty.hidden = stages.length > 0;
    const kept = new Set(stages);
    for (const [stage, node] of this.nodes) {
      if (kept.has(stage)) continue;
      node.remove();
      this.nodes.delete(stage);
    }
    for (const stage of stages) this.showStage(stage);
  }

  showStage(stage) {
    let node = this.nodes.get(stage);
    if (!node) {
      node = this.make(stage);
      this.nodes.set(stage, node);
      this.list.append(node);
    }
    mark(node, stage.state);
    set(node.querySelector('.stage-word'), WORDS[stage.state]);
    set(node.querySelector('.stage-line .time'), time(this.model, stage));
    const note = stage.reason ?? '';
    set(node.querySelector('.note'), note);
    node.querySelector('.note').hidden = note === '';
    this.showPhases(stage, node.querySelector('.phases'));
  }

  make(stage) {
    const title = element('h3', '', stage.template);
    const line = element('div', 'stage-line', element('span', 'mark'), title);
    line.append(element('span', 'stage-word'), element('span', 'number time'));
    const from = stage.parent ? `on ${stage.parent}` : '';
    const about = [from, stage.description].filter(Boolean).join(' · ');
    const made = element('li', 'stage', line, element('span', 'word hidden'));
    if (about) made.append(element('p', 'about', about));
    made.append(element('p', 'note'), element('ol', 'phases'));
    return made;
  }

  showPhases(stage, list) {
    const wanted = stage.phases.map((phase) => {
      let node = this.phases.get(phase);
      if (!node) {
        node = row(phase.name);
        this.phases.set(phase, node);
      }
      showPhase(this.model, node, phase);
      return node;
    });
    if (wanted.length !== list.children.length || wanted.some((node, index) => list.children[index] !== node)) {
      list.replaceChildren(...wanted);
      list.querySelector('[data-state="running"]')?.scrollIntoView({ block: 'nearest' });
    }
  }
}
