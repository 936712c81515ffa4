"""What the page and the server say to each other over the WebSocket. `static/protocol.js` is this file's mirror.

Page to server: JSON text of at most 4096 bytes with a rising "id" (1 to 2**32 - 1) and what to "do":

    {"id", "do": "step", "action": ..., "side": bool, "think": bool, "depth": bool}
                                        action: keys [0 or 1 each], discrete an index, continuous [numbers], or null
    {"id", "do": "reset", "start": index or null, "seed": number or null, "think", "depth"}
    {"id", "do": "rewind", "frame": frames since the start, "think", "depth"}
    {"id", "do": "sampling", "temperature": number, "min_p": number, "guidance_scale": number}
    {"id", "do": "side", "on": bool}
    {"id", "do": "record", "on": bool}

The flags of a request may be left out, which means false, as may the values of "sampling", which then stay as they are.
Each request is answered exactly once and in order: step, reset and rewind with a binary frame, the others with
{"id", "ok": true, ...}, and any of them with {"id", "error": "one line"} where it cannot be done.
The server speaks first, once it is ready: {"id": 0, "ok": true, "session": name, ...}.

A binary frame, little endian, H rows of W pixels:

    offset  type     what
         0  4 bytes  "ONRS"
         4  u8       version, 1
         5  u8       flags: 1 depth, 2 side, 4 thoughts, 8 the episode is over
         6  u16      W
         8  u16      H
        10  u16      0
        12  u32      id of the request
        16  u32      frames since the start
        20  f32      milliseconds that the model took
        24  f32      mean absolute difference of dream and real environment in 0 .. 255; NaN without a real one, and
                     once its episode has ended, whose last picture then stays
        28  u8       H * W * 3: red, green, blue, row by row

and then, each where its flag says so and each beginning at the next multiple of 4 from the start of the message:

    depth     u16 H * W: millimetres, 65535 = nothing seen
    side      u8 H * W * 3: the real environment
    thoughts  u16 rows, u16 columns, u16 n, u16 0; u8 rows * columns: entropy of each token, 0 .. 255 = nothing to all
              open; then, right after them, n bytes of UTF-8 JSON: {"guess": {name: probability, or value} or null}
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MAGIC = b"ONRS"
VERSION = 1
HEADER = struct.Struct("<4sBBHHHIIff")
THOUGHTS = struct.Struct("<HHHH")
DEPTH, SIDE, THINKS, OVER = 1, 2, 4, 8  # flags
NO_DEPTH = 65535
SAMPLING = ("temperature", "min_p", "guidance_scale")  # what of `Sampling` a player may set
MAX_REQUEST_BYTES = 4096
MAX_WAITING = 8  # requests that may wait for their answers

# Why the server closes a socket. 1009 (too big) and 1012 (the server stops) are the WebSocket standard's own.
FULL, MALFORMED, FLOOD, IDLE, FAILED = 4000, 4001, 4002, 4003, 4004
TOO_BIG, STOPPED = 1009, 1012


class MalformedError(ValueError):
    """A message that no page of this project sends."""


@dataclass(frozen=True)
class Extras:
    """What a frame is to contain beside the picture."""

    depth: bool = False
    think: bool = False
    side: bool = False


@dataclass(frozen=True)
class TakeStep:
    id: int
    action: Any
    extras: Extras


@dataclass(frozen=True)
class Reset:
    id: int
    start: int | None
    seed: int | None
    extras: Extras


@dataclass(frozen=True)
class Rewind:
    id: int
    frame: int
    extras: Extras


@dataclass(frozen=True)
class SetSampling:
    """Values by the names of `Sampling`'s fields; only those that are to change."""

    id: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class SetSide:
    id: int
    on: bool


@dataclass(frozen=True)
class SetRecording:
    id: int
    on: bool


Request = TakeStep | Reset | Rewind | SetSampling | SetSide | SetRecording


@dataclass(frozen=True)
class Thoughts:
    """entropy: float (rows, columns), 0 where the model was sure, 1 where all codes were alike. guess: by action name,
    the probability (or for continuous actions the value) of what it expects the player to do; None = it has no idea."""

    entropy: np.ndarray
    guess: dict[str, float] | None


