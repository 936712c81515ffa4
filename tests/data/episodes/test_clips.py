import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oneiros.data.episodes import arrays
from oneiros.data.episodes.clips import Clips, EpisodeArrays, load_frames, split_episodes, spread
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.video import DamagedVideoError
from oneiros.records import ActionSpec, Clip, CodeClip

DISCRETE = ActionSpec("discrete", ("a", "b", "c"))
KEYS = ActionSpec("keys", ("a", "b"))
CONTINUOUS = ActionSpec("continuous", ("x", "y"))


def coded(*lengths: int, spec: ActionSpec | None = None) -> list[EpisodeArrays]:
    """Episodes of codes 100 * episode + row; the action of a row is its number."""
    actions = {None: lambda n: None, DISCRETE: np.arange, CONTINUOUS: lambda n: np.arange(2.0 * n).reshape(n, 2)}[spec]
    return [
        EpisodeArrays(100 * index + np.arange(length)[:, None], actions(length), f"task {index}", 10 + index)
        for index, length in enumerate(lengths)
    ]


@given(st.integers(2, 300))
def test_the_last_tenth_is_held_out(number):
    train, held_out = split_episodes(range(number))
    assert (*train, *held_out) == tuple(range(number))
    assert len(held_out) == max(1, number // 10)


def test_one_episode_cannot_be_split():
    with pytest.raises(ValueError, match="1 readable episode"):
        split_episodes([4])


def test_spread_is_even_and_holds_both_ends():
    assert spread(3, 11) == [0, 5, 10]
    assert spread(5, 2) == [0, 1]
    assert spread(1, 9) == [0]
    assert spread(3, 0) == []


@given(st.integers(1, 50), st.integers(1, 10**9))
def test_spread_repeats_no_number(count, total):
    chosen = spread(count, total)
    assert len(set(chosen)) == len(chosen) == min(count, total)
    assert (chosen[0], max(chosen)) == (0, chosen[-1])
    assert chosen[-1] == (total - 1 if count > 1 else 0)


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    length=st.integers(1, 5),
    stride=st.integers(1, 3),
)
def test_clips_are_all_starts_of_all_episodes_and_never_cross(lengths, length, stride):
    span = (length - 1) * stride + 1
    if max(lengths) < span:
        with pytest.raises(ValueError, match=f"need {span} rows, the longest of {len(lengths)} episodes has"):
            Clips(coded(*lengths), None, length=length, stride=stride)
        return
    clips = Clips(coded(*lengths), None, length=length, stride=stride)
    expected = [(10 + e, start) for e, n in enumerate(lengths) for start in range(max(1, n - span + 1))]
    assert [clips.where(i) for i in range(len(clips))] == expected
    batch = clips.batch(range(len(clips)))
    assert batch.codes.dtype == torch.int64
    for (episode, start), codes, valid in zip(expected, batch.codes[..., 0], batch.valid, strict=True):
        rows = np.minimum(start + np.arange(length) * stride, lengths[episode - 10] - 1)
        whole = start + np.arange(length) * stride < lengths[episode - 10]
        assert valid.tolist() == whole.tolist()
        last = rows[whole][-1]
        assert codes.tolist() == [
            100 * (episode - 10) + (row if ok else last) for row, ok in zip(rows, whole, strict=True)
        ]


def test_actions_lie_between_the_frames_they_lead_from_and_to():
    clips = Clips(coded(9, spec=DISCRETE), DISCRETE, length=3, stride=2)
    batch = clips.batch([0, 3], seeds=[7, 8])
    assert isinstance(batch, CodeClip)
    assert batch.codes[..., 0].tolist() == [[0, 2, 4], [3, 5, 7]]
    assert batch.actions.tolist() == [[1, 3], [4, 6]]
    assert batch.seeds.tolist() == [7, 8]
    assert batch.task == ("task 0", "task 0")


def test_a_short_episode_is_padded_and_says_so():
    clips = Clips(coded(6, 2, spec=CONTINUOUS), CONTINUOUS, length=4)
    batch = clips.batch([len(clips) - 1])
    assert batch.codes[0, :, 0].tolist() == [100, 101, 101, 101]
    assert batch.valid.tolist() == [[True, True, False, False]]
    assert batch.actions[0].tolist() == [[0, 1], [0, 0], [0, 0]]


@pytest.fixture
def dataset(tmp_path, counting):
    counting.record(tmp_path / "data", [6, 4, 5], cameras=counting.cameras)
    return Dataset.open(tmp_path / "data")


