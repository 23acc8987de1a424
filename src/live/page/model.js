// What is known of the run: stages with their phases, as events tell them.

export class Model {
  constructor() {
    this.run = '';
    this.began = null;
    this.ended = null;
    this.stages = new Map();
    this.offset = 0;
  }

  /** The server's time now, seconds since 1970. */
  now() {
    return Date.now() / 1000 + this.offset;
  }

  /** Takes one event; returns whether it was about stages. */
  take(event) {
    if (event.elapsed !== undefined && this.began === null) this.began = event.time - event.elapsed;
    const take = this[`take_${event.event}`];
    if (!take) return false;
    take.call(this, event);
    return true;
  }

  stage(template) {
    let stage = this.stages.get(template);
    if (!stage) {
      stage = { template, description: '', parent: null, state: 'waiting', phases: [], results: [] };
      this.stages.set(template, stage);
    }
    return stage;
  }

  take_hello({ now }) {
    this.offset = now - Date.now() / 1000;
  }

  take_plan({ run, stages }) {
    this.run = run;
    this.began = null;
    this.stages.clear();
    for (const { template, parent, description, steps } of stages) {
      const phases = steps.map((name) => ({ name, state: 'waiting' }));
      Object.assign(this.stage(template), { parent, description, phases });
    }
  }

  take_stage_started({ template, time }) {
    Object.assign(this.stage(template), { state: 'running', began: time });
  }

  take_stage_finished({ template, seconds }) {
    this.close(template, 'done', { seconds });
  }

  take_stage_skipped({ template, reason }) {
    this.close(template, 'skipped', { reason });
  }

  take_stage_failed({ template, words, time }) {
    this.close(template, 'failed', { reason: words, time });
  }

  /** A stage is over: what waits will not come, and what runs did not end well. */
  close(template, state, { seconds, reason, time }) {
    const stage = this.stage(template);
    if (seconds === undefined && stage.began && time) seconds = time - stage.began;
    Object.assign(stage, { state, seconds, reason });
    stage.phases = stage.phases.filter((phase) => phase.state !== 'waiting');
    for (const phase of stage.phases) {
      if (phase.state !== 'running') continue;
      phase.state = state === 'failed' ? 'failed' : 'stopped';
      if (time) phase.seconds = time - phase.began;
    }
  }

  take_phase_started({ template, phase: name, time }) {
    const stage = this.stage(template);
    // A verification of its own has phases and no stage; so has one after the stage's end.
    if (stage.state === 'waiting') Object.assign(stage, { state: 'running', began: time });
    const planned = stage.phases.findIndex((phase) => phase.state === 'waiting' && phase.name === name);
    if (planned >= 0) stage.phases.splice(planned, 1);
    const next = stage.phases.findIndex((phase) => phase.state === 'waiting');
    const began = { name, state: 'running', began: time };
    stage.phases.splice(next < 0 ? stage.phases.length : next, 0, began);
  }

  running(template, name) {
    return this.stage(template).phases.findLast((phase) => phase.state === 'running' && phase.name === name);
  }

  take_phase_finished({ template, phase: name, seconds }) {
    const phase = this.running(template, name);
    if (phase) Object.assign(phase, { state: 'done', seconds, progress: undefined });
  }

  take_progress({ template, phase: name, done, total, unit }) {
    const phase = this.running(template, name);
    if (phase) phase.progress = { done, total, unit };
  }

  take_verified({ template, contract, passed, failed, not_run }) {
    const rest = [failed && `${failed} failed`, not_run && `${not_run} not run`].filter(Boolean);
    const counts = [`${passed} checks passed`, ...rest].join(', ');
    this.stage(template).results.push({ kind: 'verified', good: failed === 0, text: `${contract}: ${counts}` });
  }

  take_published({ template, image, name, state, visibility }) {
    const text = `in the cloud as ${name} (${state}, ${visibility}): ${image}`;
    this.stage(template).results.push({ kind: 'published', good: true, text });
  }

  take_artifact({ template, path, bytes, sha256 }) {
    this.stage(template).results.push({ kind: 'artifact', good: true, path, bytes, sha256 });
  }

  take_ended(event) {
    this.ended = event;
    for (const stage of this.stages.values()) {
      if (stage.state === 'waiting') {
        this.close(stage.template, 'unbegun', {});
      } else if (stage.state === 'running') {
        // A verification of its own has phases, but no stage that ends.
        this.close(stage.template, event.how === 'done' ? 'done' : 'stopped', { time: event.time });
      }
    }
  }
}
