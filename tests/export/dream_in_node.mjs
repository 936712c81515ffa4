// node dream_in_node.mjs FOLDER RUNTIME PLAN: dreams as the plan says and prints the codes and the outcome of each frame.
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [folder, runtime, plan] = process.argv.slice(2);
const ort = await import(pathToFileURL(`${runtime}/dist/ort.wasm.bundle.min.mjs`));
const { OnnxDream } = await import(pathToFileURL(`${folder}/dream.mjs`));
const { seed, temperature, actions } = JSON.parse(await readFile(plan));
ort.env.wasm.numThreads = 1;
const dream = await OnnxDream.load(ort, async (name) => new Uint8Array(await readFile(`${folder}/${name}`)));
dream.temperature = temperature;
await dream.begin(1, seed);
const frames = [];
for (const action of actions) {
  const digits = await dream.stepCodes(action);
  const codes = Array.from(digits[0], (_, i) => digits.reduce((code, level) => code * dream.about.entries + level[i], 0));
  frames.push([codes, dream.outcome]);
}
console.log(JSON.stringify(frames));
