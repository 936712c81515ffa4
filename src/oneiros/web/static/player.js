// The loop: one request at a time, the next when the last is drawn, so nothing can pile up anywhere.

import { Figures } from "./figures.js";

/** What the page is doing. waiting: a held key goes on. paused: only the player's own wish does. */
export const [WAITING, PLAYING, PAUSED, OVER, GONE] = ["waiting", "playing", "paused", "over", "gone"];

export class Player {
  state = GONE;
  frame = 0; // frames since the start of what is seen
  newest = 0; // how far this branch goes
  wants = { side: false, think: false, depth: false };
  figures = new Figures();
  #commands = new Map(); // by what they do: the latest wish wins
  #busy = false;
  #steps = 0; // single steps asked for
  #due = 0; // when the next frame is
  #hurried = false;
  #touched = null; // when the oldest unanswered key event happened
  #timer = 0;

  /** drawn(frame) paints, changed() is called when the state is another, trouble(sentence) when something failed. */
  constructor({ channel, actions, fps, drawn, changed, trouble }) {
    Object.assign(this, { channel, actions, drawn, changed, trouble });
    this.period = 1000 / fps;
  }

  begin() {
    this.#busy = false;
    this.#become(WAITING);
  }

  play() {
    if (this.state === GONE || this.state === OVER) return;
    this.figures.restart();
    this.#due = performance.now();
    this.#become(PLAYING);
    this.#pump();
  }

  pause() {
    if (this.state === PLAYING || this.state === WAITING) this.#become(PAUSED);
  }

  /** Pauses until a key is held. */
  wait() {
    if (this.state === PLAYING) this.#become(WAITING);
  }

  lose() {
    clearTimeout(this.#timer);
    for (const { resolve } of this.#commands.values()) resolve(null);
    this.#commands.clear();
    this.#steps = 0;
    this.#become(GONE);
  }

  /** Keys or sliders changed. A press wakes the dream, and brings the frame that is due next forward. */
  touch(time, pressed) {
    this.#touched ??= time;
    this.#hurried = true;
    if (pressed && this.state === WAITING) this.play();
    else this.#pump();
  }

  /** One frame further. */
  step() {
    if (this.state === GONE || this.state === OVER) return;
    this.#become(PAUSED);
    this.#steps = Math.min(this.#steps + 1, 2);
    this.#pump();
  }

  /** Back, or on again, to a frame since the start; what is played from there is another branch. */
  rewind(frame) {
    if (this.state === GONE) return;
    const wanted = Math.max(0, Math.min(this.newest, frame));
    this.#become(WAITING);
    this.command("rewind", { frame: wanted });
    return wanted;
  }

  reset(start = null, seed = null) {
    if (this.state === GONE) return;
    this.newest = this.frame = 0;
    this.#commands.delete("rewind");
    this.#become(WAITING);
    return this.command("reset", { start, seed });
  }

  /** The frame that is seen, once more, with what is wanted now. */
  refresh() {
    if (this.state !== PLAYING && this.state !== GONE) this.command("rewind", { frame: this.frame });
  }

  /** Asks the server for something; resolves to its answer, or null where a later wish replaced it or it failed. */
  command(what, values) {
    this.#commands.get(what)?.resolve(null);
    return new Promise((resolve) => {
      this.#commands.set(what, { message: { do: what, ...values }, resolve });
      this.#pump();
    });
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    if (state !== PLAYING) clearTimeout(this.#timer);
    this.changed();
  }

  #pump = () => {
    clearTimeout(this.#timer);
    if (this.#busy || !this.channel.open) return;
    const [what] = this.#commands.keys();
    if (what) return this.#send(what);
    if (this.#steps) {
      this.#steps -= 1;
      return this.#go();
    }
    if (this.state !== PLAYING) return;
    const early = this.#due - performance.now() - (this.#hurried ? this.period : 0);
    if (early > 1) this.#timer = setTimeout(this.#pump, early);
    else this.#go();
  };

  #go() {
    // A frame that was brought forward leaves the one after it its time, so keys never make the dream run faster.
    this.#due = Math.max(this.#due, performance.now() - this.period) + this.period;
    this.#hurried = false;
    const touched = this.#touched;
    this.#touched = null;
    this.#ask({ do: "step", action: this.actions.take(), ...this.wants }, touched);
  }

  async #send(what) {
    const { message, resolve } = this.#commands.get(what);
    this.#commands.delete(what);
    resolve(await this.#ask(["reset", "rewind"].includes(what) ? { ...message, ...this.wants } : message));
    if (what === "reset" && this.state === WAITING && this.actions.held) this.play();
  }

  async #ask(message, touched = null) {
    this.#busy = true;
    const sent = performance.now();
    let answer = null;
    try {
      answer = await this.channel.ask(message);
      if (answer.rgb) this.#show(answer, message.do, sent, touched);
    } catch (error) {
      if (this.state === PLAYING) this.#become(PAUSED);
      this.trouble(error.message);
    }
    this.#busy = false;
    this.#pump();
    return answer;
  }

  #show(frame, what, sent, touched) {
    const stepped = what === "step";
    this.frame = frame.frame;
    this.newest = what === "rewind" ? Math.max(this.newest, frame.frame) : frame.frame;
    this.drawn(frame);
    if (stepped) this.figures.add(performance.now(), performance.now() - sent);
    if (touched !== null) afterPaint(() => measure(touched, frame.stepMs));
    if (frame.over && stepped) this.#become(OVER);
  }
}

/** Calls back as soon as the browser has painted what was drawn before. */
function afterPaint(callback) {
  requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = callback;
    port2.postMessage(null);
  });
}

/** For whoever observes the page's measures, as benchmarks/key_to_photon.py does. */
function measure(start, stepMs) {
  performance.measure("key to photon", { start, end: performance.now(), detail: stepMs });
  performance.clearMeasures("key to photon");
}