def test_frames_actions_and_tasks_stay_together(dataset, counting):
    episodes = load_frames(dataset, [0, 2], height=32, width=40)
    clips = Clips(episodes, dataset.action_spec, length=3)
    batch = clips.batch(range(len(clips)))
    assert isinstance(batch, Clip)
    assert batch.frames.shape == (7, 3, 3, 32, 40)
    shown = [
        [counting.read(frame.permute(1, 2, 0).add(1).mul(127.5).numpy()) for frame in clip] for clip in batch.frames
    ]
    assert shown == [[n, n + 1, n + 2] for n in (0, 1, 2, 3, 10, 11, 12)]
    numbers = (batch.actions.long() << torch.arange(10)).sum(-1)
    assert numbers.tolist() == [[n, n + 1] for n in (0, 1, 2, 3, 10, 11, 12)]
    assert batch.actions.dtype == torch.bool
    assert batch.task == ("task 0",) * 7


def test_depth_is_the_fourth_channel(dataset):
    episodes = load_frames(dataset, [1], height=16, width=20, depth=True)
    batch = Clips(episodes, dataset.action_spec, length=2).batch([0])
    assert batch.frames.shape == (1, 2, 4, 16, 20)
    camera = dataset.camera(kind="depth")
    from oneiros.data.frames import depth_from_model

    np.testing.assert_allclose(depth_from_model(batch.frames[0, :, 3], camera)[:, 5, 5], [1.06, 1.07], atol=0.005)


def test_decoded_frames_are_kept_and_used_again(dataset, tmp_path, monkeypatch):
    first = load_frames(dataset, [0, 1], height=16, width=16, cache=tmp_path / "cache")
    monkeypatch.setattr(arrays, "_decode", None)
    again = load_frames(dataset, [1, 0], height=16, width=16, cache=tmp_path / "cache")
    assert isinstance(again[0].content, np.memmap)
    assert np.array_equal(first[0].content, again[1].content)
    assert np.array_equal(first[1].content, again[0].content)


def test_another_size_is_decoded_again(dataset, tmp_path):
    load_frames(dataset, [0], height=16, width=16, cache=tmp_path / "cache")
    assert load_frames(dataset, [0], height=8, width=16, cache=tmp_path / "cache")[0].content.shape == (6, 8, 16, 3)
    both = load_frames(dataset, [0], height=16, width=16, depth=True, cache=tmp_path / "cache")
    assert both[0].content.shape == (6, 16, 16, 5)


def test_an_episode_that_cannot_be_decoded_is_left_out_with_one_warning(dataset, monkeypatch):
    decode = arrays._decode

    def damaged(dataset, episode, *rest):
        if episode.index == 1:
            raise DamagedVideoError("front.mp4: frame 7 cannot be decoded")
        return decode(dataset, episode, *rest)

    monkeypatch.setattr(arrays, "_decode", damaged)
    with pytest.warns(UserWarning, match=r"1 of 3 episodes cannot be decoded: episode 1 \(front\.mp4: frame 7"):
        loaded = load_frames(dataset, [0, 1, 2], height=8, width=8)
    assert [episode.index for episode in loaded] == [0, 2]
    with pytest.raises(ValueError, match="1 of 1 episodes cannot be decoded"):
        load_frames(dataset, [1], height=8, width=8)


def test_a_full_disk_while_keeping_frames_is_one_line(dataset, tmp_path, monkeypatch):
    def full(file, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrays.np, "save", full)
    with pytest.raises(
        OSError, match=r"episode_000000\.npy: decoded frames could not be kept \(No space left on device"
    ):
        load_frames(dataset, [0], height=8, width=8, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob(".partial-*"))


@pytest.mark.parametrize("content", [b"", b"words", "cut", "another size", "folder"])
def test_damaged_frames_of_the_cache_are_decoded_anew(tmp_path, counting, content):
    counting.record(tmp_path / "data", [3])
    dataset = Dataset.open(tmp_path / "data")
    (whole,) = load_frames(dataset, [0], height=16, width=20, cache=tmp_path / "cache")
    (path,) = (tmp_path / "cache").rglob("*.npy")
    before = path.read_bytes()
    path.unlink()
    if content == "another size":
        np.save(path, np.zeros((3, 16, 16, 3), np.uint8))
    elif content == "folder":
        path.mkdir()
    else:
        path.write_bytes(before[:-9] if content == "cut" else content)
    if content == "folder":
        with pytest.raises(OSError, match=rf"{path}"):
            load_frames(dataset, [0], height=16, width=20, cache=tmp_path / "cache")
        return
    (anew,) = load_frames(dataset, [0], height=16, width=20, cache=tmp_path / "cache")
    assert (anew.content == whole.content).all()
    assert path.read_bytes() == before
