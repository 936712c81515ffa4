import os

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oneiros.data import video
from oneiros.data.video import (
    DamagedVideoError,
    VideoEncoder,
    can_be_kept,
    decode,
    frame_times,
    is_complete,
    join,
    keep,
    probe,
)

FPS = 7


def write(path, frames, *, codes=False):
    encoder = VideoEncoder(path, height=frames[0].shape[0], width=frames[0].shape[1], fps=FPS, codes=codes)
    for frame in frames:
        encoder.add(frame)
    encoder.close()
    return path


@pytest.fixture(scope="module")
def counted(tmp_path_factory, request):
    """31 frames, each grey by its number."""
    path = tmp_path_factory.mktemp("video") / "counted.mp4"
    return write(path, [np.full((16, 24, 3), 8 * number, np.uint8) for number in range(31)])


def numbers(path, start, stop):
    return [round(frame.mean() / 8) for frame in decode(path, start, stop)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.data())
def test_any_stretch_is_found_without_reading_from_the_start(counted, data):
    start = data.draw(st.integers(0, 31))
    stop = data.draw(st.integers(start, 31))
    assert numbers(counted, start, stop) == list(range(start, stop))


def test_every_second_frame_is_a_key_frame(counted):
    with av.open(str(counted)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
    assert [packet.is_keyframe for packet in packets] == [number % 2 == 0 for number in range(31)]
    assert probe(counted).pixel_format == "yuv420p"


@pytest.mark.parametrize(("height", "width"), [(16, 16), (33, 47), (64, 64), (70, 130)])
def test_codes_come_back_exactly_from_noise(tmp_path, height, width):
    noise = np.random.default_rng(0).integers(0, 4096, (12, height, width)).astype(np.uint16)
    path = write(tmp_path / "codes.mp4", noise, codes=True)
    assert np.array_equal(np.stack(list(decode(path, 0, 12, codes=True))), noise)
    assert probe(path).codec == "hevc"
    assert probe(path).pixel_format == "gray12le"
    with av.open(str(path)) as container:
        assert all(packet.is_keyframe for packet in container.demux(video=0) if packet.pts is not None)


@pytest.mark.parametrize("size", [(16, 16), (15, 21)])
def test_colours_keep_their_value(tmp_path, size):
    colours = np.array(np.meshgrid([0, 128, 255], [0, 128, 255], [0, 128, 255])).reshape(3, -1).T
    frames = [np.broadcast_to(colour.astype(np.uint8), (*size, 3)) for colour in colours]
    path = write(tmp_path / "colours.mp4", frames)
    for colour, frame in zip(colours, decode(path, 0, len(colours)), strict=True):
        assert np.abs(frame.astype(int) - colour).max() <= 5


def test_joined_files_count_on(tmp_path):
    grey = [np.full((16, 16, 3), 8 * number, np.uint8) for number in range(30)]
    parts = [write(tmp_path / f"{a}.mp4", grey[a:b]) for a, b in ((0, 1), (1, 12), (12, 30))]
    join(parts[:2], tmp_path / "two.mp4")
    join([tmp_path / "two.mp4", parts[2]], tmp_path / "three.mp4")
    assert numbers(tmp_path / "three.mp4", 0, 30) == list(range(30))
    assert all(numbers(tmp_path / "three.mp4", n, n + 1) == [n] for n in range(30))
    assert probe(tmp_path / "three.mp4").num_frames == 30
    assert probe(tmp_path / "three.mp4").fps == FPS


def test_a_file_that_ends_early_says_which_frame_is_missing(counted):
    with pytest.raises(DamagedVideoError, match=r"counted.mp4: frame 31 is missing.*frames 29 to 39"):
        numbers(counted, 29, 40)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_cut_off_file_is_known_without_decoding(counted, tmp_path, share):
    cut = tmp_path / "cut.mp4"
    content = counted.read_bytes()
    cut.write_bytes(content[: int(len(content) * share)])
    assert is_complete(counted)
    assert not is_complete(cut)


def test_damage_inside_a_file_is_reported_or_harmless(counted, tmp_path):
    content = bytearray(counted.read_bytes())
    start = content.index(b"mdat")
    content[start + 8 : start + 3000] = bytes(2992)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    with pytest.raises(DamagedVideoError, match="damaged"):
        numbers(damaged, 0, 31)


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(DamagedVideoError, match=r"text\.mp4: is no readable video"):
        probe(tmp_path / "text.mp4")
    with pytest.raises(DamagedVideoError, match=r"none\.mp4: is no readable video"):
        probe(tmp_path / "none.mp4")


def test_films_that_nothing_here_can_decode(counted, tmp_path):
    path, whole = tmp_path / "film.mp4", counted.read_bytes()
    path.write_bytes(whole.replace(b"avc1", b"zzzz"))
    for use in (probe, lambda path: numbers(path, 0, 3)):
        with pytest.raises(DamagedVideoError, match=rf"^{path}: is coded in a way that is not known here$"):
            use(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DamagedVideoError, match=rf"^{path}: is no readable video \(it is no file\)$"):
        probe(path)


def write_of(path, width, *, codec="libx264", container="mp4", first=0):
    """Two frames of 256 rows."""
    with av.open(str(path), "w", format=container) as film:
        stream = film.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, 256, "yuv420p"
        for number in range(2):
            frame = VideoFrame.from_ndarray(np.zeros((256, width, 3), np.uint8))
            frame.pts = first + number
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return path


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_film_that_claims_huge_frames_is_refused_unread(tmp_path, monkeypatch, codec):
    monkeypatch.setattr(video, "MOST_PIXELS", 256 * 256)
    assert len(numbers(write_of(tmp_path / "film.mp4", 256, codec=codec), 0, 2)) == 2
    path = write_of(tmp_path / "film.mp4", 258, codec=codec)
    for use in (probe, lambda path: numbers(path, 0, 1), lambda path: join([path], tmp_path / "out.mp4")):
        with pytest.raises(DamagedVideoError, match=rf"^{path}: claims frames of 256 x 258; at most 65,536 pixels"):
            use(path)


def test_frames_that_outgrow_what_the_header_claims_are_refused_by_the_codec(tmp_path, monkeypatch):
    path = write_of(tmp_path / "small.ts", 256, container="mpegts")
    path.write_bytes(
        path.read_bytes() + write_of(tmp_path / "large.ts", 4096, container="mpegts", first=2).read_bytes()
    )
    for most, told in (
        (2**25, "frame 2 is 256 x 4096, the film 256 x 256"),
        (256 * 256, "cannot be decoded"),
    ):
        monkeypatch.setattr(video, "MOST_PIXELS", most)
        with pytest.raises(DamagedVideoError, match=told):
            numbers(path, 0, 4)


def test_a_header_that_is_spoiled_anywhere_is_reported_or_harmless(counted, tmp_path):
    path, whole, random = tmp_path / "film.mp4", counted.read_bytes(), np.random.default_rng(0)
    index = whole.index(b"moov")
    told = []
    for _ in range(300):
        spoiled = bytearray(whole)
        for place in random.integers(index, len(whole), random.choice((1, 4))):
            spoiled[place] = random.choice((0, 1, 127, 128, 255))
        path.write_bytes(spoiled)
        try:
            is_complete(path)
            probe(path)
            list(decode(path, 4, 9))
        except DamagedVideoError as error:
            told.append(str(error))
    assert len(told) > 30
    assert all(line.startswith(f"{path}: ") for line in told)


def test_boxes_without_end_are_not_counted_to_the_end(tmp_path, monkeypatch):
    """A file of a gigabyte may hold 134 million of them."""
    path, box = tmp_path / "film.mp4", (8).to_bytes(4, "big")
    for most, complete in ((40, True), (39, False)):
        monkeypatch.setattr(video, "_MOST_BOXES", most)
        path.write_bytes((box + b"moov") + 39 * (box + b"free"))
        assert is_complete(path) == complete


def test_a_film_of_another_size_from_the_middle_on(tmp_path, monkeypatch, counted):
    class Larger:
        height, width, pts = 32, 24, 0

    monkeypatch.setattr(video, "_frames_from", lambda *_: [(0, Larger())])
    with pytest.raises(DamagedVideoError, match="frame 0 is 32 x 24, the film 16 x 24"):
        list(decode(counted, 0, 3))


def filmed(path, frames=24, **options):
    """Bars that wander, coded as ffmpeg does by itself: frames are coded before those that are shown earlier."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"bf": "3", "g": "8", **options})
        stream.height, stream.width, stream.pix_fmt = 64, 80, "yuv420p"
        for number in range(frames):
            picture = np.zeros((64, 80, 3), np.uint8)
            picture[:, number * 3 : number * 3 + 9] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_film_is_kept_as_it_is_coded_and_shown_at_a_steady_rate(tmp_path, name):
    path, kept = filmed(tmp_path / name), tmp_path / "kept.mp4"
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert any(packet.pts != packet.dts for packet in packets)
    assert can_be_kept(path)
    keep(path, kept, fps=7)
    assert (probe(kept).fps, probe(kept).num_frames, is_complete(kept)) == (7, 24, True)
    assert len(np.unique(np.diff(frame_times(kept)))) == 1
    before = list(decode(path, 0, 24))
    np.testing.assert_array_equal(list(decode(kept, 0, 24)), before)
    np.testing.assert_array_equal(list(decode(kept, 11, 14)), before[11:14])


@pytest.mark.parametrize(
    ("name", "frames", "options"), [("a.mp4", 320, {"g": "999", "sc_threshold": "0"}), ("a.avi", 24, {"bf": "0"})]
)
def test_a_film_of_few_key_frames_or_in_another_box_is_not_kept(tmp_path, name, frames, options):
    assert not can_be_kept(filmed(tmp_path / name, frames, **options))
