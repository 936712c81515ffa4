// The dreamed frame as a cloud of points in WebGL 2: one point a pixel, lifted by its depth, to orbit and zoom.
// Camera coordinates as in the dataset: x to the right, y down, z ahead, metres.

const POINTS = `#version 300 es
precision highp float;
precision highp usampler2D;
uniform usampler2D depth;
uniform sampler2D colour;
uniform ivec2 size;
uniform vec4 lens;      // fx, fy, cx, cy in pixels
uniform mat3 turn;
uniform vec3 pivot;     // 0, 0, what is orbited
uniform vec4 eye;       // distance from the pivot, focal length, 1 / aspect, height of the canvas in pixels
out vec3 tint;
void main() {
  ivec2 pixel = ivec2(gl_VertexID % size.x, gl_VertexID / size.x);
  uint millimetres = texelFetch(depth, pixel, 0).r;
  float z = float(millimetres) / 1000.0;
  vec3 point = vec3((vec2(pixel) - lens.zw) / lens.xy * z, z);
  vec3 seen = turn * (point - pivot) + vec3(0.0, 0.0, eye.x);
  tint = texelFetch(colour, pixel, 0).rgb;
  bool missing = millimetres == 65535u || seen.z < 0.02;
  gl_Position = missing ? vec4(2.0, 2.0, 2.0, 1.0)
                        : vec4(seen.x * eye.y * eye.z, -seen.y * eye.y, seen.z - 0.04, seen.z);
  gl_PointSize = clamp(1.6 * z / min(lens.x, lens.y) * eye.y * eye.w * 0.5 / seen.z, 1.5, 60.0);
}`;

const LINES = `#version 300 es
precision highp float;
in vec3 corner;
uniform mat3 turn;
uniform vec3 pivot;
uniform vec4 eye;
out vec3 tint;
void main() {
  vec3 seen = turn * (corner - pivot) + vec3(0.0, 0.0, eye.x);
  tint = vec3(0.62, 0.58, 0.95);
  gl_Position = vec4(seen.x * eye.y * eye.z, -seen.y * eye.y, seen.z - 0.04, seen.z);
}`;

const PAINT = `#version 300 es
precision mediump float;
in vec3 tint;
out vec4 painted;
void main() { painted = vec4(tint, 1.0); }`;

const HOME = { yaw: 0.42, pitch: 0.36, away: 1.75 };
const STEADY = 0.92; // how much of the pivot stays from one frame to the next

export class Cloud {
  #frame = null;
  #view = { ...HOME };
  #pivot = null;
  #pointers = new Map();
  #asked = false;

