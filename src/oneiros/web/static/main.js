// The page put together: loads the world's description, wires the controls and keeps the connection.

import { makeActions } from "./actions.js";
import { Curve } from "./figures.js";
import { label } from "./bindings.js";
import { GONE, OVER, PAUSED, PLAYING, Player, WAITING } from "./player.js";
import { Channel, describe, pictureOfStart } from "./host.js";
import { FULL, IDLE, STOPPED } from "./protocol.js";
import { Stage } from "./stage.js";

const ALONE_AFTER = 120_000; // milliseconds without any input after which the dream waits
const SAMPLING = ["temperature", "min_p", "guidance_scale"];

const find = (id) => document.getElementById(id);
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const touching = matchMedia("(pointer: coarse)").matches;

// Of several worlds, the one that the page's address names.
const world = new URLSearchParams(location.search).get("world");
const asked = world === null ? "" : `?${new URLSearchParams({ world })}`;

let info, player, stage, actions, channel;
let session = null;
let recording = false;
let start = null; // the start that was chosen last, null = any
let lastInput = performance.now();
const curve = new Curve(find("difference"));

/** A sentence over the picture; with a button where there is something to do about it. */
function say(sentence, button = null, act = null) {
  find("say").textContent = sentence;
  find("veil").hidden = !sentence;
  find("answer").hidden = !button;
  find("answer").textContent = button ?? "";
  find("answer").onclick = act;
}

// -- beginning -----------------------------------------------------------------------------------------------------

async function described() {
  for (let tries = 0; ; tries += 1) {
    try {
      const info = await describe(asked);
      find("title").textContent = (info.title ?? "").split("/").slice(-2).join("/"); // of a path, what tells runs apart
      find("title").title = info.title ?? "";
      if (info.error) throw Object.assign(new Error(info.error), { final: true });
      if (info.worlds) find("brand").href = "/";
      if (info.ready || (info.worlds && world === null)) return info;
      say("Waking the world");
    } catch (error) {
      if (error.final) throw error;
      say("Waiting for the player to come back");
    }
    await sleep(tries < 20 ? 150 : 600);
  }
}

async function main() {
  wireTheme();
  openDetails();
  try {
    info = await described();
  } catch (error) {
    document.body.dataset.state = "failed";
    find("status").textContent = "failed";
    return say(error.message, "Try again", () => location.reload());
  }
  if (!info.ready) return showWorlds(info.worlds);
  document.title = `${find("title").textContent} · Oneiros`;
  document.body.dataset.kind = info.kind;
  document.body.dataset.served = info.served ?? true; // what needs a server is hidden without one
  actions = makeActions(info.action_spec, (time, pressed) => player.touch(time, pressed));
  find("actions").append(actions.element);
  stage = new Stage(find("stage"), info);
  channel = new Channel({ query: asked, hello: greeted, closed });
  player = new Player({ channel, actions, fps: info.fps, drawn, changed, trouble });
  find("dream-caption").textContent = info.kind === "dream" ? "dream" : "real";
  wireTransport();
  wireKeyboard();
  wireGamepad();
  wireStarts();
  wireLooks();
  wireChance();
  wireKeeping();
  setInterval(tick, 250);
  channel.connect();
}

/** A tile for each world; choosing one opens the page anew with its name in the address. */
function showWorlds(worlds) {
  document.body.dataset.state = "choosing";
  find("status").textContent = "";
  say("");
  const tiles = worlds.map(({ name, title }) => {
    const tile = Object.assign(document.createElement("a"), { href: `?${new URLSearchParams({ world: name })}` });
    const picture = Object.assign(document.createElement("img"), { src: `/api/worlds/${encodeURIComponent(name)}.png`, alt: "" });
    tile.append(picture, Object.assign(document.createElement("span"), { textContent: title }));
    return tile;
  });
  find("title").textContent = "Where to?";
  find("worlds").replaceChildren(...tiles);
  find("worlds").hidden = false;
}

