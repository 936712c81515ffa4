// Dreams with the files of this folder. Needs onnxruntime-web (or onnxruntime-node), and nothing of Oneiros.
//
//     node dream.mjs                     64 frames of the first start, as frames.rgb
//     node dream.mjs 3 7 200 0.7        start, seed, frames, temperature
//
// As a module, in a page or in Node:
//
//     import * as ort from "onnxruntime-web/wasm";
//     import { OnnxDream } from "./dream.mjs";
//     const dream = await OnnxDream.load(ort, read);   // read(name) -> Uint8Array of a file of this folder
//     let frame = await dream.begin(0, 7);           // start, seed -> Float32Array (channels, height, width) in [-1, 1]
//     frame = await dream.step([1, 0, 0]);           // keys held; a choice's index; numbers in the env's units; null
//     dream.outcome;                                 // of a world that pays or ends: {reward, terminated, endProbability}
//
// dream.py is the same program in Python: both draw the same codes from the same seed, as does Oneiros itself.

const MOST = Math.fround(1 - 1e-7); // uniform numbers above it would make infinite noise

/** MT19937 (Matsumoto and Nishimura, 1998), seeded by one number of 32 bits, as in torch and numpy. */
export class Twister {
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i += 1) {
      const last = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(last, 1812433253) + i;
    }
    this.at = 624;
  }

  /** `count` numbers of 32 bits, the next ones. */
  take(count) {
    const taken = new Uint32Array(count);
    for (let filled = 0; filled < count; ) {
      if (this.at === 624) this.#turn();
      const { state } = this;
      const end = Math.min(624, this.at + count - filled);
      for (let at = this.at; at < end; at += 1, filled += 1) {
        let y = state[at];
        y ^= y >>> 11;
        y ^= (y << 7) & 0x9d2c5680;
        y ^= (y << 15) & 0xefc60000;
        taken[filled] = y ^ (y >>> 18);
      }
      this.at = end;
    }
    return taken;
  }

  copy() {
    return Object.assign(new Twister(0), { state: this.state.slice(), at: this.at });
  }

  #turn() {
    const { state } = this;
    for (let i = 0; i < 624; i += 1) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
      state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.at = 0;
  }
}

/** A world that dreams frame by frame. `temperature` and `minP` may be changed at any time. */
export class OnnxDream {
  memory = null; // all that `step` changes

  /** ort: ONNX Runtime's module. read(name): a promise of a file of the folder, as Uint8Array. */
  static async load(ort, read) {
    const parsed = async (name) => JSON.parse(new TextDecoder().decode(await read(name)));
    const session = async (name) => ort.InferenceSession.create(await read(`${name}.onnx`), { executionProviders: ["wasm"] });
    const about = await parsed("world.json");
    const dream = new OnnxDream(ort, about, await parsed("starts.json"), await read("starts.bin"));
    dream.graphs = { step: await session("step"), decode: await session("decode"), levels: [] };
    for (let level = 1; level < about.levels; level += 1) dream.graphs.levels.push(await session(`level_${level}`));
    if (about.pays || about.ends) dream.graphs.outcome = await session("outcome");
    return dream;
  }

  constructor(ort, about, starts, frames) {
    Object.assign(this, { ort, about, starts, frames, temperature: about.temperature, minP: about.min_p });
  }