  /** lens: {fx, fy, cx, cy} in pixels. Throws where the browser has no WebGL 2. */
  constructor(canvas, lens) {
    this.canvas = canvas;
    this.lens = lens;
    const gl = canvas.getContext("webgl2", { antialias: true, alpha: true, premultipliedAlpha: true });
    if (!gl) throw new Error("This browser has no WebGL 2, which the 3-D view needs.");
    this.gl = gl;
    this.points = program(gl, POINTS);
    this.lines = program(gl, LINES);
    this.depth = texture(gl);
    this.colour = texture(gl);
    this.corners = gl.createBuffer();
    this.empty = gl.createVertexArray();
    this.frustum = gl.createVertexArray();
    gl.bindVertexArray(this.frustum);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.corners);
    gl.enableVertexAttribArray(gl.getAttribLocation(this.lines.program, "corner"));
    gl.vertexAttribPointer(gl.getAttribLocation(this.lines.program, "corner"), 3, gl.FLOAT, false, 0, 0);
    gl.enable(gl.DEPTH_TEST);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    this.#listen();
  }

  /** A frame of the protocol that brought depth. */
  show(frame) {
    if (!frame.depth) return;
    const { gl } = this;
    const { width, height } = frame;
    gl.bindTexture(gl.TEXTURE_2D, this.depth);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R16UI, width, height, 0, gl.RED_INTEGER, gl.UNSIGNED_SHORT, frame.depth);
    gl.bindTexture(gl.TEXTURE_2D, this.colour);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB8, width, height, 0, gl.RGB, gl.UNSIGNED_BYTE, frame.rgb);
    const near = middle(frame.depth);
    this.#pivot = this.#pivot === null || frame.frame === 0 ? near : STEADY * this.#pivot + (1 - STEADY) * near;
    this.#frame = { width, height };
    this.redraw();
  }

  /** Draws once before the next repaint, however often it is asked. */
  redraw() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      if (this.#frame) this.#draw();
    });
  }

  home() {
    this.#view = { ...HOME };
    this.redraw();
  }

  orbit(yaw, pitch) {
    this.#view.yaw += yaw;
    this.#view.pitch = Math.max(-1.5, Math.min(1.5, this.#view.pitch + pitch));
    this.redraw();
  }

  zoom(factor) {
    this.#view.away = Math.max(0.15, Math.min(8, this.#view.away * factor));
    this.redraw();
  }

  #draw() {
    const { gl, canvas, lens } = this;
    const { width, height } = this.#frame;
    const { yaw, pitch, away } = this.#view;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const eye = [away * this.#pivot, (2 * lens.fy) / height, canvas.height / canvas.width, canvas.height];
    for (const { program: used, at } of [this.points, this.lines]) {
      gl.useProgram(used);
      gl.uniformMatrix3fv(at("turn"), false, rotation(yaw, pitch));
      gl.uniform3f(at("pivot"), 0, 0, this.#pivot);
      gl.uniform4f(at("eye"), ...eye);
    }
    gl.bindVertexArray(this.frustum);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.corners);
    const frame = frustum(lens, width, height, 0.35 * this.#pivot);
    gl.bufferData(gl.ARRAY_BUFFER, frame, gl.DYNAMIC_DRAW);
    gl.drawArrays(gl.LINES, 0, frame.length / 3);

    gl.useProgram(this.points.program);
    gl.bindVertexArray(this.empty);
    gl.activeTexture(gl.TEXTURE1);
    gl.bindTexture(gl.TEXTURE_2D, this.colour);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.depth);
    gl.uniform1i(this.points.at("depth"), 0);
    gl.uniform1i(this.points.at("colour"), 1);
    gl.uniform2i(this.points.at("size"), width, height);
    gl.uniform4f(this.points.at("lens"), lens.fx, lens.fy, lens.cx, lens.cy);
    gl.drawArrays(gl.POINTS, 0, width * height);
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#pointers.set(event.pointerId, event);
      event.preventDefault(); // a drag must not take the keyboard from the game
    });
    canvas.addEventListener("pointermove", (event) => this.#drag(event));
    for (const type of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(type, (event) => this.#pointers.delete(event.pointerId));
    }
    canvas.addEventListener("dblclick", () => this.home());
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoom(Math.exp(event.deltaY * 0.0015));
      },
      { passive: false },
    );
    canvas.addEventListener("keydown", (event) => {
      const turns = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
      if (turns[event.key]) this.orbit(...turns[event.key]);
      else if (event.key === "+" || event.key === "-") this.zoom(event.key === "+" ? 0.9 : 1.1);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  #drag(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const other = [...this.#pointers.values()].find(({ pointerId }) => pointerId !== event.pointerId);
    if (other) {
      const distance = ({ clientX, clientY }) => Math.hypot(clientX - other.clientX, clientY - other.clientY) || 1;
      this.zoom(distance(before) / distance(event));
    } else {
      const reach = this.canvas.clientWidth;
      this.orbit((3 * (event.clientX - before.clientX)) / reach, (3 * (event.clientY - before.clientY)) / reach);
    }
    this.#pointers.set(event.pointerId, event);
  }
}

function program(gl, vertex) {
  const linked = gl.createProgram();
  for (const [type, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, PAINT]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(linked, shader);
  }
  gl.linkProgram(linked);
  if (!gl.getProgramParameter(linked, gl.LINK_STATUS)) throw new Error(`The 3-D view failed: ${gl.getProgramInfoLog(linked)}`);
  const places = new Map();
  const at = (name) => {
    if (!places.has(name)) places.set(name, gl.getUniformLocation(linked, name));
    return places.get(name);
  };
  return { program: linked, at };
}

function texture(gl) {
  const made = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, made);
  for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
  for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
  return made;
}

/** Turned by yaw about the y axis and then by pitch about the x axis, column by column. */
function rotation(yaw, pitch) {
  const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  return [cy, sp * sy, -cp * sy, 0, cp, sp, sy, -sp * cy, cp * cy];
}

/** The pyramid that the camera looks through, as lines. */
function frustum({ fx, fy, cx, cy }, width, height, z) {
  const corner = (u, v) => [((u - cx) / fx) * z, ((v - cy) / fy) * z, z];
  const corners = [corner(-0.5, -0.5), corner(width - 0.5, -0.5), corner(width - 0.5, height - 0.5), corner(-0.5, height - 0.5)];
  return new Float32Array(corners.flatMap((here, index) => [[0, 0, 0], here, here, corners[(index + 1) % 4]]).flat());
}

/** The middle of some of the depths, in metres. */
function middle(depth) {
  const stride = Math.max(1, Math.floor(depth.length / 256));
  const some = depth.filter((value, index) => index % stride === 0 && value !== 65535).sort();
  return Math.max(0.1, (some[some.length >> 1] ?? 1000) / 1000);
}
