// Where the page's dreams come from: a worker of the page itself, with the world that lies beside it.

import { FAILED } from "./protocol.js";

const ROOT = new URL("../", import.meta.url);
const MOST_THREADS = 4;
// A module with one instruction of SIMD: (func (v128.const 0) drop).
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 23, 1, 21, 0, 253, 12, ...new Array(16).fill(0), 26, 11];

export const pictureOfStart = (index) => new URL(`world/starts/${index}.png`, ROOT).href;

/** What is played, as the player's server would describe it. */
export async function describe() {
  document.head.append(Object.assign(document.createElement("link"), { rel: "manifest", href: new URL("manifest.webmanifest", ROOT).href }));
  if (!WebAssembly.validate(Uint8Array.from(SIMD))) {
    throw Object.assign(new Error("This browser lacks WebAssembly SIMD, which dreams need; any of the last few years has it."), { final: true });
  }
  await kept();
  const answer = await fetch(new URL("world/world.json", ROOT));
  if (!answer.ok) throw Object.assign(new Error("The world's files are not beside this page (world/world.json)."), { final: true });
  const about = await answer.json();
  const { title, width, height, channels, fps, action_spec, num_starts, depth, temperature, min_p } = about;
  return {
    ready: true,
    served: false,
    kind: "dream",
    beside: false,
    thoughts: false,
    max_rewind: 600,
    sampling: { temperature, min_p, guidance_scale: 1 },
    ...{ title, width, height, channels, fps, action_spec, num_starts, depth },
  };
}

/** Let the service worker keep the page and the world for good; with it, the page may use several threads. Where there
 *  is none, as on plain http from elsewhere, the page works all the same, with one thread and from the network. */
async function kept() {
  if (!navigator.serviceWorker || !isSecureContext) return;
  try {
    await navigator.serviceWorker.register(new URL("sw.js", ROOT));
    await navigator.serviceWorker.ready;
  } catch {
    return;
  }
  const again = "reloaded for threads";
  if (crossOriginIsolated || sessionStorage.getItem(again)) return;
  sessionStorage.setItem(again, "yes");
  location.reload();
  await new Promise(() => {}); // until it does
}

/** A worker that has loaded the world with so many threads of ONNX Runtime, and the milliseconds that a step takes it.
 *  timed: whether to measure that. Rejects with what kept it from loading. */
function loaded(threads, timed) {
  const query = new URLSearchParams({ threads, timed });
  const worker = new Worker(new URL(`worker.js?${query}`, import.meta.url), { type: "module" });
  return new Promise((resolve, reject) => {
    const fail = (reason) => {
      worker.terminate();
      reject(new Error(reason));
    };
    worker.onmessage = ({ data }) => (data.failed ? fail(data.failed) : resolve({ worker, milliseconds: data.milliseconds }));
    worker.onerror = ({ message }) => fail(message || "The dream's program could not be loaded.");
  });
}

/** A worker with one thread, or with more where they were measured a quarter faster on the first visit: on a machine with
 *  other things to do, threads that wait for one another are much slower than one. */
async function quickest() {
  const asked = Number(new URLSearchParams(location.search).get("threads"));
  const most = crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MOST_THREADS) : 1;
  const known = Number(asked || localStorage.getItem("threads"));
  if (most === 1 || known) return (await loaded(Math.min(known || 1, asked || most), false)).worker;
  const [one, several] = [await loaded(1, true), await loaded(most, true)];
  const better = several.milliseconds < 0.75 * one.milliseconds;
  localStorage.setItem("threads", better ? most : 1);
  (better ? one : several).worker.terminate();
  return (better ? several : one).worker;
}

/** As the socket's: `ask` may be called again once its promise is settled. */
export class Channel {
  open = false;
  #worker = null;
  #settle = null;

  constructor({ hello, closed }) {
    Object.assign(this, { hello, closed });
  }

  async connect() {
    try {
      this.#worker = await quickest();
    } catch (error) {
      return this.closed(FAILED, error.message);
    }
    this.#worker.onmessage = ({ data }) => {
      const settle = this.#settle;
      this.#settle = null;
      if (data.error) settle.reject(new Error(data.error));
      else settle.resolve(data);
    };
    this.#worker.onerror = ({ message }) => {
      this.open = false;
      this.#settle?.reject(new Error(message));
      this.closed(FAILED, message);
    };
    this.open = true;
    this.hello({ session: null });
  }

  ask(message) {
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#worker.postMessage(message);
    });
  }
}