  /** Begin at one of the starts that came with the world; resolves to its newest frame. */
  async begin(start = 0, seed = 0) {
    const { codes, actions } = this.starts[start];
    return this.beginFrom(codes, actions, this.#firstFrame(start), seed);
  }

  /** Begin after frames of these codes, with the actions between them (null = unknown). frame: the newest of them. */
  async beginFrom(codes, actions, frame, seed = 0) {
    const memory = (this.memory = this.#blank(seed));
    for (const [index, ofFrame] of codes.entries()) {
      const action = index === 0 ? this.#action(null, true) : this.#action(actions ? actions[index - 1] : null);
      await this.#advance(action, this.#digits(ofFrame));
    }
    const { real } = memory;
    if (this.about.reference_frame) real.reference = frame;
    if (this.about.carry_detail) {
      real.decoded = real.missing = new Float32Array(frame.length);
      real.decoded = await this.decode();
      real.missing = frame.map((value, index) => value - real.decoded[index]);
    }
    return frame;
  }

  /** Dream the next frame. */
  async step(action) {
    await this.stepCodes(action);
    return this.decode();
  }

  /** `step` without decoding: the frame's digits, for each level an array of N, row by row. */
  async stepCodes(action) {
    return this.#advance(this.#action(action));
  }

  /** The newest frame. */
  async decode() {
    const { levels, lookback, num_codes: count, channels, height, width } = this.about;
    const { digits, real } = this.memory;
    const byLevel = Array.from({ length: levels }, (_, level) => digits.map((frame) => frame[level])).flat();
    const feeds = { digits: this.#whole(byLevel, [levels, lookback + 1, count]) };
    for (const [name, frame] of Object.entries(real)) feeds[name] = new this.ort.Tensor("float32", frame, [channels, height, width]);
    return (await this.graphs.decode.run(feeds)).frame.data;
  }

  /** What came of the newest step; of a world that neither pays nor ends, nothing ever does. */
  get outcome() {
    return this.memory.outcome;
  }

  /** The action of one who does nothing: no key, the first choice, or the mean. */
  rest() {
    const { action_spec: spec } = this.about;
    if (spec === null) return null;
    return spec.kind === "discrete" ? 0 : spec.names.map((_, index) => spec.mean[index] ?? 0);
  }

  /** What `restore` goes back to, any number of times. */
  snapshot() {
    return copied(this.memory);
  }

  restore(snapshot) {
    this.memory = copied(snapshot);
  }

  // -- one step ----------------------------------------------------------------------------------------------------

  /** The next frame's digits by level, those given or else drawn. Its last step predicts nothing, and waits to be run
   *  with the next frame's first. */
  async #advance(action, digits = null) {
    const { levels, num_codes: count, tokens_per_step: m, steps: many, order } = this.about;
    const { memory } = this;
    memory.time += 1;
    const frame = digits ?? Array.from({ length: levels }, () => new Int32Array(count));
    let steps = [...memory.waiting, this.#stepOf(frame, 0, action)];
    let ofAction = null;
    for (let number = 0; number + 1 < many; number += 1) {
      const { logits, outputs, features } = await this.#run(steps);
      ofAction ??= features;
      if (digits === null) {
        const drawn = await this.#draw(logits, outputs);
        drawn.forEach((ofLevel, level) => ofLevel.forEach((digit, i) => (frame[level][order[number * m + i]] = digit)));
      }
      steps = [this.#stepOf(frame, number + 1, action)];
    }
    memory.waiting = steps;
    if (digits === null && this.graphs.outcome) memory.outcome = this.#whatCame(await this.graphs.outcome.run({ features: ofAction }));
    memory.digits = [...memory.digits.slice(1), frame];
    return frame;
  }

  /** The outcome by the rewards of a step that goes on and of one that ends, and the log odds that it ends. */
  #whatCame({ rewards, end_logit: endLogit }) {
    const sigmoid = (logit) => 1 / (1 + Math.exp(-logit));
    const [logit] = endLogit.data;
    let terminated = logit > 0;
    if (this.about.ends && this.temperature > 0) {
      terminated = (this.memory.random.take(1)[0] & 0xffffff) * 2 ** -24 < sigmoid(logit / this.temperature);
    }
    return { reward: rewards.data[Number(terminated)], terminated, endProbability: sigmoid(logit) };
  }

  /** Logits of the codes after the last of these steps, the outputs that finer levels read, and the features that
   *  outcomes are read from; the ring remembers the steps. They see the ring's frames of their window, themselves and the steps before. */
  async #run(steps) {
    const { memory, about } = this;
    const { Tensor } = this.ort;
    const { layers, heads, head_dim: d, tokens_per_step: m, levels, window } = about;
    const [ring, rows, pairs] = [window * about.elements, steps.length * m, about.time_frequencies.length];
    const inTime = new Float32Array(2 * rows * pairs);
    const near = new Float32Array(rows * rows);
    const mask = new Float32Array(rows * ring);
    steps.forEach(({ time }, index) => {
      const angles = about.time_frequencies.map((frequency) => time * frequency);
      const [cosines, sines] = [angles.map(Math.cos), angles.map(Math.sin)];
      const unseen = steps.map((other, place) => place > index || other.time <= time - window);
      const hidden = new Float32Array(ring);
      for (let i = 0; i < ring; i += 1) if (memory.held[i] <= time - window) hidden[i] = -Infinity;
      for (let row = index * m; row < (index + 1) * m; row += 1) {
        inTime.set(cosines, row * pairs);
        inTime.set(sines, (rows + row) * pairs);
        unseen.forEach((yes, place) => yes && near.fill(-Infinity, row * rows + place * m, row * rows + (place + 1) * m));
        mask.set(hidden, row * ring);
      }
    });
    const elements = steps.flatMap(({ number }) => Array.from({ length: m }, (_, i) => number * m + i));
    const digits = Array.from({ length: levels }, (_, level) => steps.flatMap((step) => Array.from(step.digits[level])));
    const actions = steps.flatMap(({ action }) => Array.from({ length: m }, () => Array.from(action)).flat());
    const feeds = {
      digits: this.#whole(digits, [levels, rows]),
      elements: this.#whole([elements], [rows]),
      action: new Tensor("float32", Float32Array.from(actions), [rows, actions.length / rows]),
      in_time: new Tensor("float32", inTime, [2, rows, pairs]),
      near: new Tensor("float32", near, [rows, rows]),
      mask: new Tensor("float32", mask, [rows, ring]),
    };
    for (let layer = 0; layer < layers; layer += 1) {
      feeds[`keys_${layer}`] = new Tensor("float32", memory.keys[layer], [heads, d, ring]);
      feeds[`values_${layer}`] = new Tensor("float32", memory.values[layer], [heads, ring, d]);
    }
    const { logits, outputs, features, keys, values } = await this.graphs.step.run(feeds);
    steps.forEach(({ time, number }, index) => {
      const first = (time % window) * about.elements + number * m;
      for (let row = 0; row < layers * heads * d; row += 1) {
        const [from, to] = [row * rows + index * m, (row % (heads * d)) * ring + first];
        memory.keys[Math.floor(row / (heads * d))].set(keys.data.subarray(from, from + m), to);
      }
      for (let row = 0; row < layers * heads; row += 1) {
        const [from, to] = [(row * rows + index * m) * d, ((row % heads) * ring + first) * d];
        memory.values[Math.floor(row / heads)].set(values.data.subarray(from, from + m * d), to);
      }
      memory.held.fill(time, first, first + m);
    });
    return { logits: logits.data, outputs, features };
  }

  /** For each level the m digits drawn, each seeing those before it. */
  async #draw(logits, outputs) {
    const m = this.about.tokens_per_step;
    const drawn = [this.#choose(logits)];
    for (const graph of this.graphs.levels) {
      const finer = await graph.run({ outputs, digits: this.#whole(drawn, [drawn.length, m]) });
      drawn.push(this.#choose(finer.logits.data));
    }
    return drawn;
  }

  /** One entry a row of logits (m, K): those at least min-p as likely as the likeliest, by Gumbel-max.
   *  Random numbers are those of MT19937, of which 24 bits make a number in [0, 1), one for each logit in order. */
  #choose(logits) {
    const { entries, tokens_per_step: m } = this.about;
    const { temperature, minP } = this;
    const { random } = this.memory;
    const margin = Math.fround(Math.log(Math.max(minP, 1e-30)));
    const bits = temperature === 0 ? null : random.take(m * entries);
    const chosen = new Int32Array(m);
    for (let row = 0; row < m; row += 1) {
      const first = row * entries;
      const ofRow = logits.subarray(first, first + entries);
      let most = ofRow[0];
      for (let i = 1; i < entries; i += 1) {
        if (ofRow[i] > most) [most, chosen[row]] = [ofRow[i], i];
      }
      if (temperature === 0) continue;
      const least = Math.fround(most + margin);
      let best = -Infinity;
      for (let i = 0; i < entries; i += 1) {
        if (ofRow[i] < least) continue;
        const uniform = Math.min(Math.max((bits[first + i] & 0xffffff) * 2 ** -24, 1e-20), MOST);
        const score = ofRow[i] / temperature - Math.log(-Math.log(uniform));
        if (score > best) [best, chosen[row]] = [score, i];
      }
    }
    return chosen;
  }

  // -- codes and actions ---------------------------------------------------------------------------------------------

  /** Codes, numbers whose digits in base K name an entry of each level -> for each level N digits. */
  #digits(codes) {
    const { levels, entries } = this.about;
    const ofLevel = (level) => codes.map((code) => Math.floor(code / entries ** (levels - 1 - level)) % entries);
    return Array.from({ length: levels }, (_, level) => Int32Array.from(ofLevel(level)));
  }

  /** The m elements of a step of the newest frame, of which digits are known as far as it holds them: K in step 0. */
  #stepOf(frame, number, action) {
    const { tokens_per_step: m, entries, order } = this.about;
    const places = order.slice((number - 1) * m, number * m);
    const held = (ofLevel) => (number === 0 ? new Int32Array(m).fill(entries) : Int32Array.from(places, (place) => ofLevel[place]));
    return { time: this.memory.time, number, digits: frame.map(held), action };
  }

  /** The numbers that a step is given: the action's own, then whether an episode starts, then whether the action is
   *  unknown. */
  #action(action, start = false) {
    const { action_spec: spec, action_size: size } = this.about;
    const given = new Float32Array(size + 2);
    if (start || spec === null || action === null || action === undefined) given[start ? size : size + 1] = 1;
    else if (spec.kind === "discrete") given[Number(action)] = 1;
    else for (let i = 0; i < size; i += 1) given[i] = action[i % action.length];
    return given;
  }

  #whole(parts, shape) {
    return new this.ort.Tensor("int64", BigInt64Array.from(parts.flatMap((part) => Array.from(part, BigInt))), shape);
  }

