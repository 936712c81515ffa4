"""Video files: encode, decode by frame number, join without encoding again.

Colour is H.264; 12-bit codes (depth, labels) are lossless HEVC in gray12le. Key frames come often, so that a clip from
the middle of a file costs no more than the clip.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import av.error
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

# B-frames off: decoding order is display order, so files can be joined packet by packet.
# scene cuts off: exactly every second frame is a key frame.
_COLOUR_OPTIONS = {"preset": "veryfast", "crf": "16", "g": "2", "bf": "0", "sc_threshold": "0"}
_LOSSLESS_OPTIONS = {**_COLOUR_OPTIONS, "crf": "0", "qp": "0"}
# Key frames only: with inter frames, x265's lossless mode in PyAV 18 was wrong by up to 2,669 codes on noise.
_CODES_OPTIONS = {"preset": "superfast", "x265-params": "lossless=1:keyint=1:log-level=none"}
_CODES_ALONE = {"x265-params": f"{_CODES_OPTIONS['x265-params']}:pools=none:frame-threads=1"}


# What is read as a film: not playlists, which name other files, nor addresses.
_CONTAINERS = {"protocol_whitelist": "file", "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"}


MOST_PIXELS = 2**25  # of a frame: 7680 x 4320 is the largest that cameras make; a codec's header may claim more
_MOST_BOXES = 100_000  # at the top of an mp4 file
_KEPT = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # containers whose packets mp4 takes as they are
_MOST_BETWEEN_KEYS = 300  # x264 and cameras place a key frame at least that often
# What PyAV raises where a header has no rate, no time, or one without end
_WRONG = (av.error.FFmpegError, OSError, ArithmeticError, AttributeError, TypeError, MemoryError)


class DamagedVideoError(ValueError):
    """A video that is missing, cut off or cannot be decoded: this episode is lost, others may be fine."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself, without decoding it."""

    height: int
    width: int
    fps: float
    num_frames: int
    codec: str
    pixel_format: str


class VideoEncoder:
    """Writes one video file frame by frame.

    codes: uint16 (H, W) frames below 4096, stored without loss; else uint8 (H, W, 3), without loss where `lossless`.
    """

    def __init__(
        self, path: Path, *, height: int, width: int, fps: int, codes: bool = False, lossless: bool = False
    ) -> None:
        self._format = "gray12le" if codes else "rgb24"
        options = _CODES_OPTIONS if codes else _LOSSLESS_OPTIONS if lossless else _COLOUR_OPTIONS
        if height * width <= 256 * 256:  # threads cost more than they give on small frames
            options = {**options, **(_CODES_ALONE if codes else {"threads": "1"})}
        self._container = av.open(str(path), "w", format="mp4")
        codec = "libx265" if codes else "libx264rgb" if lossless else "libx264"
        stream = self._container.add_stream(codec, rate=fps, options=options)
        self._stream = cast(VideoStream, stream)
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = "rgb24" if lossless else pixel_format(height, width, codes=codes)  # kept as gbrp

    def add(self, frame: np.ndarray) -> None:
        video_frame = VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=self._format)
        self._container.mux(self._stream.encode(video_frame))

    def close(self) -> None:
        """Finish the file. Without it the file is not readable."""
        try:
            self._container.mux(self._stream.encode())
        finally:
            self._container.close()

    def abandon(self) -> None:
        """Let go of the file, finished or not; its content is worthless afterwards."""
        with suppress(av.error.FFmpegError, OSError):
            self._container.close()


def pixel_format(height: int, width: int, *, codes: bool, lossless: bool = False) -> str:
    """The pixel format a video is written in. Halved chroma needs even sizes."""
    if codes or lossless:
        return "gray12le" if codes else "gbrp"
    return "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"


def as_stored(frame: np.ndarray) -> np.ndarray:
    """What the pixel format of a stored video leaves of a frame, uint8 (H, W, 3): chroma of half the resolution.

    Most of what tells a recorded frame from the live one, without the time that encoding takes.
    """
    kept = VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    return kept.reformat(format=pixel_format(*frame.shape[:2], codes=False)).to_ndarray(format="rgb24")


def probe(path: Path) -> VideoInfo:
    """Size, rate and number of frames from the file's header. DamagedVideoError where there is none."""
    with _open(path) as container:
        stream = container.streams.video[0]
        return VideoInfo(
            height=stream.height,
            width=stream.width,
            fps=float(stream.average_rate or 0),
            num_frames=stream.frames,
            codec=stream.codec_context.codec.canonical_name,
            pixel_format=stream.pix_fmt or "unknown",
        )


