// The player's own figures: frames a second, how long a frame took from its request to the screen, and a curve.

const KEPT = 300;
const [LEAST, MOST] = [60, 400]; // frames that a curve spans

export class Figures {
  #drawn = []; // times
  #waits = []; // milliseconds

  add(time, wait) {
    this.#drawn.push(time);
    this.#waits.push(wait);
    if (this.#drawn.length > KEPT) {
      this.#drawn.shift();
      this.#waits.shift();
    }
  }

  /** A pause is no slow frame. */
  restart() {
    this.#drawn = [];
  }

  get fps() {
    const recent = this.#drawn.slice(-40);
    return recent.length < 2 ? NaN : (1000 * (recent.length - 1)) / (recent.at(-1) - recent[0]);
  }

  quantile(fraction) {
    const sorted = [...this.#waits].sort((a, b) => a - b);
    return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(fraction * sorted.length))] : NaN;
  }
}

/** A value per frame as a line; going back cuts it off. */
export class Curve {
  #values = []; // by frame

  constructor(canvas) {
    this.canvas = canvas;
  }

  set(frame, value) {
    this.#values.length = Math.min(this.#values.length, frame);
    this.#values[frame] = value;
    this.draw();
  }

  clear() {
    this.#values = [];
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const ratio = devicePixelRatio;
    const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio];
    if (!width) return;
    if (canvas.width !== Math.round(width)) [canvas.width, canvas.height] = [Math.round(width), Math.round(height)];
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const first = Math.max(0, this.#values.length - MOST);
    const values = this.#values.slice(first);
    const span = Math.max(LEAST, values.length);
    const top = Math.max(8, ...values.filter(Number.isFinite)) * 1.1;
    context.strokeStyle = getComputedStyle(canvas).color;
    context.lineWidth = 1.5 * ratio;
    context.lineJoin = "round";
    context.beginPath();
    values.forEach((value, index) => {
      if (Number.isFinite(value)) context.lineTo((index / span) * width, height - 2 - (value / top) * (height - 4));
    });
    context.stroke();
  }
}