  // -- beginnings ----------------------------------------------------------------------------------------------------

  #blank(seed) {
    const { layers, heads, head_dim: d, window, elements, levels, lookback, num_codes: count, entries } = this.about;
    const size = heads * d * window * elements;
    const none = Array.from({ length: levels }, () => new Int32Array(count).fill(entries));
    return {
      keys: Array.from({ length: layers }, () => new Float32Array(size)),
      values: Array.from({ length: layers }, () => new Float32Array(size)),
      held: new Int32Array(window * elements).fill(-window - 1), // of which frame an element of the ring is
      time: -1,
      waiting: [], // the newest frame's last step, which is not in the ring yet
      digits: new Array(lookback + 1).fill(none),
      random: new Twister(seed >>> 0),
      outcome: { reward: 0, terminated: false, endProbability: 0 },
      real: {}, // what the decoder is given beside digits of the last real frame
    };
  }

  /** A start's newest frame, from starts.bin: red, green, blue a pixel, then depth codes of 16 bits. */
  #firstFrame(start) {
    const { height, width, channels } = this.about;
    const pixels = height * width;
    const size = pixels * (channels === 4 ? 5 : 3);
    const content = this.frames.slice(start * size, (start + 1) * size);
    const frame = new Float32Array(channels * pixels);
    for (let i = 0; i < pixels * 3; i += 1) frame[(i % 3) * pixels + Math.floor(i / 3)] = content[i] / 127.5 - 1;
    if (channels === 4) {
      for (let i = 0; i < pixels; i += 1) {
        const code = content[pixels * 3 + 2 * i] + 256 * content[pixels * 3 + 2 * i + 1];
        frame[3 * pixels + i] = (code * 2) / 4095 - 1;
      }
    }
    return frame;
  }
}