async function greeted(greeting) {
  session = greeting.session;
  player.begin();
  // A new session of the server knows nothing of what was chosen here before.
  if (info.sampling) player.command("sampling", samplingNow());
  if (player.wants.side) await player.command("side", { on: true });
  await player.reset(start);
}

async function closed(code, reason) {
  player.lose();
  setRecording(false);
  const again = async () => {
    say("Waiting for the player to come back");
    await described();
    channel.connect();
  };
  if (code === FULL) say(reason || "All places are taken.", "Try again", again);
  else if (code === IDLE) say("You were away, so the dream was let go.", "Step back in", again);
  else if (code === STOPPED || code === 1006 || code === 1001) await again();
  else say(reason || "The connection is gone.", "Connect again", again);
}

// -- showing -------------------------------------------------------------------------------------------------------

function drawn(frame) {
  stage.show(frame);
  if (frame.side) showDifference(frame);
  if (frame.thoughts) showGuess(frame.thoughts.guess);
  const scrub = find("scrub");
  scrub.min = Math.max(0, player.newest - info.max_rewind + 65); // the server forgets up to 64 frames at a time
  scrub.max = Math.max(1, player.newest);
  if (!scrub.matches(":active")) scrub.value = frame.frame;
  scrub.disabled = player.newest === 0;
  scrub.style.setProperty("--played", `${(100 * (frame.frame - scrub.min)) / (scrub.max - scrub.min)}%`);
  find("frame").textContent = frame.frame;
  if (player.state === WAITING) invite();
}

function showDifference({ frame, difference }) {
  const ended = Number.isNaN(difference); // the real episode is over, its last picture stays
  if (!ended) curve.set(frame, difference);
  find("apart").textContent = ended ? "the real episode is over" : `apart by ${difference.toFixed(1)} of 255, on average per pixel`;
  find("real-caption").textContent = ended ? "real, over" : "real";
}

const STATES = {
  [WAITING]: "ready",
  [PLAYING]: "dreaming",
  [PAUSED]: "paused",
  [OVER]: "over",
  [GONE]: "not connected",
};

function changed() {
  const { state } = player;
  document.body.dataset.state = state;
  find("status").textContent = state === PLAYING && info.kind === "env" ? "playing" : STATES[state];
  const playing = state === PLAYING;
  find("pause").querySelector("use").setAttribute("href", playing ? "#i-pause" : "#i-play");
  find("pause").querySelector("span").textContent = playing ? "Pause" : "Play";
  for (const id of ["again", "back", "pause", "on", "record"]) find(id).disabled = state === GONE;
  if (state === WAITING) invite();
  else if (state === OVER) say("The episode is over.", "Once more", () => player.reset(start));
  else if (state !== GONE) say("");
}

function invite() {
  const how = actions.keyed ? (touching ? "Touch a key" : "Hold a key") : info.action_spec ? "Move a slider" : "Press play";
  if (player.newest === 0) say(`${how} to step in`);
  else say(player.frame < player.newest ? `${how} to go on differently from here` : `${how} to go on`);
}

let hush = 0;
function trouble(sentence) {
  if (player.state === GONE) return;
  say(sentence);
  clearTimeout(hush);
  hush = setTimeout(() => player.state !== OVER && player.state !== GONE && changed(), 4000);
}

function tick() {
  const { figures } = player;
  const written = (value, digits) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
  find("fps").textContent = player.state === PLAYING ? written(figures.fps, 1) : "–";
  find("p50").textContent = written(figures.quantile(0.5), 0);
  find("p95").textContent = written(figures.quantile(0.95), 0);
  if (performance.now() - lastInput > ALONE_AFTER && info.action_spec && !recording) player.wait();
}

