"""Work spread over processes that never outlive the command that started them."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

from dferkit.errors import BackendError

Job = TypeVar("Job")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 5.0


def run_parallel(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    *,
    in_order: bool = True,
    in_flight: int | None = None,
) -> Iterator[Result]:
    """Results of ``function`` for every job; with one worker they are computed in this process.

    Jobs are drawn as workers need them, so memory does not grow with their number.

    Args:
        workers: Processes. in_order: Yield in the order of the jobs, or as they are finished.
        in_flight: Jobs drawn whose results were not handed out yet, at most; four per worker where not given.

    Raises:
        BackendError: A worker process ended, usually because the memory was full.
    """
    drawn = iter(jobs)
    first = list(itertools.islice(drawn, 2))
    drawn = itertools.chain(first, drawn)
    if workers <= 1 or len(first) <= 1:
        yield from map(function, drawn)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("forkserver"), initializer=_end_with_parent)
    pending: deque[Future[Result]] = deque()
    try:
        _refill(pool, function, drawn, pending, in_flight or 4 * workers)
        while pending:
            _wait_for_one(pool, pending, in_order=in_order)
            result = pending.popleft().result()
            # One slot stays free for the result that is handed out now: the caller still holds it.
            _refill(pool, function, drawn, pending, (in_flight or 4 * workers) - 1)
            yield result
            _refill(pool, function, drawn, pending, in_flight or 4 * workers)
    except BrokenProcessPool as error:
        raise BackendError(
            "a worker process ended unexpectedly, probably because the memory was full: use fewer workers, and run the same command again to resume"
        ) from error
    finally:
        if pending:
            _stop(pool)
        pool.shutdown(wait=True, cancel_futures=True)


def _refill(
    pool: ProcessPoolExecutor,
    function: Callable[[Job], Result],
    drawn: Iterator[Job],
    pending: deque[Future[Result]],
    limit: int,
) -> None:
    while len(pending) < limit:
        try:
            job = next(drawn)
        except StopIteration:
            return
        with _one_thread_each():
            pending.append(pool.submit(function, job))


def _wait_for_one(pool: ProcessPoolExecutor, pending: deque[Future[Result]], *, in_order: bool) -> None:
    """Until the first is finished, or, where the order is free, any: that one is brought to the front.

    A pool never notices a worker that died in the middle of writing a result, so its processes are checked now and then.

    Raises:
        BrokenProcessPool: Such a worker.
    """
    asked = [pending[0]] if in_order else pending
    is_dead = False
    while not (finished := wait(asked, _LOOK_SECONDS, return_when=FIRST_COMPLETED).done):
        if is_dead:
            raise BrokenProcessPool("a worker died while it wrote a result")
        is_dead = not all(process.is_alive() for process in _processes(pool))
    chosen = next(i for i, future in enumerate(pending) if future in finished)
    future = pending[chosen]
    del pending[chosen]
    pending.appendleft(future)


def _processes(pool: ProcessPoolExecutor) -> list[Any]:
    return list((getattr(pool, "_processes", None) or {}).values())


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the workers at once: an interrupted command must not wait for results that are no longer used; files are written completely or not at all.

    A worker that dies while it writes a result leaves half of it, and the pool would wait for the rest as long as anybody holds the pipe's other end:
    this process does.
    """
    for process in _processes(pool):
        process.terminate()
    queue = getattr(pool, "_result_queue", None)
    if queue is not None:
        queue._writer.close()


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
    """Without this, a killed command's workers would finish the queue, and then wait for ever.

    A worker is the child of a fork server that lives as long as any worker does, so the death of the command itself is
    watched too: its end of a pipe closes, however it ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command itself informs the user
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_after_command, daemon=True).start()


def _end_after_command() -> None:
    command = parent_process()
    if command is not None:
        command.join()
        os._exit(1)
