// The dream in a thread of its own: loads ONNX Runtime and the world, then answers requests one at a time.

import { OnnxDream } from "../world/dream.mjs";
import { Session } from "./session.js";

const asked = new URLSearchParams(location.search);
const engine = asked.get("engine"); // how many threads of WebAssembly, or "webgpu"

async function read(name) {
  const answer = await fetch(new URL(`../world/${name}`, import.meta.url));
  if (!answer.ok) throw new Error(`world/${name} could not be fetched (${answer.status})`);
  return new Uint8Array(await answer.arrayBuffer());
}

/** How long a beginning takes, which is steps alone; the first is slower. */
async function timed(dream) {
  await dream.begin();
  const began = performance.now();
  await dream.begin();
  return performance.now() - began;
}

/** ONNX Runtime, and the dream that it computes. */
async function load() {
  const onGpu = engine === "webgpu";
  const ort = await import(`../ort/ort.${onGpu ? "webgpu" : "wasm"}.min.mjs`);
  ort.env.wasm.wasmPaths = new URL("../ort/", import.meta.url).href;
  ort.env.wasm.numThreads = onGpu ? 1 : Number(engine);
  return OnnxDream.load(ort, read, onGpu ? ["webgpu", "wasm"] : ["wasm"]);
}

try {
  const dream = await load();
  const milliseconds = asked.get("timed") === "true" ? await timed(dream) : null;
  const session = new Session(dream);
  onmessage = async ({ data }) => {
    try {
      const answer = await session.answer(data);
      postMessage(answer, [answer.rgb, answer.depth].filter(Boolean).map((array) => array.buffer));
    } catch (error) {
      postMessage({ error: error.message });
    }
  };
  postMessage({ milliseconds });
} catch (error) {
  postMessage({ failed: `The world could not be loaded: ${error.message}` });
}