def is_complete(path: Path) -> bool:
    """Whether an mp4 file reaches its own end: its top-level boxes fill the file and one of them is the index.

    Reads a few bytes per box, so thousands of files are checked in a blink.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)  # of this file, whatever a recorder puts into its place meanwhile
        ends = {name: end for name, _, end in _boxes(file, 0, size)}
    return b"moov" in ends and max(ends.values()) == size and b"" not in ends


def count_frames(path: Path) -> int | None:
    """How many frames the index of an mp4 file lists, without opening it as a film; None where it does not say."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for track in _inner(file, _inner(file, [(0, size)], b"moov"), b"trak"):
            media = list(_inner(file, [track], b"mdia"))
            (start, _), *_ = [*_inner(file, media, b"hdlr"), (0, 0)]
            if _read(file, start + 8, 4) != b"vide":
                continue
            for start, _ in _inner(file, _inner(file, _inner(file, media, b"minf"), b"stbl"), b"stsz"):
                return int.from_bytes(_read(file, start + 8, 4), "big") or None
    return None


def _boxes(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, where the content starts, where it ends) of the boxes of an mp4 file from `start` to `stop`."""
    number = 0
    while start < stop:
        header, head = _read(file, start, 16), 8
        length, name = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:  # the length follows as 64 bits
            length, head = int.from_bytes(header[8:16], "big"), 16
        elif length == 0:  # the box runs to the end of the file
            length = stop - start
        number += 1
        if length < 8 or number > _MOST_BOXES:
            yield b"", start, stop
            return
        yield name, start + head, start + length
        start += length


def _inner(file: BinaryIO, outer: Iterable[tuple[int, int]], wanted: bytes) -> Iterator[tuple[int, int]]:
    """Where the boxes of that name lie that stand in these stretches of the file."""
    for start, stop in outer:
        yield from ((a, b) for name, a, b in _boxes(file, start, stop) if name == wanted)


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def count_whole_frames(path: Path) -> int:
    """How many frames from the start on are in a file that is cut off; 0 when its index, often at the end, is lost."""
    number = 0
    with suppress(DamagedVideoError, *_WRONG), _open(path) as container:
        for packet in container.demux(video=0):
            if packet.is_corrupt or not packet.size:  # reaches beyond the file, or is the demuxer's end marker
                break
            number += 1
    return number


def frame_times(path: Path) -> np.ndarray:
    """When each frame of a file is shown, in order, in units of its time base: int64 (N,). None are decoded.

    Empty where the film does not say, or shows two at one time. DamagedVideoError where it cannot be read.
    """
    stat = path.stat() if path.is_file() else None
    return _frame_times(path, stat and stat.st_size, stat and stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _frame_times(path: Path, size: int | None, changed: int | None) -> np.ndarray:
    times: list[int] = []
    try:
        with _open(path) as container:
            for packet in container.demux(video=0):
                if packet.is_corrupt:  # reaches beyond the file
                    break
                if packet.size and not packet.is_discard:
                    times.append(
                        -1 if packet.pts is None else packet.pts - (container.streams.video[0].start_time or 0)
                    )
    except _WRONG as error:
        raise DamagedVideoError(f"{path}: is no readable video ({_reason(error)})") from error
    found = np.unique(np.array(times, np.int64))
    return found if len(found) == len(times) and (found >= 0).all() else found[:0]


def decode(
    path: Path, start: int, stop: int, *, codes: bool = False, shrink: tuple[int, int] | None = None
) -> Iterator[np.ndarray]:
    """Frames start, start + 1, ... stop - 1 of a file, counted in the order in which they are shown, one at a time.

    Yields uint8 (H, W, 3), or uint16 (H, W) for `codes`. shrink: to this height and width, quickly. Raises
    DamagedVideoError when a frame cannot be had.
    """
    expected = start
    if expected >= stop:
        return
    try:
        times = frame_times(path)
        with _open(path) as container:
            size = (container.streams.video[0].height, container.streams.video[0].width)
            for index, frame in _frames_from(container, start, times):
                if index < expected:
                    continue
                if index > expected:
                    break
                if (frame.height, frame.width) != size:
                    raise DamagedVideoError(
                        f"{path}: frame {index} is {frame.height} x {frame.width}, the film {size[0]} x {size[1]}"
                    )
                height, width = shrink or size
                yield _codes(frame, path) if codes else frame.to_ndarray(format="rgb24", height=height, width=width)
                expected += 1
                if expected == stop:
                    return
    except _WRONG as error:
        raise DamagedVideoError(f"{path}: frame {expected} cannot be decoded ({_reason(error)})") from error
    raise DamagedVideoError(f"{path}: frame {expected} is missing; the episode needs frames {start} to {stop - 1}")


def join(paths: Sequence[Path], out: Path) -> None:
    """Put videos of the same encoder settings one after the other, without encoding again.

    The index goes to the front, so that a browser can play the file while it loads and a cut costs only what it cuts.
    """
    with av.open(str(out), "w", format="mp4", options={"movflags": "faststart"}) as target:
        stream: Any = None
        num_frames = 0
        for path in paths:
            with _open(path) as source:
                video = source.streams.video[0]
                stream = stream or target.add_stream_from_template(video)
                ticks = 1 / (video.average_rate * video.time_base)  # of one frame; whole, as the writer's rates are
                for packet in source.demux(video):
                    if packet.dts is None or packet.pts is None:  # the demuxer's end marker
                        continue
                    packet.pts += round(num_frames * ticks)
                    packet.dts += round(num_frames * ticks)
                    packet.stream = stream
                    target.mux(packet)
                num_frames += video.frames


def can_be_kept(path: Path) -> bool:
    """Whether `keep` can take a film over: H.264 as it is written here, upright, whose every packet is a frame that is
    shown, and key frames that come often enough to begin in the middle."""
    with _open(path) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        if codec.name != "h264" or codec.pix_fmt != "yuv420p" or container.format.name not in _KEPT:
            return False
        if next(container.decode(stream)).rotation:
            return False
        container.seek(stream.start_time or 0, stream=stream)
        keys = [packet.is_keyframe for packet in container.demux(stream) if packet.size]
    if len(keys) != len(frame_times(path)) or not keys[0]:
        return False
    starts = [number for number, key in enumerate(keys) if key]
    return max(stop - start for start, stop in pairwise([*starts, len(keys)])) <= _MOST_BETWEEN_KEYS


def keep(path: Path, out: Path, *, fps: int) -> None:
    """Write a film that `can_be_kept` as mp4, its frames as they are coded, shown at a steady rate."""
    times = frame_times(path)
    with _open(path) as source:
        video = source.streams.video[0]
        shown = [packet.pts - (video.start_time or 0) for packet in source.demux(video) if packet.size]
    places = np.searchsorted(times, shown).tolist()
    late = max(number - place for number, place in enumerate(places))  # frames may be coded before those shown earlier
    with _open(path) as source, av.open(str(out), "w", format="mp4") as target:
        video = source.streams.video[0]
        stream = target.add_stream_from_template(video)
        stream.time_base = Fraction(1, fps * 512)
        packets = (packet for packet in source.demux(video) if packet.size)
        for number, (packet, place) in enumerate(zip(packets, places, strict=True)):
            packet.time_base = Fraction(1, fps)
            packet.pts, packet.dts, packet.duration = place, number - late, 1
            packet.stream = stream
            target.mux(packet)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise DamagedVideoError(f"{path}: is no readable video (it is {'no file' if path.exists() else 'missing'})")
    most = {"max_pixels": str(2 * MOST_PIXELS)}  # codecs count margins
    try:
        container = av.open(str(path), options=_CONTAINERS | most)  # which looks at frames, too
    except (*_WRONG, ValueError) as error:
        raise DamagedVideoError(f"{path}: is no readable video ({_reason(error)})") from error
    if not container.streams.video or container.streams.video[0].codec_context is None:
        what = "has no video stream" if not container.streams.video else "is coded in a way that is not known here"
        container.close()
        raise DamagedVideoError(f"{path}: {what}")
    codec = container.streams.video[0].codec_context
    if codec.width * codec.height > MOST_PIXELS:
        container.close()
        raise DamagedVideoError(
            f"{path}: claims frames of {codec.height} x {codec.width}; at most {MOST_PIXELS:,} pixels can be read"
        )
    codec.options = codec.options | most  # the size may grow from frame to frame
    return container


def _frames_from(container: Any, start: int, times: np.ndarray) -> Iterator[tuple[int, VideoFrame]]:
    """(frame number, frame) from a key frame at or before `start` on; without `times`, from the first."""
    stream = container.streams.video[0]
    if 0 < start < len(times):
        origin = stream.start_time or 0
        container.seek(origin + int(times[start]), stream=stream)
        frames = _numbered(container, times)
        first = next(frames, None)
        if first and first[0] <= start:
            yield first
            yield from frames
            return
        container.seek(origin, stream=stream)  # frames may be stored in another order than they are shown
    yield from _numbered(container, times)


def _numbered(container: Any, times: np.ndarray) -> Iterator[tuple[int, VideoFrame]]:
    stream = container.streams.video[0]
    for count, frame in enumerate(container.decode(stream)):
        if not len(times):
            yield count, frame
            continue
        shown = frame.pts - (stream.start_time or 0)
        place = int(np.searchsorted(times, shown))
        if place < len(times) and times[place] == shown:
            yield place, frame


def _codes(frame: VideoFrame, path: Path) -> np.ndarray:
    """The first plane of a 12-bit frame."""
    if "12le" not in frame.format.name:
        raise ValueError(f"{path}: depth is stored as {frame.format.name}; it must be a 12-bit format such as gray12le")
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), dtype=np.uint16).reshape(frame.height, plane.line_size // 2)
    return rows[:, : frame.width].copy()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