function showGuess(guess) {
  const rows = Object.entries(guess ?? {}).map(([name, value]) => {
    const row = document.createElement("p");
    const share = info.action_spec.kind === "continuous" ? null : Math.round(100 * value);
    row.append(label(name), Object.assign(document.createElement("b"), { textContent: share === null ? value.toFixed(2) : `${share} %` }));
    row.style.setProperty("--share", `${share ?? 0}%`);
    return row;
  });
  find("guess").replaceChildren(...rows);
}

// -- controls ------------------------------------------------------------------------------------------------------

function wireTheme() {
  const show = (theme) => (document.documentElement.style.colorScheme = theme ?? "light dark");
  const stored = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage may be forbidden
    }
  };
  show(stored());
  find("theme").onclick = () => {
    const dark = (stored() ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    try {
      localStorage.setItem("theme", dark ? "light" : "dark");
    } catch {
      // then it lasts as long as the page
    }
    show(dark ? "light" : "dark");
  };
}

function openDetails() {
  const wide = matchMedia("(min-width: 60rem)").matches;
  for (const id of ["starts-box", "look-box", "chance-box", "keep-box"]) find(id).open = wide;
}

function toggle() {
  if (player.state === PLAYING) player.pause();
  else player.play();
}

function begin(index) {
  start = index;
  curve.clear();
  for (const button of find("starts").children) button.setAttribute("aria-pressed", button.value === String(index));
  return player.reset(index);
}

function wireTransport() {
  find("pause").onclick = toggle;
  find("on").onclick = () => player.step();
  find("back").onclick = () => player.rewind(player.frame - 1);
  find("again").onclick = () => begin(start);
  find("record").onclick = record;
  find("scrub").oninput = ({ target }) => player.rewind(target.valueAsNumber);
  find("dream").onclick = () => player.state === WAITING && player.play();
  // A control that was clicked gives the keyboard back to the game; reached with Tab it keeps it.
  addEventListener("pointerup", () => setTimeout(() => document.activeElement?.matches("input[type=number]") || document.activeElement?.blur()));
}

function wireKeyboard() {
  const shortcuts = {
    KeyP: toggle,
    Period: () => player.step(),
    Comma: () => player.rewind(player.frame - 1),
    Backspace: () => player.rewind(player.frame - 1),
    KeyR: () => begin(start),
    KeyN: () => begin(info.num_starts ? Math.floor(Math.random() * info.num_starts) : null),
    KeyO: () => record(),
  };
  const mine = ({ target, code }) =>
    !target.matches("input, select, textarea") && !(target.matches("button, summary") && ["Space", "Enter"].includes(code));
  addEventListener("keydown", (event) => {
    lastInput = performance.now();
    if (event.ctrlKey || event.metaKey || event.altKey || !mine(event)) return;
    if (actions.key(event)) event.preventDefault();
    else if (shortcuts[event.code] && (!event.repeat || ["Comma", "Period", "Backspace"].includes(event.code))) {
      event.preventDefault();
      shortcuts[event.code]();
    }
  });
  addEventListener("keyup", (event) => actions.key(event));
  addEventListener("blur", () => actions.release());
  addEventListener("pointerdown", () => (lastInput = performance.now()));
  document.addEventListener("visibilitychange", () => {
    actions.release();
    if (document.hidden) player.wait();
  });
}

/** Polled once a repaint, and only while there is one. */
function wireGamepad() {
  const before = new Set();
  const fresh = (pad, button) => {
    const down = Boolean(pad.buttons[button]?.pressed);
    const pressed = down && !before.has(button);
    before[down ? "add" : "delete"](button);
    return pressed;
  };
  const poll = (time) => {
    const pad = navigator.getGamepads().find((one) => one?.connected);
    if (!pad) return;
    if (fresh(pad, 9)) toggle();
    if (pad.buttons[4]?.pressed) player.rewind(player.frame - 1);
    else actions.gamepad(pad, time);
    if (pad.buttons.some(({ pressed }) => pressed)) lastInput = performance.now();
    requestAnimationFrame(poll);
  };
  addEventListener("gamepadconnected", () => requestAnimationFrame(poll));
}