@dataclass(frozen=True)
class Picture:
    """A moment as it is shown. rgb, side: uint8 (H, W, 3). depth: uint16 (H, W), as `millimetres` makes it."""

    rgb: np.ndarray
    frame: int
    step_ms: float = 0.0
    over: bool = False
    depth: np.ndarray | None = None
    side: np.ndarray | None = None
    side_over: bool = False
    thoughts: Thoughts | None = None


def parse(text: str) -> Request:
    """The request of a message. MalformedError where it is none."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedError("a message must be JSON") from None
    if not isinstance(message, dict):
        raise MalformedError("a message must be an object")
    number, do = _integer(message, "id", 1, 2**32 - 1), message.get("do")
    if do == "step":
        return TakeStep(number, message.get("action"), _extras(message))
    if do == "reset":
        start, seed = (_optional(message, name) for name in ("start", "seed"))
        return Reset(number, start, seed, _extras(message))
    if do == "rewind":
        return Rewind(number, _integer(message, "frame", 0, 2**32 - 1), _extras(message))
    if do == "sampling":
        return SetSampling(number, {name: _number(message, name) for name in SAMPLING if name in message})
    if do == "side":
        return SetSide(number, _flag(message, "on"))
    if do == "record":
        return SetRecording(number, _flag(message, "on"))
    raise MalformedError(f"{str(do)[:40]!r} is nothing to do; choose step, reset, rewind, sampling, side or record")


def pack(picture: Picture, id: int) -> bytes:
    """The binary frame of a picture."""
    height, width = picture.rgb.shape[:2]
    flags, parts = 0, [np.ascontiguousarray(picture.rgb).tobytes()]
    if picture.depth is not None:
        flags, parts = flags | DEPTH, [*parts, picture.depth.astype("<u2").tobytes()]
    difference = math.nan
    if picture.side is not None:
        flags, parts = flags | SIDE, [*parts, np.ascontiguousarray(picture.side).tobytes()]
        if not picture.side_over:
            difference = float(np.abs(picture.rgb.astype(np.int16) - picture.side).mean())
    if picture.thoughts is not None:
        flags, parts = flags | THINKS, [*parts, _pack_thoughts(picture.thoughts)]
    if picture.over:
        flags |= OVER
    header = HEADER.pack(MAGIC, VERSION, flags, width, height, 0, id, picture.frame, picture.step_ms, difference)
    return header + b"".join(part + bytes(-len(part) % 4) for part in parts[:-1]) + parts[-1]


def millimetres(metres: np.ndarray) -> np.ndarray:
    """Float metres -> uint16, 65535 where they are not finite."""
    finite = np.isfinite(metres)
    whole = np.rint(np.where(finite, metres, 0) * 1000).clip(0, NO_DEPTH - 1)
    return np.where(finite, whole, NO_DEPTH).astype(np.uint16)


def done(id: int, **values: Any) -> str:
    return json.dumps({"id": id, "ok": True, **values})


def refused(id: int, reason: str) -> str:
    """reason: becomes one line."""
    return json.dumps({"id": id, "error": " ".join(reason.split())})


def _pack_thoughts(thoughts: Thoughts) -> bytes:
    rows, columns = thoughts.entropy.shape
    entropy = np.rint(thoughts.entropy.clip(0, 1) * 255).astype(np.uint8)
    text = json.dumps({"guess": thoughts.guess}).encode()
    return THOUGHTS.pack(rows, columns, len(text), 0) + entropy.tobytes() + text


def _extras(message: dict[str, Any]) -> Extras:
    return Extras(*(_flag(message, name) for name in ("depth", "think", "side")))


def _flag(message: dict[str, Any], name: str) -> bool:
    value = message.get(name, False)
    if not isinstance(value, bool):
        raise MalformedError(f"{name} must be true or false")
    return value


def _integer(message: dict[str, Any], name: str, low: int, high: int) -> int:
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise MalformedError(f"{name} must be a whole number from {low} to {high}")
    return value


def _optional(message: dict[str, Any], name: str) -> int | None:
    return None if message.get(name) is None else _integer(message, name, 0, 2**31 - 1)


def _number(message: dict[str, Any], name: str) -> float:
    value = message[name]
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < 1e6:
        raise MalformedError(f"{name} must be a number")
    return float(value)
