"""Work that splits into jobs, done here, by several processes, or by the workers of a Dask cluster.

Knows nothing of the work. A job whose worker dies is given to another; what a job wrote must bear being done again.
Torch has one thread in a job, wherever it is done, so that what comes of it is the same; and a process does one job at
a time, as numba's threads are one team, though a worker of Dask may have several threads.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_MOST_DEATHS = 3  # in a row, without a job done between: then it is the work that kills
_CONNECTING = 10  # seconds
_ONE_AT_A_TIME = threading.RLock()  # a job may split its own work


def work_through(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int = 1, cluster: str | None = None
) -> Iterator[tuple[Job, Result]]:
    """Every job with what `work` made of it, as they come to be done.

    work: a function of a module, as jobs and results travel to other processes. workers: processes on this machine; 1
        works in this one. cluster: address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers have this
        package, and find the same files under the same paths.
    An error of `work` is raised here, and so is OSError where workers die again and again, or no cluster answers.
    """
    if workers < 1:
        raise ValueError(f"--workers is {workers}; it must be at least 1")
    if cluster is not None:
        yield from _on_cluster(work, jobs, cluster)
    elif workers == 1:
        yield from ((job, _do(work, job)) for job in jobs)
    else:
        yield from _in_processes(work, jobs, workers)


def _in_processes(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Result]]:
    left, deaths = dict(enumerate(jobs)), 0
    while left:
        pool = ProcessPoolExecutor(
            min(workers, len(left)), mp_context=get_context("spawn"), initializer=_begin, initargs=(os.getpid(),)
        )
        try:
            numbers = {pool.submit(_do_elsewhere, work, job): number for number, job in left.items()}
            while numbers:
                for future in wait(numbers, return_when=FIRST_COMPLETED).done:
                    number = numbers.pop(future)
                    result = future.result()
                    deaths = 0
                    yield left.pop(number), result
        except BrokenProcessPool:
            deaths += 1
            if deaths == _MOST_DEATHS:
                raise OSError(
                    "processes died again and again, killed from outside or for want of memory; try fewer --workers, "
                    "and go on with the same command"
                ) from None
        finally:
            for process in list((pool._processes or {}).values()):  # the pool itself would let them finish
                process.terminate()
            pool.shutdown(cancel_futures=True)


def _do(work: Callable[[Job], Result], job: Job) -> Result:
    import torch

    with _ONE_AT_A_TIME:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return work(job)
        finally:
            torch.set_num_threads(before)


def _do_elsewhere(work: Callable[[Job], Result], job: Job) -> Result:
    """Errors are such as another process can read: packages raise some that cannot be rebuilt there."""
    try:
        return _do(work, job)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(str(error), name=error.name) from None
    except (ValueError, OSError) as error:
        raise (ValueError if isinstance(error, ValueError) else OSError)(str(error)) from None
    except Exception:
        raise RuntimeError(traceback.format_exc()) from None


def _begin(parent: int) -> None:
    """Of a process of ours: Ctrl-C is for the one that started it, and it dies with that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_cluster(work: Callable[[Job], Result], jobs: Sequence[Job], address: str) -> Iterator[tuple[Job, Result]]:
    from distributed import Client, as_completed
    from distributed.scheduler import KilledWorker

    try:
        client = Client(address, timeout=_CONNECTING)
    except (OSError, ValueError) as error:
        raise OSError(f"--cluster {address}: no Dask scheduler answers there ({error})") from error
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise OSError(f"--cluster {address}: has no workers; start some: dask worker {address} --nthreads 1")
        futures = {client.submit(_do_elsewhere, work, job, pure=False): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
                future.release()
        except KilledWorker as error:
            raise OSError(f"--cluster {address}: workers died again and again at the same job ({error})") from error
        finally:
            client.cancel(list(futures))
