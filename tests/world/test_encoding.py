"""A dataset becomes the same codes however the work is split or killed, and they may be larger than the memory."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oneiros.cli import main
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.source import FrameSource
from oneiros.world import codes, encoding
from oneiros.world.codes import read_codes
from oneiros.world.encoding import encode_shard, plan, write_codes
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig
from tests.places import ROOT
from tests.recorded import LENGTH, NUM_EPISODES, SIZE, record


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    """A dataset of two tasks, and the run folder of a tokenizer that has learned nothing."""
    folder = tmp_path_factory.mktemp("made")
    tokenizer = Tokenizer(TokenizerConfig(height=SIZE, width=SIZE, codebook_size=64, code_dim=8, codec_width=8))
    tokenizer.save(folder / "tokenizer")
    return record(folder / "data", tasks=("move", "stay")), folder / "tokenizer"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch) -> None:
    monkeypatch.setattr(encoding, "_ROWS", 2 * LENGTH)


def source_of(made: tuple[Path, Path], cache: Path) -> tuple[FrameSource, Tokenizer]:
    return FrameSource(Dataset.open(made[0]), (SIZE, SIZE), False, None, cache), Tokenizer.load(made[1])


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_bytes_however_it_was_split(made, tmp_path):
    source, tokenizer = source_of(made, tmp_path / "cache")
    write_codes(tmp_path / "one", source, tokenizer)
    write_codes(tmp_path / "two", source, tokenizer, workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["one", "two"]
    known = read_codes(tmp_path / "one", tokenizer)
    assert [episode.task for episode in known.train] == ["move", "stay", "move", "stay", "move"]
    assert [episode.index for episode in known.held_out] == [NUM_EPISODES - 1]


def test_what_is_encoded_before_a_kill_stays_encoded(made, tmp_path, monkeypatch):
    source, tokenizer = source_of(made, tmp_path / "cache")
    write_codes(tmp_path / "whole", source, tokenizer)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(encoding, "join_shards", killed)
        with pytest.raises(KeyboardInterrupt):
            write_codes(tmp_path / "codes", source, tokenizer)
    shards = sorted((tmp_path / "codes-parts").glob("*/*.npz"))
    assert len(shards) == 3
    shards[1].write_bytes(shards[1].read_bytes()[:100])
    seen: list[int] = []
    decode = encoding.frames_in_pieces
    monkeypatch.setattr(
        encoding, "frames_in_pieces", lambda data, each, **rest: seen.append(each.index) or decode(data, each, **rest)
    )
    write_codes(tmp_path / "codes", source, tokenizer)
    assert seen == [2, 3]
    assert digests(tmp_path / "codes") == digests(tmp_path / "whole")


def test_a_film_that_cannot_be_decoded_is_left_out(made, tmp_path):
    data = record(tmp_path / "data")
    source = FrameSource(Dataset.open(data), (SIZE, SIZE), False, None, tmp_path / "cache")
    (film,) = (data / "videos").rglob("*.mp4")
    content = bytearray(film.read_bytes())
    content[-200:] = bytes(200)  # frames of the last episode; the index stands in front
    film.write_bytes(content)
    tokenizer = Tokenizer.load(made[1])
    with pytest.warns(UserWarning, match=r"1 of 6 episodes cannot be decoded: episode 5"):
        write_codes(tmp_path / "codes", source, tokenizer)
    known = read_codes(tmp_path / "codes", tokenizer)
    assert ([each.index for each in known.train], [each.index for each in known.held_out]) == ([0, 1, 2, 3], [4])


def test_a_machine_that_sees_other_files_says_so(made, tmp_path):
    source, tokenizer = source_of(made, tmp_path / "cache")
    tokenizer.save(tmp_path / "tokenizer")
    job = plan(source, tmp_path)[0]
    (tmp_path / "other").mkdir()
    record(tmp_path / "other" / "data", num_episodes=2)
    with pytest.raises(ValueError, match="has other files than where this work was begun"):
        encode_shard(replace(job, data=tmp_path / "other" / "data"))


def test_from_the_command_line(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["encode", str(made[0]), "--tokenizer", str(made[1]), "--out", "codes"]
    for _ in range(2):  # the second finds that all is done
        main(words)
        assert (
            f"codes: {NUM_EPISODES * LENGTH} frames of {NUM_EPISODES} episodes, 16 codes each"
            in capsys.readouterr().out
        )
    other = str(record(tmp_path / "other", num_episodes=3))
    with pytest.raises(SystemExit) as stopped:
        main(["encode", other, *words[2:]])
    assert stopped.value.code == 2
    assert "holds codes of another dataset or camera" in capsys.readouterr().err


_LEARN = """
import resource, sys
import numpy as np
from oneiros.world.codes import read_codes
from oneiros.world.tokenizer import Tokenizer
tokenizer = Tokenizer.load(sys.argv[1] + "/tokenizer")
used = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (used + 64 * 2**20,) * 2)
try:
    np.ones(80 * 2**20, np.uint8)
    sys.exit("the limit does not hold")
except MemoryError:
    pass
clips = read_codes(__import__("pathlib").Path(sys.argv[1]), tokenizer).clips(length=16, to_the_end=True)
rows = np.random.default_rng(0).integers(len(clips), size=(50, 8))
print(sum(int(clips.batch(each).outcomes.reward.sum()) for each in rows))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_training_reads_codes_that_are_larger_than_its_memory(made, tmp_path):
    """A limit of 64 MiB above what the program itself takes; codes of 256 MiB, and 64 MiB of what else is learned."""
    tokenizer, folder, rows, episodes = Tokenizer.load(made[1]), tmp_path / "codes", 2**23, 2**10
    source, _ = source_of(made, tmp_path / "cache")
    write_codes(folder, source, tokenizer)
    told = json.loads((folder / "codes.json").read_text())
    told |= {"pays": True, "origin": told["origin"] | {"held_out": [0], "train": list(range(1, episodes))}}
    told["episodes"] = [{"index": number, "length": rows // episodes} for number in range(episodes)]
    (folder / "codes.json").write_text(json.dumps(told))
    for name, dtype, shape in (
        ("codes", np.uint16, (rows, tokenizer.num_codes)),
        ("actions", np.int64, (rows,)),
        ("outcomes", codes.STEP, (rows,)),
    ):
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape).flush()  # zeros that take no room
    steps = np.lib.format.open_memmap(folder / "outcomes.npy", "r+")
    steps["reward"], steps["valid"] = 1, True
    steps.flush()
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _LEARN, str(folder)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert 5_900 < int(done.stdout) <= 6_000  # 50 batches of 8 clips of 15 steps that pay 1 each, but at an end
