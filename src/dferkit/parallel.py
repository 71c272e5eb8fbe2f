"""Work spread over processes that never outlive the command that started them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1


def run_parallel(
    function: Callable[[Job], Result], jobs: list[Job], workers: int, *, in_order: bool = True
) -> Iterator[Result]:
    """Results of ``function`` for every job; with one worker they are computed in this process.

    Args:
        workers: Processes. in_order: Yield in the order of the jobs, or as they are finished.
    """
    if workers <= 1 or len(jobs) <= 1:
        yield from map(function, jobs)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("forkserver"), initializer=_end_with_parent)
    try:
        with _one_thread_each():
            futures = [pool.submit(function, job) for job in jobs]
        for future in futures if in_order else as_completed(futures):
            yield future.result()
    finally:
        # An interrupted command must not wait for jobs that nobody will read.
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started here get one thread for linear algebra: several processes with several threads each only wait for each other."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _end_with_parent() -> None:
    """Without this, a killed command's workers would go on with what is queued."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command itself tells the user
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
