// What the page and the server say to each other: the mirror of ../messages.py, which explains every field.

export const MAGIC = "ONRS";
export const VERSION = 1;
export const HEADER_BYTES = 28;
export const DEPTH = 1;
export const SIDE = 2;
export const THINKS = 4;
export const OVER = 8;
export const NO_DEPTH = 65535;

// Why the server closes a socket.
export const FULL = 4000;
export const MALFORMED = 4001;
export const FLOOD = 4002;
export const IDLE = 4003;
export const FAILED = 4004;
export const TOO_BIG = 1009;
export const STOPPED = 1012;

/** A binary message -> {id, frame, width, height, stepMs, difference, over, rgb, depth, side, thoughts}.
 *  The arrays are views of the message; depth, side and thoughts are null where it brought none. */
export function parseFrame(buffer) {
  const view = new DataView(buffer);
  const magic = String.fromCharCode(...new Uint8Array(buffer, 0, 4));
  if (magic !== MAGIC || view.getUint8(4) !== VERSION) throw new Error(`${magic} ${view.getUint8(4)} is no frame`);
  const flags = view.getUint8(5);
  const width = view.getUint16(6, true);
  const height = view.getUint16(8, true);
  const pixels = width * height;
  let offset = HEADER_BYTES;
  const take = (Type, length) => {
    offset = Math.ceil(offset / 4) * 4;
    const array = new Type(buffer, offset, length);
    offset += array.byteLength;
    return array;
  };
  return {
    id: view.getUint32(12, true),
    frame: view.getUint32(16, true),
    width,
    height,
    stepMs: view.getFloat32(20, true),
    difference: view.getFloat32(24, true),
    over: Boolean(flags & OVER),
    rgb: take(Uint8Array, pixels * 3),
    depth: flags & DEPTH ? take(Uint16Array, pixels) : null,
    side: flags & SIDE ? take(Uint8Array, pixels * 3) : null,
    thoughts: flags & THINKS ? parseThoughts(take) : null,
  };
}

function parseThoughts(take) {
  const [rows, columns, length] = take(Uint16Array, 4);
  const entropy = take(Uint8Array, rows * columns);
  const text = new Uint8Array(entropy.buffer, entropy.byteOffset + entropy.length, length);
  return { rows, columns, entropy, guess: JSON.parse(new TextDecoder().decode(text)).guess };
}

/** The socket as questions and answers: `ask` may be called again once its promise is settled. */
export class Channel {
  #socket = null;
  #id = 0;
  #settle = null;

  /** query: of the socket's address, which names the world where there are several. hello(greeting) is called once the server is ready, closed(code, reason) when the socket is gone. */
  constructor({ query = "", hello, closed }) {
    this.query = query;
    this.hello = hello;
    this.closed = closed;
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws${this.query}`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.#receive(typeof data === "string" ? JSON.parse(data) : parseFrame(data));
    socket.onclose = ({ code, reason }) => {
      this.#settle?.reject(new Error("the connection is gone"));
      this.#settle = null;
      this.closed(code, reason);
    };
    this.#id = 0;
    this.#socket = socket;
  }

  /** Resolves to the server's answer, a frame or an object; rejects with the server's sentence where it refused. */
  ask(message) {
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#socket.send(JSON.stringify({ id: ++this.#id, ...message }));
    });
  }

  #receive(answer) {
    if (answer.id === 0) return this.hello(answer);
    const settle = this.#settle;
    this.#settle = null;
    if (answer.error) settle?.reject(new Error(answer.error));
    else settle?.resolve(answer);
  }
}
