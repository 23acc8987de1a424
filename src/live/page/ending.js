// How the run ended: what it made, or why it failed.

import { duration, element, size } from './text.js';

const WORDS = { done: 'Done', failed: 'Failed', stopped: 'Stopped' };

function artifact(stage, { path, bytes, sha256 }) {
  const hash = element('code', 'hash', sha256);
  return element('li', '', element('strong', '', stage.template), ' ', element('code', '', path), ` ${size(bytes)}`, element('br'), 'sha256 ', hash);
}

function results(model) {
  const list = element('ul', 'results');
  for (const stage of model.stages.values()) {
    for (const result of stage.results) {
      if (result.kind === 'artifact') list.append(artifact(stage, result));
      else list.append(element('li', result.good ? '' : 'bad', element('strong', '', stage.template), ` ${result.text}`));
    }
  }
  return list;
}

function failure(model, { message, hints, exit_code: code }) {
  const failed = [...model.stages.values()].find((stage) => stage.state === 'failed');
  const nodes = [];
  if (failed?.reason) nodes.push(element('p', 'class', `${failed.template}: ${failed.reason}`));
  const [first, ...causes] = message;
  nodes.push(element('p', 'message', first));
  if (causes.length) {
    const list = element('ul', 'causes');
    list.append(...causes.map((cause) => element('li', '', cause)));
    nodes.push(list);
  }
  if (hints.length) {
    const list = element('ul', 'hints');
    list.append(...hints.map((hint) => element('li', '', hint)));
    nodes.push(list);
  }
  nodes.push(element('p', 'about', `exit code ${code}`));
  return nodes;
}

/** Shows the end in `panel`. */
export function showEnding(model, panel) {
  const { how, error, time } = model.ended;
  const took = model.began === null ? '' : ` after ${duration(time - model.began)}`;
  panel.dataset.state = how;
  panel.replaceChildren(element('h2', '', WORDS[how] + took));
  if (error) panel.append(...failure(model, error));
  const list = results(model);
  if (list.childElementCount) panel.append(list);
  panel.append(element('p', 'about', 'The build has ended, and its server with it: this page stays as it is until it is closed or loaded again.'));
  panel.hidden = false;
}
