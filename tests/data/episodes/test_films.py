"""Films that disagree with their rows, as converters and recorders leave them. Every frame shows its own number."""

import warnings
from fractions import Fraction

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from av.video.frame import VideoFrame

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.metadata import EPISODES, VIDEO
from tests.data.conftest import Counting
from tests.data.episodes.test_dataset import KEY, VECTOR, edit_info, video, write_v2

FPS = Counting.fps
FILM = VIDEO.format(video_key=KEY, chunk_index=0, file_index=0)


def film(path, numbers, *, rate=FPS, times=None, pixels="yuv420p", **options):
    """Numbers as frames; times: when each is shown, in 1/90000 s."""
    path.unlink(missing_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate), options={"crf": "10", "bf": "0", **options})
        stream.height, stream.width, stream.pix_fmt = 32, 40, pixels
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 90000)
        for place, number in enumerate(numbers):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(Counting.draw(number)), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[place], Fraction(1, 90000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def joined(path, lengths, *, starts=None, stops=None, ours=False):
    """A v3.0 dataset of one film, whose episodes begin at `starts` and end at `stops` by its metadata, in frames."""
    Counting.record(path, lengths, states=False)
    table = pq.read_table(path / EPISODES.format(chunk_index=0, file_index=0))
    for name, frames in (("from", starts), ("to", stops)):
        if frames is not None:
            column = f"videos/{KEY}/{name}_timestamp"
            values = pa.array([frame / FPS for frame in frames])
            table = table.set_column(table.column_names.index(column), column, values)
    pq.write_table(table, path / EPISODES.format(chunk_index=0, file_index=0))
    if not ours:
        edit_info(path, lambda info: info["features"][KEY]["info"].pop("camera"))
    return path


def shown(path) -> dict[int, list[int]]:
    dataset = Dataset.open(path)
    return {episode.index: Counting.numbers(dataset, episode.index) for episode in dataset.episodes}


@pytest.mark.parametrize("drift", [0.3, 1.0, -1.0])
def test_episodes_begin_where_lengths_add_up_whatever_rounding_made_of_the_times(tmp_path, drift):
    lengths = [4, 3, 5, 4]
    at = np.cumsum([0, *lengths])[:-1] + drift * np.arange(4) / 3
    path = joined(tmp_path, lengths, starts=at, stops=at + lengths)
    assert shown(path) == {0: [*range(4)], 1: [4, 5, 6], 2: [*range(7, 12)], 3: [*range(12, 16)]}


@pytest.mark.parametrize("extra", [3, -1])
def test_a_joined_film_that_nobody_can_place_is_left_out(tmp_path, extra):
    """Times are counted from the rows, where each episode has more frames, or fewer."""
    path = joined(tmp_path, [4, 4, 4])
    film(path / FILM, range(12 + 3 * extra))
    told = rf"all 3 are missing or damaged .episodes 0-2: {FILM} has {12 + 3 * extra} frames, its 3 episodes 12 rows"
    with pytest.raises(ValueError, match=told):
        Dataset.open(path)


@pytest.mark.parametrize(
    ("per_episode", "expected"),
    [
        (6, {0: [0, 1, 2, 3], 1: [6, 7, 8, 9], 2: [12, 13, 14, 15]}),
        (3, {0: [0, 1, 2], 1: [3, 4, 5], 2: [6, 7, 8]}),
    ],
)
def test_times_that_fit_the_film_are_believed(tmp_path, per_episode, expected):
    starts = per_episode * np.arange(3)
    path = joined(tmp_path, [4, 4, 4], starts=starts, stops=starts + per_episode)
    film(path / FILM, range(3 * per_episode))
    with pytest.warns(UserWarning, match=f"has {per_episode} frames of it, where it has 4 rows.*and 2 more such"):
        assert shown(path) == expected


def test_times_of_uneven_episodes_are_believed_where_the_sum_fits_by_chance(tmp_path):
    path = joined(tmp_path, [4, 4, 4], starts=[0, 6, 8], stops=[6, 8, 12])
    with pytest.warns(UserWarning, match="1 of 3 episodes cannot be read: 1 .* has 2 frames of it, where it has 4"):
        dataset = Dataset.open(path)
    assert [Counting.numbers(dataset, episode.index) for episode in dataset.episodes] == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert len(dataset.notes) == 1


def test_what_a_killed_recorder_left_is_nobodys(tmp_path):
    path = joined(tmp_path, [4, 4], ours=True)
    film(path / FILM, range(11))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shown(path) == {0: [0, 1, 2, 3], 1: [4, 5, 6, 7]}
    assert Dataset.open(path).notes == [f"{FILM} has 3 frames at its end that are no episode's"]


@pytest.fixture
def v2(tmp_path, counting):
    write_v2(tmp_path / "v2", counting, [4, 3, 5, 4, 6], action=VECTOR, names=None)
    return tmp_path / "v2"


def test_a_row_without_a_frame_is_left_out_and_said_once(v2):
    for index, (first, length) in enumerate([(0, 4), (4, 3), (7, 5), (12, 4), (16, 6)]):
        film(video(v2, index), range(first, first + length - 1))
    with pytest.warns(
        UserWarning, match=r"episode 0: .*3 frames of it, where it has 4 rows; the last .*4 more"
    ) as said:
        dataset = Dataset.open(v2, strict=True)
    assert len(said) == 1
    assert [episode.length for episode in dataset.episodes] == [3, 2, 4, 3, 5]
    assert Counting.numbers(dataset, 2) == [7, 8, 9, 10]
    assert dataset.actions(2)[:, 0].tolist() == [7, 8, 9, 10]
    assert dataset.totals["total_frames"] == 22


def test_a_film_much_shorter_or_longer_than_its_rows_is_named(v2):
    film(video(v2, 0), range(2))
    film(video(v2, 1), [4, 5, 6, 90, 91])
    with pytest.warns(
        UserWarning, match=r"1 of 5 episodes cannot be read: 0 .*has 2 frames of it, where it has 4 rows"
    ):
        dataset = Dataset.open(v2)
    assert Counting.numbers(dataset, 1) == [4, 5, 6]
    assert "episode 1: " in dataset.notes[0]
    assert "has 5 frames of it, where it has 3 rows; the first 3 are taken" in dataset.notes[0]


def test_frames_are_counted_where_their_times_are_uneven(tmp_path, counting):
    length = 60
    write_v2(tmp_path, counting, [length, length], action=VECTOR, names=None)
    uneven = np.cumsum(np.random.default_rng(0).uniform(0.3, 1.6, length)) * 90000 / FPS
    late = 45000 + np.arange(length) * 90000 // FPS
    for index, times in ((0, uneven), (1, late)):
        numbers = range(index * length, (index + 1) * length)
        film(video(tmp_path, index), numbers, times=times.astype(int).tolist(), g="9")
    dataset = Dataset.open(tmp_path, strict=True)
    assert Counting.numbers(dataset, 0) == [*range(length)]
    assert Counting.numbers(dataset, 1, start=31, stop=40) == [*range(91, 100)]
    assert all(Counting.numbers(dataset, 0, start=row, stop=row + 1) == [row] for row in (1, 29, 44, 59))


def test_a_rate_a_little_off_moves_no_frame(tmp_path, counting):
    """29.97 in a dataset of 30, where row 501 was read as another's."""
    length = 90
    write_v2(tmp_path, counting, [length], action=VECTOR, names=None)
    film(video(tmp_path, 0), range(length), rate=Fraction(FPS * 99, 100), g="10")
    assert Counting.numbers(Dataset.open(tmp_path), 0, start=80) == [*range(80, 90)]


@pytest.mark.parametrize("start", range(9))
def test_frames_stored_in_another_order_than_shown_are_found(tmp_path, counting, start):
    write_v2(tmp_path, counting, [9], action=VECTOR, names=None)
    film(video(tmp_path, 0), range(9), bf="3", g="4", **{"x264-params": "open-gop=1:scenecut=0"})
    assert Counting.numbers(Dataset.open(tmp_path), 0, start=start) == [*range(start, 9)]


def test_cameras_without_a_film_are_left_out(tmp_path, counting):
    counting.record(tmp_path, [4, 3], cameras=counting.cameras)
    for camera in (counting.depth, counting.labels):
        (tmp_path / VIDEO.format(video_key=camera.name, chunk_index=0, file_index=0)).unlink()
    with pytest.warns(UserWarning, match=r"camera observation\.depth\.front is in the metadata, but none.*1 more"):
        dataset = Dataset.open(tmp_path, strict=True)
    assert [camera.name for camera in dataset.cameras] == [KEY]
    assert Counting.numbers(dataset, 1) == [4, 5, 6]
    with pytest.raises(ValueError, match=r"has no depth camera observation\.depth\.front; none of its films is there"):
        dataset.camera(counting.depth.name, "depth")
