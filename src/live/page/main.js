// The live page of a visabuild run: what the server tells, shown.

import { listen } from './events.js';
import { showEnding } from './ending.js';
import { Log } from './log.js';
import { Model } from './model.js';
import { Requests } from './requests.js';
import { Screen } from './screen.js';
import { Stages } from './stages.js';
import { counting } from './text.js';

const node = (id) => document.getElementById(id);

const WORDS = { open: 'running', lost: 'connection lost', closed: 'connection lost', done: 'done', failed: 'failed', stopped: 'stopped' };
const LOST = 'The connection to the build is lost; it is tried again. If visabuild was killed, nothing more will come.';

const model = new Model();
const stages = new Stages(model, node('stages'), node('no-stages'));
const log = new Log({ lines: node('lines'), follow: node('follow'), filters: node('filters'), find: node('find') });
const requests = new Requests({
  table: node('request-table'), rows: node('requests'), count: node('request-count'), empty: node('no-requests'),
});
const screen = new Screen({
  view: node('view'), empty: node('no-screen'), machine: node('machine'), mode: node('mode'), take: node('take'),
  keys: node('keys'), confirm: node('confirm'), yes: node('confirm-yes'), no: node('confirm-no'),
});

let dirty = false;

/** Shows stages anew with the next frame. */
function refresh() {
  if (dirty) return;
  dirty = true;
  requestAnimationFrame(() => {
    dirty = false;
    stages.show();
    title();
    tick();
  });
}

function tick() {
  const until = model.ended?.time ?? model.now();
  node('clock').textContent = model.began === null ? '' : counting(until - model.began);
}

/** Names the run by the templates that no other extends. */
function title() {
  const templates = [...model.stages.values()];
  const parents = new Set(templates.map(({ parent }) => parent));
  const leaves = templates.map(({ template }) => template).filter((template) => !parents.has(template)).join(', ');
  node('name').textContent = leaves;
  document.title = [node('state').textContent, leaves, 'visabuild'].filter(Boolean).join(' · ');
}

function state(word) {
  const pill = node('state');
  pill.textContent = WORDS[word];
  pill.dataset.state = word;
  title();
}

function connection(how) {
  if (model.ended) return;
  state(how);
  const notice = node('connection');
  notice.hidden = how === 'open';
  notice.textContent = how === 'open' ? '' : LOST;
}

function handle(event) {
  log.take(event);
  if (model.take(event)) refresh();
  switch (event.event) {
    case 'plan':
      state('open');
      break;
    case 'request':
      requests.take(event);
      break;
    case 'machines':
      screen.setMachines(event.machines);
      break;
    case 'taken':
      screen.setTaken(event.machines);
      break;
    case 'ended':
      finish(event);
      break;
  }
}

function finish({ how }) {
  stop();
  clearInterval(ticking);
  node('connection').hidden = true;
  state(how);
  screen.end();
  stages.show();
  tick();
  showEnding(model, node('ending'));
}

const ticking = setInterval(refresh, 1000);
const stop = listen(handle, connection);
