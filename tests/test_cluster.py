"""Jobs are done here, by processes, by a Dask cluster; workers that die lose nothing."""

import os
import signal
from pathlib import Path

import pytest

from oneiros import cluster
from oneiros.cluster import work_through


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def fail_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three is not to be had")
    return number


def die_once(flag: Path) -> str:
    """The process is killed the first time, as the kernel does where memory runs out."""
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return flag.name


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_here_and_in_processes_every_job_is_done_once():
    here = dict(work_through(square, range(5)))
    assert {job: result for job, (result, _) in here.items()} == {number: number**2 for number in range(5)}
    assert {process for _, process in here.values()} == {os.getpid()}
    there = dict(work_through(square, range(5), workers=2))
    assert {job: result for job, (result, _) in there.items()} == {number: number**2 for number in range(5)}
    assert os.getpid() not in {process for _, process in there.values()}
    assert list(work_through(square, [], workers=2)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_work_is_raised(workers):
    with pytest.raises(ValueError, match="three is not to be had"):
        list(work_through(fail_at_three, range(6), workers=workers))


def test_a_killed_worker_loses_nothing(tmp_path):
    flags = [tmp_path / name for name in "abc"]
    flags[0].touch()
    flags[2].touch()
    assert sorted(result for _, result in work_through(die_once, flags, workers=2)) == ["a", "b", "c"]


def test_work_that_always_kills_ends_in_one_line():
    with pytest.raises(OSError, match="processes died again and again"):
        list(work_through(die, range(2), workers=2))


def test_a_dask_cluster_does_the_jobs():
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as there:
        address = there.scheduler_address
        done = {job: result for job, (result, _) in work_through(square, range(4), cluster=address)}
        assert done == {number: number**2 for number in range(4)}
        with pytest.raises(ValueError, match="three is not to be had"):
            list(work_through(fail_at_three, range(6), cluster=address))


def test_a_cluster_that_is_not_there_is_named(monkeypatch):
    pytest.importorskip("distributed", reason="distributed is not installed")
    monkeypatch.setattr(cluster, "_CONNECTING", 0.5)
    with pytest.raises(OSError, match=r"--cluster tcp://127\.0\.0\.1:9: no Dask scheduler answers there"):
        list(work_through(square, range(2), cluster="tcp://127.0.0.1:9"))


def sum_of_squares(numbers: tuple[int, ...]) -> int:
    return sum(result for _, (result, _) in work_through(square, numbers))


def test_a_job_may_split_its_own_work():
    assert dict(work_through(sum_of_squares, [(1,), (2, 3)])) == {(1,): 1, (2, 3): 13}
