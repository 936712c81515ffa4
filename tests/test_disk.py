"""Files and folders are whole or not there, whatever ends the one that writes them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oneiros import disk
from oneiros.disk import Batch, alone, check_room, replacing


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_folder(folder: Path, text: str) -> None:
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a.txt").write_text(text)


def write(kind: str, path: Path) -> None:
    write_folder(path, "new") if kind == "folder" else path.write_text("new")


def test_a_file_replaces_an_older_one_and_keeps_its_ending(tmp_path):
    target = tmp_path / "new" / "a.png"
    for text in ("old", "new"):
        with replacing(target) as aside:
            aside.write_text(text)
            assert aside.parent == target.parent
            assert aside.suffix == ".png"
        assert target.read_text() == text
    assert names(target.parent) == ["a.png"]


def test_a_folder_appears_whole(tmp_path):
    target = tmp_path / "folder"
    with replacing(target) as aside:
        write_folder(aside, "text")
        assert not target.exists()
    assert (target / "inner" / "a.txt").read_text() == "text"
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a bug"), OSError(28, "No space left on device")])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_error_leaves_what_was_there(tmp_path, error, kind):
    (tmp_path / "file").write_text("old")

    def write_and_fail() -> None:
        with replacing(tmp_path / kind) as aside:
            write(kind, aside)
            raise error

    with pytest.raises(type(error)):
        write_and_fail()
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_block_that_writes_nothing_leaves_what_was_there(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a"):
        pass
    assert (tmp_path / "a").read_text() == "old"


def test_a_full_disk_names_the_content(tmp_path):
    with (
        pytest.raises(OSError, match=r"/a: codes could not be kept \(No space left on device\)$"),
        replacing(tmp_path / "a", "codes"),
    ):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("kind", ["file", "folder", "batch"])
def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch, kind):
    events = []

    def fsync(descriptor):
        events.append(("flush", os.fstat(descriptor).st_ino))

    def replace(source, target, rename=os.replace):
        events.append(("rename", Path(target).name))
        rename(source, target)

    monkeypatch.setattr(disk.os, "fsync", fsync)
    monkeypatch.setattr(disk.os, "replace", replace)
    if kind == "batch":
        batch = Batch(tmp_path, tmp_path / "scratch")
        for name in ("a", "b"):
            batch.new(name).write_text(name)
        batch.publish()
        written = [tmp_path / "a", tmp_path / "b"]
    else:
        with replacing(tmp_path / "target") as aside:
            write(kind, aside)
        written = [tmp_path / "target", *(tmp_path / "target").rglob("*")]
    first_rename = [event for event, _ in events].index("rename")
    flushed = {inode for event, inode in events[:first_rename] if event == "flush"}
    assert {path.stat().st_ino for path in written} <= flushed


KILLED = """
import sys, time
from pathlib import Path
from oneiros.disk import alone, replacing
with alone(Path(sys.argv[1])), replacing(Path(sys.argv[1])) as aside:
    aside.mkdir()
    (aside / "half").write_text("half")
    print("written", flush=True)
    time.sleep(600)
"""


def test_a_kill_leaves_nothing_that_the_next_does_not_remove(tmp_path):
    target = tmp_path / "codes"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(target)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    (tmp_path / ".partial-1-other-codes").write_text("another's")
    assert len(list(tmp_path.glob(".partial-*"))) == 2
    with alone(target):
        assert [path.name for path in tmp_path.glob(".partial-*")] == [".partial-1-other-codes"]


ORDERED = """
import sys
from pathlib import Path
from oneiros.disk import alone
with alone(Path(sys.argv[1]) / "target"):
    print("inside", flush=True)
    sys.stdin.read()
"""


def test_only_one_process_is_inside(tmp_path):
    command = [sys.executable, "-c", ORDERED, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as first:
        assert first.stdout.readline() == b"inside\n"
        with subprocess.Popen(command, **pipes) as second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(1)
            first.communicate()
            assert second.communicate()[0] == b"inside\n"


def test_a_batch_changes_nothing_before_it_is_published(tmp_path):
    (tmp_path / "a").write_text("old")
    batch = Batch(tmp_path, tmp_path / "scratch")
    batch.new("a").write_text("new")
    batch.new("inner/b").write_text("new")
    assert (tmp_path / "a").read_text() == "old"
    assert not (tmp_path / "inner").exists()
    batch.publish()
    assert (tmp_path / "a").read_text() == (tmp_path / "inner" / "b").read_text() == "new"


def test_room(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 3_000_000})())
    (tmp_path / "held").write_bytes(bytes(1_000_000))
    told = check_room(tmp_path / "new", 3_000_000, "codes take")
    assert told == f"codes take 3.0 MB in {tmp_path / 'new'}, 3 MB are free"
    assert check_room(tmp_path, 4_000_000, "codes take", there=True)
    with pytest.raises(OSError, match="codes take 4 MB, only 3 MB are free"):
        check_room(tmp_path, 4_000_000, "codes take")
    with pytest.raises(OSError, match="codes take 5 MB, only 3 MB are free"):
        check_room(tmp_path, 5_000_000, "codes take", there=True)
