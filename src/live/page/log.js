// The log: the newest lines, which can be filtered. It follows what comes until somebody scrolls up.

import { clock, duration, element, size } from './text.js';

/** Lines that are kept; the server keeps as many. */
const MOST = 4000;

/** What a line says, or null for what is no line. */
function line(event) {
  switch (event.event) {
    case 'output':
      return { kind: 'output', tone: event.stream === 'stderr' ? 'stderr' : '', tag: event.phase, text: event.line };
    case 'serial':
      // Programs that draw on a console leave hundreds of these.
      if (event.line.trim() === '') return null;
      return { kind: 'serial', tag: 'serial', text: event.line };
    case 'message': {
      const kind = event.level === 'debug' ? 'debug' : 'message';
      return { kind, tone: event.level === 'warning' ? 'warning' : '', tag: event.level === 'warning' ? 'warning' : '', text: event.text };
    }
    case 'phase_started':
      return { kind: 'message', tone: 'course', text: `${event.phase} …` };
    case 'phase_finished':
      return { kind: 'message', tone: 'course', text: `${event.phase} done in ${duration(event.seconds)}` };
    case 'stage_started':
      return { kind: 'message', tone: 'course', text: 'started' };
    case 'stage_finished':
      return { kind: 'message', tone: 'course', text: `done in ${duration(event.seconds)}` };
    case 'stage_failed':
      return { kind: 'message', tone: 'warning', tag: 'failed', text: event.words };
    case 'stage_skipped':
      return { kind: 'message', tone: 'course', text: event.reason };
    case 'request':
      return { kind: 'message', tag: 'request', text: `${event.method} ${event.path}: ${event.status}, ${size(event.bytes)}` };
    case 'gap':
      return { kind: 'message', tone: 'warning', text: 'lines were left out here; build.log and serial.log have them all' };
    default:
      return null;
  }
}

export class Log {
  constructor({ lines, follow, filters, find }) {
    Object.assign(this, { lines, button: follow, find });
    this.following = true;
    this.waiting = [];
    this.missed = 0;
    this.template = null;
    lines.addEventListener('scroll', () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.keep()).observe(lines);
    follow.addEventListener('click', () => this.follow());
    filters.addEventListener('change', () => this.filter(filters));
    find.addEventListener('input', () => this.search());
    this.filter(filters);
  }

  take(event) {
    const made = line(event);
    if (!made) return;
    this.waiting.push({ ...made, elapsed: event.elapsed, template: event.template ?? '' });
    if (this.waiting.length === 1) requestAnimationFrame(() => this.show());
  }

  /** Shows what has come since the last frame. */
  show() {
    const come = this.waiting.splice(0).slice(-MOST);
    const rows = come.map((entry) => this.row(entry));
    this.lines.append(...rows);
    while (this.lines.childElementCount > MOST) this.lines.firstElementChild.remove();
    if (this.following) this.lines.scrollTop = this.lines.scrollHeight;
    else this.miss(rows.length);
  }

  row({ kind, tone, tag, text, elapsed, template }) {
    const made = element('div', `line ${kind} ${tone ?? ''}`);
    made.append(element('span', 'when number', elapsed === undefined ? '' : clock(elapsed)));
    made.append(element('span', 'who', template));
    const said = element('span', 'said');
    if (tag) said.append(element('span', 'tag', tag), ' ');
    said.append(text);
    made.append(said);
    made.hidden = !this.fits(made);
    return made;
  }

  fits(row) {
    const wanted = this.find.value.trim().toLowerCase();
    return wanted === '' || row.textContent.toLowerCase().includes(wanted);
  }

  search() {
    for (const row of this.lines.children) row.hidden = !this.fits(row);
    this.keep();
  }

  filter(filters) {
    for (const box of filters.querySelectorAll('input')) this.lines.classList.toggle(`show-${box.value}`, box.checked);
    this.keep();
  }

  keep() {
    if (this.following) this.lines.scrollTop = this.lines.scrollHeight;
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.lines;
    this.following = scrollHeight - scrollTop - clientHeight < 8;
    if (this.following) this.miss(-this.missed);
    this.button.hidden = this.following;
  }

  miss(count) {
    this.missed += count;
    this.button.textContent = this.missed > 0 ? `${this.missed} newer lines` : 'Newest lines';
  }

  follow() {
    this.following = true;
    this.lines.scrollTop = this.lines.scrollHeight;
    this.lines.focus({ preventScroll: true });
  }
}
