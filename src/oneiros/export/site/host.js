// Where the page's dreams come from: a worker of the page itself, with the world that lies beside it.

import { FAILED } from "./protocol.js";

const ROOT = new URL("../", import.meta.url);
const MOST_THREADS = 4;
const WEBGPU = false; // filled in by `oneiros export`
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

/** A worker that has loaded the world with an engine, and the milliseconds that a step takes it. timed: whether to
 *  measure that. Rejects with what kept it from loading. */
function loaded(engine, timed) {
  const worker = new Worker(new URL(`worker.js?${new URLSearchParams({ engine, timed })}`, import.meta.url), { type: "module" });
  return new Promise((resolve, reject) => {
    const fail = (reason) => {
      worker.terminate();
      reject(new Error(reason));
    };
    worker.onmessage = ({ data }) => (data.failed ? fail(data.failed) : resolve({ engine, worker, milliseconds: data.milliseconds }));
    worker.onerror = ({ message }) => fail(message || "The dream's program could not be loaded.");
  });
}

/** What can compute dreams here: one thread of WebAssembly, several, the GPU if the page was made for it. */
async function engines() {
  const most = crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MOST_THREADS) : 1;
  const adapter = WEBGPU ? await navigator.gpu?.requestAdapter().catch(() => null) : null;
  return ["1", ...(most > 1 ? [String(most)] : []), ...(adapter ? ["webgpu"] : [])];
}

/** A worker with one thread, or with what was measured a quarter faster on the first visit: on a machine with other things
 *  to do, threads that wait for one another are much slower than one. */
async function quickest() {
  const here = await engines();
  const asked = new URLSearchParams(location.search).get("engine");
  const known = localStorage.getItem("engine");
  const chosen = asked ?? (here.includes(known) ? known : here.length === 1 ? "1" : null);
  if (chosen) return (await loaded(chosen, false).catch(() => loaded("1", false))).worker;
  let best = await loaded("1", true);
  for (const engine of here.slice(1)) {
    const other = await loaded(engine, true).catch(() => null); // a GPU may lack what the graphs need
    const better = other && other.milliseconds < 0.75 * best.milliseconds;
    (better ? best : other)?.worker.terminate();
    if (better) best = other;
  }
  localStorage.setItem("engine", best.engine);
  return best.worker;
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
