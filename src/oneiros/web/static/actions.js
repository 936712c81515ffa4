// What the player holds: keyboard, touch, gamepad and sliders -> the action that goes with the next request.

import { bind, label } from "./bindings.js";

const STICK = 0.5; // how far a stick is pushed before it counts as a key
const DPAD = { 12: "up", 13: "down", 14: "left", 15: "right" };
const FACE_BUTTONS = [0, 2, 3, 5, 7]; // of a standard gamepad: A, X, Y, right shoulder, right trigger

/** The input for an action spec: {element, held, key(event), take(), release(), gamepad(pad, time)}.
 *  changed(time, pressed) is called with the time of the event that did it. */
export function makeActions(spec, changed) {
  if (!spec) return new Nothing();
  if (spec.kind !== "continuous") return new Keys(spec, changed);
  const isKey = spec.names.map((_, index) => spec.low[index] === 0 && spec.high[index] === 1 && !!spec.whole?.[index]);
  return isKey.includes(true) ? new KeysAndSliders(spec, isKey, changed) : new Sliders(spec, changed);
}

/** For worlds trained without actions. */
class Nothing {
  held = false;
  keyed = false;

  constructor() {
    this.element = document.createElement("p");
    this.element.className = "quiet";
    this.element.textContent = "This world knows no actions. It dreams by itself.";
  }

  key() {
    return false;
  }

  take() {
    return null;
  }

  release() {}

  gamepad() {}
}

/** Keys and choices. A key counts while it is held, and at least once however short the tap was. */
export class Keys {
  keyed = true;
  #sources = new Map(); // what holds a key ("code KeyW", "pointer 3", "pad up") -> index of the action, oldest first
  #tapped = new Set(); // pressed since the last request

  constructor(spec, changed) {
    this.spec = spec;
    this.changed = changed;
    this.bindings = bind(spec.names);
    this.codes = new Map(this.bindings.flatMap(({ codes }, index) => codes.map((code) => [code, index])));
    this.element = document.createElement("div");
    this.element.className = "keys";
    this.caps = this.bindings.map((binding, index) => keycap(binding, index));
    const cross = document.createElement("div");
    cross.className = "cross";
    const rest = document.createElement("div");
    rest.className = "others";
    this.bindings.forEach(({ place }, index) => (place ? cross : rest).append(this.caps[index]));
    this.element.append(...[cross, rest].filter((group) => group.childElementCount));
    this.#listenToPointers();
  }

  get held() {
    return this.#sources.size > 0;
  }

  /** True when the key of this event belongs to an action. */
  key(event) {
    const index = this.codes.get(event.code);
    if (index === undefined) return false;
    if (event.type === "keyup") this.#let(`code ${event.code}`, event.timeStamp);
    else if (!event.repeat) this.#hold(`code ${event.code}`, index, event.timeStamp);
    return true;
  }