function wireStarts() {
  find("starts-box").hidden = info.num_starts === 0 && info.kind === "dream";
  const thumbnails = Array.from({ length: info.num_starts }, (_, index) => {
    const button = Object.assign(document.createElement("button"), { type: "button", value: index });
    button.setAttribute("aria-label", `Begin at start ${index + 1}`);
    button.setAttribute("aria-pressed", false);
    button.append(Object.assign(document.createElement("img"), { src: pictureOfStart(index, asked), alt: "", loading: "lazy" }));
    button.onclick = () => begin(index);
    return button;
  });
  if (!thumbnails.length) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "A new episode" });
    button.onclick = () => begin(null);
    thumbnails.push(button);
  }
  find("starts").append(...thumbnails);
}

function wireLooks() {
  find("look-box").hidden = !(info.beside || info.depth || info.thoughts);
  find("side-row").hidden = !info.beside;
  find("space-row").hidden = !info.depth;
  find("think-row").hidden = !info.thoughts;
  find("side").onchange = async ({ target }) => {
    const answer = await player.command("side", { on: target.checked });
    if (!answer?.ok) target.checked = player.wants.side;
    const on = (player.wants.side = target.checked);
    stage.toggle("real", on);
    find("difference-box").hidden = find("starts-note").hidden = !on;
    find("starts").toggleAttribute("inert", on);
    if (answer?.ok) begin(on ? null : start);
  };
  find("space-on").onchange = ({ target }) => {
    try {
      stage.toggle("space", target.checked);
    } catch (error) {
      target.checked = false;
      return trouble(error.message);
    }
    player.wants.depth = target.checked;
    player.refresh();
  };
  find("think").onchange = ({ target }) => {
    player.wants.think = target.checked;
    stage.toggle("heat", target.checked);
    find("thoughts").hidden = !target.checked;
    player.refresh();
  };
}

const samplingNow = () => Object.fromEntries(SAMPLING.map((name) => [name, find(name).valueAsNumber]));

function wireChance() {
  find("chance-box").hidden = !info.sampling;
  if (!info.sampling) return;
  const show = () => {
    for (const name of SAMPLING) find(`${name}-out`).textContent = find(name).valueAsNumber.toFixed(name === "guidance_scale" ? 1 : 2);
  };
  const reset = () => {
    for (const name of SAMPLING) {
      const knob = find(name);
      knob.max = Math.max(Number(knob.max), info.sampling[name]);
      knob.value = info.sampling[name];
    }
    show();
  };
  const send = () => player.command("sampling", samplingNow());
  for (const name of SAMPLING) {
    find(name).oninput = () => {
      show();
      send();
    };
  }
  find("defaults").onclick = () => {
    reset();
    send();
  };
  reset();
}

// -- keeping -------------------------------------------------------------------------------------------------------

function setRecording(on) {
  recording = on;
  find("record").setAttribute("aria-pressed", on);
  find("record").querySelector("span").textContent = on ? "Stop" : "Record";
  document.body.classList.toggle("recording", on);
}

async function record() {
  const answer = await player.command("record", { on: !recording });
  if (!answer) return;
  setRecording(answer.recording);
  find("recorded").textContent = recording
    ? `Recording episode ${answer.episode} into ${answer.path}`
    : `${answer.path} now holds ${answer.episode} ${answer.episode === 1 ? "episode" : "episodes"}.`;
}

function wireKeeping() {
  for (const kind of ["mp4", "gif"]) find(kind).onclick = ({ currentTarget }) => save(kind, currentTarget);
}

async function save(kind, button) {
  const name = button.textContent;
  button.disabled = true;
  button.textContent = "Making it";
  try {
    const response = await fetch(`/api/clip/${session}.${kind}`);
    if (!response.ok) throw new Error((await response.text()) || "The clip could not be made.");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = `dream.${kind}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (error) {
    trouble(error.message);
  }
  button.disabled = false;
  button.textContent = name;
}

main();
