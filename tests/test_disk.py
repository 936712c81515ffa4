"""Files and folders are whole or not there, whatever ends the one that writes them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from oneiros import disk
from oneiros.disk import (
    Batch,
    alone,
    check_room,
    contained,
    inside,
    locked,
    new_array,
    publish,
    read_array,
    replacing,
    work_folder,
)


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


@pytest.mark.parametrize("writing", [replacing, work_folder])
def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path, writing):
    with (
        pytest.raises(OSError, match=r"/a: could not be written \(No space left on device\)$"),
        writing(tmp_path / "a"),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(OSError, match=r"'other'$"), writing(tmp_path / "a"):
        raise OSError(13, "Permission denied", "other")
    assert not names(tmp_path)


def test_a_mapped_array_has_its_room_before_it_is_written_to(tmp_path, monkeypatch):
    array = new_array(tmp_path / "a.npy", np.uint8, (1000, 1000))
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 1_000_000  # no holes, whose filling would kill
    array[-1] = 7
    array.flush()
    assert np.load(tmp_path / "a.npy")[-1, -1] == 7

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        new_array(tmp_path / "b.npy", np.uint8, (1000, 1000))


def header(**values: object) -> bytes:
    """An npy file of 100 zeros whose header says so, but for these values."""
    told = {"descr": "'|u1'", "fortran_order": False, "shape": "(10, 10)", **values}
    text = "{" + ", ".join(f"'{name}': {value}" for name, value in told.items()) + "}"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(100)


NO_ARRAYS = {
    "nothing": b"",
    "words": b"words",
    "half": header()[:-50],
    "negative": header(shape="(-10, 10)"),
    "huge": header(shape="(10, 10000000000000)"),
    "beyond": header(shape=f"(10, {10**30})"),
    "a number": header(shape="10"),
    "dates": header(descr="'<M8[s]'"),
    "text": header(descr="'<U1'"),
    "objects": header(descr="'|O'"),
    "fields": header(descr="[('a', '|u1')]"),
    "another size": header(shape="(100,)"),
    "another length": header(shape="(10, 5)"),
    "deep": header(shape="(" * 5000),
    "a long number": header(shape="9" * 5000),
}


@pytest.mark.parametrize("content", NO_ARRAYS.values(), ids=NO_ARRAYS)
def test_what_is_no_array_of_the_kind_that_is_read(tmp_path, content):
    path = tmp_path / "a.npy"
    path.write_bytes(header())
    assert read_array(path, np.uint8, (10, None)).shape == (10, 10)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{path}: "):
        read_array(path, np.uint8, (10, 10))


@pytest.mark.parametrize("kind", ["archive", "pipe", "folder", "missing", "device"])
def test_what_is_no_file_of_an_array(tmp_path, kind):
    path = tmp_path / "a.npy"
    if kind == "archive":
        with path.open("wb") as file:
            np.savez(file, a=np.zeros(3))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=rf"^{path}: "):
        read_array(path, np.uint8, (10, 10))


def test_no_other_file_is_mapped_to_be_written_to():
    source = Path(disk.__file__).parent
    assert [path.name for path in source.rglob("*.py") if "open_memmap" in path.read_text()] == ["disk.py"]
    assert not [path for path in source.rglob("*.py") if "np.memmap(" in path.read_text()]


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


def test_what_dead_processes_left_is_removed_without_a_lock(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        pass
    with replacing(tmp_path / "first" / "a") as aside:
        aside.write_text("mine")
    for process, name in ((dead.pid, "folder"), (dead.pid, "file"), (os.getppid(), "alive")):
        other = tmp_path / aside.name.replace(f".{os.getpid()}-a", f".{process}-{name}")
        write("file" if name == "file" else "folder", other)
    write_folder(tmp_path / f".partial-00000000.{dead.pid}-a", "of another machine")
    with replacing(tmp_path / "a") as aside:
        left = [path.name.partition("-")[2] for path in sorted(tmp_path.glob(".partial-*"))]
        assert left == [
            f"00000000.{dead.pid}-a",
            aside.name.partition("-")[2].replace(f".{os.getpid()}-a", f".{os.getppid()}-alive"),
        ]
        aside.write_text("mine")


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


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "inner/../../a", "..", "inner/.."])
def test_a_name_stays_in_its_folder(tmp_path, name):
    with pytest.raises(ValueError, match="leads out of this folder"):
        inside(tmp_path / "root", name)


def test_a_name_may_tell_of_folders_and_of_what_does_not_exist(tmp_path):
    (tmp_path / "root" / "real").mkdir(parents=True)
    (tmp_path / "root" / "link").symlink_to("real")
    for name in ("a", "a/b.txt", "a..b", "link/a"):
        assert inside(tmp_path / "root", name) == tmp_path / "root" / name
    (tmp_path / "way").symlink_to("root")  # the user's own way to the folder
    assert inside(tmp_path / "way", "a") == tmp_path / "way" / "a"


@pytest.mark.parametrize("link", ["link", "link/a"])
def test_links_that_lead_out_are_refused(tmp_path, link):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to("..")
    with pytest.raises(ValueError, match="through a symbolic link"):
        inside(tmp_path / "root", link)


def test_a_folder_to_write_into_holds_no_link_that_leads_out(tmp_path):
    (tmp_path / "run" / "pictures").mkdir(parents=True)
    (tmp_path / "run" / "inner").symlink_to("pictures")
    assert contained(tmp_path / "run") == tmp_path / "run"
    assert contained(tmp_path / "run", "eval") == tmp_path / "run" / "eval"
    assert contained(tmp_path / "none", "eval") == tmp_path / "none" / "eval"
    (tmp_path / "run" / "pictures" / "step.png").symlink_to(tmp_path / "precious.png")
    (tmp_path / "run" / "eval").symlink_to(tmp_path)
    for name in ("", "pictures", "eval"):
        with pytest.raises(ValueError, match=r"leads out of .*run through a symbolic link; nothing is written"):
            contained(tmp_path / "run", name)


def test_what_is_published_stays_in_its_folder(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a").write_text("old")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "precious")
    write_folder(tmp_path / "scratch", "new")
    (tmp_path / "scratch" / "link").mkdir()
    (tmp_path / "scratch" / "link" / "a").write_text("new")
    with pytest.raises(ValueError, match="through a symbolic link"):
        publish(tmp_path / "scratch", tmp_path / "root", ["inner/a.txt", "link/a"])
    assert (tmp_path / "precious" / "a").read_text() == "old"
    assert names(tmp_path / "root") == ["link"]


def test_a_link_where_a_file_is_written_aside_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("old")
    with replacing(tmp_path / "config.json") as aside:
        aside.write_text("old")
    aside.symlink_to(tmp_path / "precious")
    with replacing(tmp_path / "config.json") as same:
        assert same == aside
        same.write_text("new")
    assert (tmp_path / "precious").read_text() == "old"
    assert (tmp_path / "config.json").read_text() == "new"


def test_a_lock_is_not_taken_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("old")
    (tmp_path / "lock").symlink_to("precious")
    with pytest.raises(OSError, match="symbolic link"):
        locked(tmp_path / "lock")
    assert (tmp_path / "precious").read_text() == "old"


def test_a_lock_ends_when_its_file_is_closed(tmp_path):
    first = locked(tmp_path / "new" / "lock")
    with pytest.raises(BlockingIOError):
        locked(tmp_path / "new" / "lock")
    first.close()
    locked(tmp_path / "new" / "lock").close()


IN_TURNS = """
import os, sys
from pathlib import Path
from oneiros.disk import alone, locked
folder, kind = Path(sys.argv[1]), sys.argv[2]
for _ in range(400):
    if kind == "alone":
        with alone(folder / "target"):
            os.close(os.open(folder / "held", os.O_CREAT | os.O_EXCL))  # fails where another is inside, too
            os.unlink(folder / "held")
            (folder / ".target.lock").unlink()  # as somebody may who tidies up
    else:
        lock = locked(folder / "inner" / "lock", wait=True)
        os.close(os.open(folder / "held", os.O_CREAT | os.O_EXCL))
        os.unlink(folder / "held")
        (folder / "inner" / "lock").unlink()
        lock.close()
"""


@pytest.mark.parametrize("kind", ["alone", "locked"])
def test_one_process_at_a_time_though_the_file_of_the_lock_is_deleted(tmp_path, kind):
    command = [sys.executable, "-c", IN_TURNS, str(tmp_path), kind]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate(timeout=300)[1] for process in processes] == [""] * 4