  /** The action to send now, as the protocol wants it. */
  take() {
    const held = new Set([...this.#sources.values(), ...this.#tapped]);
    this.#tapped.clear();
    if (this.spec.kind === "keys") return this.bindings.map((_, index) => (held.has(index) ? 1 : 0));
    return this.#chosen([...held]);
  }

  /** Lets go of everything, as when the window loses the keyboard. */
  release() {
    this.#sources.clear();
    this.#tapped.clear();
    this.#light();
  }

  gamepad(pad, time) {
    const pressed = new Set(Object.keys(DPAD).filter((button) => pad.buttons[button]?.pressed).map((b) => DPAD[b]));
    const [x = 0, y = 0] = pad.axes;
    if (x < -STICK) pressed.add("left");
    if (x > STICK) pressed.add("right");
    if (y < -STICK) pressed.add("up");
    if (y > STICK) pressed.add("down");
    let face = 0;
    this.bindings.forEach(({ place }, index) => {
      const down = place ? pressed.has(place) : Boolean(pad.buttons[FACE_BUTTONS[face++]]?.pressed);
      if (down) this.#hold(`pad ${index}`, index, time);
      else this.#let(`pad ${index}`, time);
    });
  }

  /** Of a discrete spec: the action made of all that is held, or else the last one pressed, or else resting. */
  #chosen(held) {
    const resting = this.bindings.findIndex(({ codes, parts }) => !codes.length && parts.length === 1);
    if (!held.length) return Math.max(0, resting);
    const parts = [...new Set(held.flatMap((index) => this.bindings[index].parts))].sort().join();
    const union = this.bindings.findIndex((binding) => [...new Set(binding.parts)].sort().join() === parts);
    return union >= 0 ? union : held.at(-1);
  }

  #hold(source, index, time) {
    if (this.#sources.get(source) === index) return;
    this.#sources.set(source, index);
    this.#tapped.add(index);
    this.#light();
    this.changed(time, true);
  }

  #let(source, time) {
    if (!this.#sources.delete(source)) return;
    this.#light();
    this.changed(time, false);
  }

  #light() {
    const held = new Set(this.#sources.values());
    this.caps.forEach((cap, index) => {
      cap.classList.toggle("held", held.has(index));
      cap.setAttribute("aria-pressed", held.has(index));
    });
  }

  /** A thumb may slide from key to key, so pointers are followed rather than captured. */
  #listenToPointers() {
    const under = (event) => {
      const cap = document.elementFromPoint(event.clientX, event.clientY)?.closest(".cap");
      return cap && this.element.contains(cap) ? Number(cap.dataset.index) : null;
    };
    this.element.addEventListener("pointerdown", (event) => {
      const index = under(event);
      if (index === null || event.button > 0) return;
      event.preventDefault();
      event.target.releasePointerCapture?.(event.pointerId);
      this.#hold(`pointer ${event.pointerId}`, index, event.timeStamp);
    });
    addEventListener("pointermove", (event) => {
      const source = `pointer ${event.pointerId}`;
      if (!this.#sources.has(source)) return;
      const index = under(event);
      if (index === null) this.#let(source, event.timeStamp);
      else this.#hold(source, index, event.timeStamp);
    });
    for (const type of ["pointerup", "pointercancel"]) {
      addEventListener(type, (event) => this.#let(`pointer ${event.pointerId}`, event.timeStamp));
    }
    this.element.addEventListener("contextmenu", (event) => event.preventDefault());
  }
}

function keycap({ name, cap, place }, index) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = `cap ${place ?? ""}`;
  button.dataset.index = index;
  button.tabIndex = -1; // the keyboard has the key itself
  button.setAttribute("aria-pressed", false);
  const key = document.createElement("kbd");
  key.textContent = cap;
  const what = document.createElement("span");
  what.textContent = label(name);
  button.append(...(cap ? [key, what] : [what]));
  return button;
}

/** Continuous actions: a slider and a field for each dimension. */
export class Sliders {
  keyed = false;
  held = false; // a slider stays where it is; that is no wish to go on

