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
      const digits = this.#digits(ofFrame);
      const action = index === 0 ? this.#action(null, true) : this.#action(actions ? actions[index - 1] : null);
      this.#openFrame();
      for (let step = 0; step < this.about.steps; step += 1) await this.#run(step, this.#ofStep(digits, step), action);
      this.#keep(digits);
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
    const { levels, num_codes: count, tokens_per_step: m, steps, order } = this.about;
    const given = this.#action(action);
    const frame = Array.from({ length: levels }, () => new Int32Array(count));
    this.#openFrame();
    let digits = this.#ofStep(frame, 0);
    for (let step = 0; step < steps; step += 1) {
      const { logits, outputs } = await this.#run(step, digits, given);
      if (step + 1 === steps) break;
      digits = await this.#draw(logits, outputs);
      digits.forEach((drawn, level) => drawn.forEach((digit, i) => (frame[level][order[step * m + i]] = digit)));
    }
    this.#keep(frame);
    return frame;
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

  /** The next frame takes the slot of the oldest, which has just left the window. */
  #openFrame() {
    const { memory, about } = this;
    memory.time += 1;
    const slot = (memory.time % about.window) * about.elements;
    memory.mask.fill(-Infinity, slot, slot + about.elements);
  }

  /** Logits of the next step's codes, and the outputs that finer levels read; the ring remembers the step. */
  async #run(step, digits, action) {
    const { memory, about } = this;
    const { Tensor } = this.ort;
    const { layers, heads, head_dim: d, tokens_per_step: m, levels } = about;
    const ring = about.window * about.elements;
    const angles = about.time_frequencies.map((frequency) => memory.time * frequency);
    const inTime = Float32Array.from([...angles.map(Math.cos), ...angles.map(Math.sin)]);
    const feeds = {
      digits: this.#whole(digits, [levels, m]),
      action: new Tensor("float32", action, [action.length]),
      step: this.#whole([[step]], [1]),
      in_time: new Tensor("float32", inTime, [2, angles.length]),
      mask: new Tensor("float32", memory.mask, [ring]),
    };
    for (let layer = 0; layer < layers; layer += 1) {
      feeds[`keys_${layer}`] = new Tensor("float32", memory.keys[layer], [heads, d, ring]);
      feeds[`values_${layer}`] = new Tensor("float32", memory.values[layer], [heads, ring, d]);
    }
    const { logits, outputs, keys: newKeys, values: newValues } = await this.graphs.step.run(feeds);
    const [keys, values] = [newKeys.data, newValues.data];
    const first = (memory.time % about.window) * about.elements + step * m;
    for (let layer = 0, from = 0; layer < layers; layer += 1) {
      const ringKeys = memory.keys[layer];
      for (let row = 0; row < heads * d; row += 1) {
        for (let place = row * ring + first; place < row * ring + first + m; place += 1) ringKeys[place] = keys[from++];
      }
      for (let head = 0; head < heads; head += 1) {
        const start = (layer * heads + head) * m * d;
        memory.values[layer].set(values.subarray(start, start + m * d), (head * ring + first) * d);
      }
    }
    memory.mask.fill(0, first, first + m);
    return { logits: logits.data, outputs };
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
      const last = first + entries;
      let likeliest = first;
      for (let i = first + 1; i < last; i += 1) if (logits[i] > logits[likeliest]) likeliest = i;
      chosen[row] = likeliest - first;
      if (temperature === 0) continue;
      const least = Math.fround(logits[likeliest] + margin);
      let best = -Infinity;
      for (let i = first; i < last; i += 1) {
        if (logits[i] < least) continue;
        const uniform = Math.min(Math.max((bits[i] & 0xffffff) * 2 ** -24, 1e-20), MOST);
        const score = logits[i] / temperature - Math.log(-Math.log(uniform));
        if (score > best) [best, chosen[row]] = [score, i - first];
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

  /** Of a frame's digits those that a step holds, K in step 0, which holds none. */
  #ofStep(digits, step) {
    const { tokens_per_step: m, entries, order } = this.about;
    const places = order.slice((step - 1) * m, step * m);
    return digits.map((ofLevel) => (step === 0 ? new Int32Array(m).fill(entries) : Int32Array.from(places, (place) => ofLevel[place])));
  }

  #keep(digits) {
    this.memory.digits = [...this.memory.digits.slice(1), digits];
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
      mask: new Float32Array(window * elements).fill(-Infinity),
      time: -1,
      digits: new Array(lookback + 1).fill(none),
      random: new Twister(seed >>> 0),
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
  const { keys, values, mask, random } = memory;
  return { ...memory, keys: each(keys), values: each(values), mask: mask.slice(), random: random.copy() };
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
