// What the guest asked the build's web server for.

import { clock, element, size } from './text.js';

/** Requests that are shown; the server keeps as many. */
const MOST = 1000;

export class Requests {
  constructor({ table, rows, count, empty }) {
    Object.assign(this, { table, rows, count, empty, number: 0 });
  }

  take({ elapsed, method, path, status, user_agent: agent, bytes }) {
    this.number += 1;
    this.count.textContent = String(this.number);
    this.table.hidden = false;
    this.empty.hidden = true;
    const what = element('td', 'what', element('span', 'method', method), ' ', element('span', 'path', path));
    what.title = path;
    if (agent) what.append(element('span', 'agent', agent));
    const row = element('tr', status >= 400 ? 'bad' : '');
    row.append(element('td', 'number', clock(elapsed)), what);
    row.append(element('td', 'number status', String(status)), element('td', 'number', size(bytes)));
    // The newest first: they are what one looks for.
    this.rows.prepend(row);
    while (this.rows.childElementCount > MOST) this.rows.lastElementChild.remove();
  }
}