  /** springy: whether a slider goes back when it is let go, as long as nobody says otherwise. */
  constructor(spec, changed, springy = false) {
    this.changed = changed;
    this.whole = spec.names.map((_, index) => Boolean(spec.whole?.[index]));
    this.rest = spec.names.map((_, index) => this.#near(spec.mean[index] ?? 0, index));
    this.low = spec.names.map((_, index) => spec.low[index] ?? this.rest[index] - 3 * (spec.std[index] ?? 1));
    this.high = spec.names.map((_, index) => spec.high[index] ?? this.rest[index] + 3 * (spec.std[index] ?? 1));
    this.values = [...this.rest];
    this.element = document.createElement("div");
    this.element.className = "sliders";
    this.rows = spec.names.map((name, index) => this.#row(name, index));
    this.element.append(...this.rows.map(({ row }) => row), this.#springs(springy));
  }

  key() {
    return false;
  }

  take() {
    return this.values;
  }

  release() {}

  gamepad(pad, time) {
    pad.axes.slice(0, this.values.length).forEach((axis, index) => {
      const moved = Math.abs(axis) > 0.1;
      if (!moved && !this.rows[index].pushed) return;
      this.rows[index].pushed = moved;
      const end = axis < 0 ? this.low[index] : this.high[index];
      this.#set(index, this.rest[index] + Math.abs(moved ? axis : 0) * (end - this.rest[index]), time);
    });
  }

  #set(index, value, time, live = true) {
    if (!Number.isFinite(value)) return;
    this.values[index] = this.#near(value, index);
    const { slider, field } = this.rows[index];
    slider.value = this.values[index];
    field.value = Number(this.values[index].toPrecision(3));
    this.changed(time, live);
  }

  #near(value, index) {
    return this.whole[index] ? Math.round(value) : value;
  }

  #row(name, index) {
    const [low, high] = [this.low[index], this.high[index]];
    const row = document.createElement("div");
    row.className = "slider";
    const title = document.createElement("label");
    title.textContent = label(name);
    title.htmlFor = `action-${index}`;
    const slider = document.createElement("input");
    const step = this.whole[index] ? 1 : "any";
    Object.assign(slider, { type: "range", id: title.htmlFor, min: low, max: high, step, value: this.rest[index] });
    const field = document.createElement("input");
    Object.assign(field, { type: "number", step, value: Number(this.rest[index].toPrecision(3)) });
    field.setAttribute("aria-label", `${label(name)}, exact value`);
    slider.addEventListener("input", (event) => this.#set(index, slider.valueAsNumber, event.timeStamp));
    field.addEventListener("change", (event) => this.#set(index, field.valueAsNumber, event.timeStamp));
    slider.addEventListener("pointerup", (event) => {
      if (this.springy.checked) this.#set(index, this.rest[index], event.timeStamp, false);
    });
    slider.addEventListener("dblclick", (event) => this.#set(index, this.rest[index], event.timeStamp, false));
    row.append(title, slider, field);
    return { row, slider, field, pushed: false };
  }

  #springs(springy) {
    const row = document.createElement("label");
    row.className = "switch";
    this.springy = Object.assign(document.createElement("input"), { type: "checkbox", checked: springy });
    row.append(this.springy, "spring back when let go");
    return row;
  }
}

/** Keys and numbers in one action, as of a game played with a mouse: keys to hold, and a slider for each number. */
export class KeysAndSliders {
  keyed = true;

  constructor(spec, isKey, changed) {
    this.isKey = isKey;
    const part = (wanted) => {
      const among = (values) => (values ?? []).filter((_, index) => isKey[index] === wanted);
      const { names, std, low, high, whole } = spec;
      const mean = names.map((_, index) => (low[index] === -high[index] ? 0 : spec.mean[index] ?? 0));
      const lists = Object.entries({ names, mean, std, low, high, whole });
      const chosen = lists.map(([name, values]) => [name, among(values)]);
      return { ...Object.fromEntries(chosen), kind: wanted ? "keys" : "continuous" };
    };
    this.keys = new Keys(part(true), changed);
    this.sliders = new Sliders(part(false), changed, true);
    this.element = document.createElement("div");
    this.element.append(this.keys.element, this.sliders.element);
  }

  get held() {
    return this.keys.held;
  }

  key(event) {
    return this.keys.key(event);
  }

  take() {
    const [keys, numbers] = [this.keys.take(), this.sliders.take()].map((values) => values.values());
    return this.isKey.map((key) => (key ? keys : numbers).next().value);
  }

  release() {
    this.keys.release();
  }

  /** The left stick and the buttons are keys, the right stick the numbers. */
  gamepad(pad, time) {
    this.keys.gamepad(pad, time);
    this.sliders.gamepad({ axes: pad.axes.slice(2) }, time);
  }
}