function copied(memory) {
  const each = (arrays) => arrays.map((array) => array.slice());
  const { keys, values, held, random } = memory;
  return { ...memory, keys: each(keys), values: each(values), held: held.slice(), random: random.copy() };
}

/** uint8 red, green, blue of a frame (channels, height, width) in [-1, 1], pixel by pixel. */
export function pixelsOf(frame, pixels) {
  const rgb = new Uint8ClampedArray(pixels * 3); // rounds halves to even, as numpy and torch do
  for (let i = 0; i < pixels; i += 1) for (let c = 0; c < 3; c += 1) rgb[3 * i + c] = Math.fround(frame[c * pixels + i] + 1) * 127.5;
  return new Uint8Array(rgb.buffer);
}

async function main([start = 0, seed = 0, count = 64, temperature]) {
  const ort = await import("onnxruntime-web/wasm");
  ort.env.wasm.numThreads = 1;
  const { readFile, writeFile } = await import("node:fs/promises");
  const dream = await OnnxDream.load(ort, async (name) => new Uint8Array(await readFile(new URL(name, import.meta.url))));
  if (temperature !== undefined) dream.temperature = Number(temperature);
  const { height, width } = dream.about;
  const frames = [await dream.begin(Number(start), Number(seed))];
  for (let i = 0; i < count; i += 1) frames.push(await dream.step(dream.rest()));
  await writeFile("frames.rgb", Buffer.concat(frames.map((frame) => pixelsOf(frame, height * width))));
  console.log(`${frames.length} frames of ${width} x ${height} pixels, 3 bytes each -> frames.rgb`);
}

if (globalThis.process?.argv?.[1] && import.meta.url === new URL(`file://${process.argv[1]}`).href) await main(process.argv.slice(2));
