// What is looked at: the dream, the real environment beside it, the heat map over it and the cloud of points.

import { Cloud } from "./cloud.js";

const GAP = 16; // pixels between views
const CAPTION = 26; // pixels under a view

// Sure -> unsure, red, green, blue; sure is clear glass.
const HEAT = [[40, 20, 90], [130, 35, 130], [225, 80, 85], [252, 165, 60], [252, 245, 150]];

export class Stage {
  #last = null;

  /** views: {dream, real, space}, figures that each hold a canvas; heat: the canvas over the dream. */
  constructor(element, { width, height, depth }) {
    this.element = element;
    this.size = { width, height };
    this.lens = depth;
    this.views = Object.fromEntries(["dream", "real", "space"].map((name) => [name, element.querySelector(`#${name}`)]));
    this.heat = element.querySelector("#heat");
    this.dream = painter(this.views.dream.querySelector("canvas"), width, height);
    this.real = painter(this.views.real.querySelector("canvas"), width, height);
    this.cloud = null;
    new ResizeObserver(() => this.#fit()).observe(element);
    this.#fit();
  }

  /** Shows or hides "real", "space" or "heat". Throws where the browser cannot. */
  toggle(name, on) {
    if (name === "space" && on && !this.cloud) {
      this.cloud = new Cloud(this.views.space.querySelector("canvas"), this.lens);
    }
    if (name === "heat") this.heat.hidden = !on;
    else this.views[name].hidden = !on;
    this.#fit();
  }

  show(frame) {
    this.#last = frame;
    this.dream(frame.rgb);
    if (frame.side) this.real(frame.side);
    if (frame.thoughts) paintHeat(this.heat, frame.thoughts);
    if (this.cloud && !this.views.space.hidden) this.cloud.show(frame);
  }

  get last() {
    return this.#last;
  }

  /** As many whole screen pixels a frame's pixel as fit, in as many columns of views as show most. */
  #fit() {
    const box = this.element.getBoundingClientRect();
    const shown = Object.values(this.views).filter((view) => !view.hidden).length;
    const { width, height } = this.size;
    const room = (columns) => {
      const rows = Math.ceil(shown / columns);
      const wide = (box.width - GAP * (columns - 1)) / columns / width;
      return Math.min(wide, ((box.height - GAP * (rows - 1)) / rows - CAPTION) / height);
    };
    const columns = [3, 2, 1].filter((count) => count <= shown).reduce((best, count) => (room(count) > room(best) ? count : best));
    const ratio = devicePixelRatio;
    const pixels = room(columns) * ratio;
    const scale = (pixels >= 2 ? Math.floor(pixels) : Math.max(pixels, 0.5)) / ratio;
    this.element.dataset.shown = shown;
    this.element.style.setProperty("--view-width", `${scale * width}px`);
    this.element.style.setProperty("--view-height", `${scale * height}px`);
    this.element.style.setProperty("--row-width", `${columns * scale * width + (columns - 1) * GAP}px`);
    const canvas = this.views.space.querySelector("canvas");
    const size = [Math.round(scale * width * ratio), Math.round(scale * height * ratio)];
    if (this.cloud && (canvas.width !== size[0] || canvas.height !== size[1])) {
      [canvas.width, canvas.height] = size;
      this.cloud.redraw();
    }
  }
}

/** A function that paints uint8 RGB on a canvas. */
function painter(canvas, width, height) {
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { alpha: false });
  const image = context.createImageData(width, height);
  const pixels = image.data.fill(255);
  return (rgb) => {
    for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
      pixels[to] = rgb[from];
      pixels[to + 1] = rgb[from + 1];
      pixels[to + 2] = rgb[from + 2];
    }
    context.putImageData(image, 0, 0);
  };
}

function paintHeat(canvas, { rows, columns, entropy }) {
  if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  entropy.forEach((value, index) => {
    const place = (value / 255) * (HEAT.length - 1);
    const [from, to] = [HEAT[Math.floor(place)], HEAT[Math.ceil(place)]];
    const mix = from.map((channel, c) => channel + (to[c] - channel) * (place % 1));
    image.data.set([...mix, 20 + 0.45 * value], index * 4);
  });
  context.putImageData(image, 0, 0);
}
