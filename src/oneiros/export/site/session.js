// What is played, and what is asked of it: the player's session (oneiros/web/session.py) in the page.

import { pixelsOf } from "../world/dream.mjs";

const KEPT = 600; // frames that one can go back to
const [NEAR, FAR, RECENT] = [16, 128, 64]; // a snapshot every 16 frames of the newest 64, every 128 before: they are large
const NO_DEPTH = 65535;

export class Session {
  #moments = []; // {rgb, depth, action, sampling, over, stepMs, snapshot}, from #oldest on
  #oldest = 0;
  #at = -1; // the frame that is shown
  #live = -1; // the frame that the dream itself is at

  constructor(dream) {
    this.dream = dream;
    this.sampling = { temperature: dream.temperature, min_p: dream.minP };
  }

  /** A frame as ../static/protocol.js reads it, or an object; throws with one sentence what cannot be done. */
  async answer(request) {
    if (request.do === "step") await this.#step(request.action);
    else if (request.do === "reset") await this.#reset(request.start, request.seed);
    else if (request.do === "rewind") this.#rewind(request.frame);
    else if (request.do === "sampling") return { ok: true, sampling: this.#setSampling(request) };
    else throw new Error("That needs the player's server: oneiros play.");
    return this.#picture(request);
  }

  async #reset(start, seed) {
    const { dream } = this;
    const chosen = start ?? Math.floor(Math.random() * dream.about.num_starts);
    const frame = await dream.begin(chosen, seed ?? Math.floor(Math.random() * 2 ** 32));
    [this.#oldest, this.#at, this.#live] = [0, 0, 0];
    this.#moments = [{ ...this.#seen(frame), stepMs: 0, over: false, snapshot: dream.snapshot() }];
  }

  async #step(action) {
    if (this.#at < 0) throw new Error("nothing has begun; reset first");
    if (this.#moments[this.#at - this.#oldest].over) throw new Error("the episode is over; reset, or rewind and go on differently");
    await this.#catchUp();
    this.#moments.length = this.#at - this.#oldest + 1;
    const moment = await this.#advance(action, { ...this.sampling });
    if (this.#live % NEAR === 0) moment.snapshot = this.dream.snapshot();
    this.#moments.push(moment);
    this.#at = this.#live;
    this.#forget();
  }

  async #advance(action, sampling) {
    const { dream } = this;
    [dream.temperature, dream.minP] = [sampling.temperature, sampling.min_p];
    const began = performance.now();
    const frame = await dream.step(action);
    this.#live += 1;
    const over = dream.outcome.terminated;
    return { ...this.#seen(frame), action, sampling, over, stepMs: performance.now() - began };
  }

  #rewind(frame) {
    const newest = this.#oldest + this.#moments.length - 1;
    if (!(frame >= this.#oldest && frame <= newest)) {
      throw new Error(`frame ${frame} is not remembered; frames ${this.#oldest} to ${newest} are`);
    }
    this.#at = frame;
  }

  /** Bring the dream to the frame that is shown: back to a snapshot, and from there as it went before. */
  async #catchUp() {
    if (this.#live === this.#at) return;
    let from = this.#at - this.#oldest;
    while (!this.#moments[from].snapshot) from -= 1;
    this.dream.restore(this.#moments[from].snapshot);
    this.#live = this.#oldest + from;
    while (this.#live < this.#at) {
      const { action, sampling } = this.#moments[this.#live - this.#oldest + 1];
      await this.#advance(action, sampling);
    }
  }

  /** Keep few snapshots, and drop the oldest frames up to one that has one. */
  #forget() {
    const distant = this.#at - RECENT;
    if (distant > this.#oldest && distant % FAR) this.#moments[distant - this.#oldest].snapshot = null;
    let spare = this.#moments.length - KEPT;
    while (spare > 0 && !this.#moments[spare].snapshot) spare -= 1;
    if (spare > 0) {
      this.#moments.splice(0, spare);
      this.#oldest += spare;
    }
  }

  #setSampling({ temperature, min_p }) {
    if (temperature >= 0) this.sampling.temperature = temperature;
    if (min_p >= 0 && min_p <= 1) this.sampling.min_p = min_p;
    return this.sampling;
  }

  #seen(frame) {
    const { width, height, depth } = this.dream.about;
    const pixels = width * height;
    return { rgb: pixelsOf(frame, pixels), depth: depth ? millimetres(frame.subarray(3 * pixels), depth) : null };
  }

  #picture(wants) {
    const { rgb, depth, stepMs, over } = this.#moments[this.#at - this.#oldest];
    const { width, height } = this.dream.about;
    const shown = { rgb: rgb.slice(), depth: wants.depth && depth ? depth.slice() : null, side: null, thoughts: null };
    return { frame: this.#at, width, height, stepMs, difference: NaN, over, ...shown };
  }
}

/** Depth in [-1, 1] -> whole millimetres, as oneiros/data/depth.py codes it. */
function millimetres(values, { min, max, shift, log }) {
  const [low, high] = log ? [Math.log(min + shift), Math.log(max + shift)] : [min, max];
  return Uint16Array.from(values, (value) => {
    const code = Math.min(4095, Math.max(0, Math.round((value + 1) * 2047.5)));
    const scaled = low + (code * (high - low)) / 4095;
    const metres = Math.min(max, Math.max(min, log ? Math.exp(scaled) - shift : scaled));
    return Math.min(NO_DEPTH - 1, Math.round(1000 * metres));
  });
}
