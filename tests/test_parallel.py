"""Work over processes: same results in any way of running, and few jobs at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from dferkit import parallel
from dferkit.errors import BackendError
from dferkit.parallel import run_parallel


def square(number: int) -> int:
    return number * number


def after_the_others(job: tuple[int, str]) -> int:
    """The first job ends only when the last one has begun."""
    number, path = job
    if number == 5:
        Path(path).touch()
    deadline = time.monotonic() + 60
    while number == 0 and not Path(path).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return number


def fail_at_five(number: int) -> int:
    if number == 5:
        raise ValueError("five")
    return number


def die(number: int) -> int:
    if number == 3:
        os._exit(9)
    return number


def process(_: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("workers", [1, 2])
def test_every_result_once(workers: int, in_order: bool) -> None:
    found = list(run_parallel(square, (n for n in range(50)), workers, in_order=in_order))
    wanted = [n * n for n in range(50)]
    assert (found if in_order else sorted(found)) == wanted
    assert list(run_parallel(square, [], workers)) == []
    assert list(run_parallel(square, [7], workers)) == [49]


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("in_flight", [None, 1, 3])
def test_few_jobs_are_drawn_at_once(in_flight: int | None, in_order: bool) -> None:
    drawn, handed_out, most = 0, 0, 0

    def jobs() -> Iterator[int]:
        nonlocal drawn, most
        for number in range(100):
            drawn += 1
            most = max(most, drawn - handed_out)
            yield number

    for _ in run_parallel(square, jobs(), 2, in_order=in_order, in_flight=in_flight):
        handed_out += 1
    assert handed_out == drawn == 100
    # Two are looked at to see whether processes are worth while at all.
    assert most <= max(2, in_flight or 8) + 1


@pytest.mark.parametrize("in_order", [True, False])
def test_results_come_in_order_or_as_they_are_finished(in_order: bool, tmp_path: Path) -> None:
    jobs = [(n, str(tmp_path / "last")) for n in range(6)]
    found = list(run_parallel(after_the_others, jobs, 2, in_order=in_order))
    assert sorted(found) == list(range(6))
    assert (found[0] == 0) == in_order


def test_other_processes_do_the_work() -> None:
    assert os.getpid() not in set(run_parallel(process, range(8), 2))
    assert set(run_parallel(process, range(8), 1)) == {os.getpid()}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_ends_it(workers: int) -> None:
    with pytest.raises(ValueError, match="five"):
        list(run_parallel(fail_at_five, range(100), workers))


def large(_: int) -> bytes:
    return bytes(30_000_000)


def test_leaving_early_never_waits_for_half_a_result() -> None:
    """Workers are ended while they write results larger than a pipe holds."""
    for _ in range(3):
        results = run_parallel(large, range(100), 2, in_order=False)
        assert len(next(results)) == 30_000_000
        results.close()


def die_while_writing(number: int) -> int:
    """Half of the result's first bytes leave this process, and then it is gone."""

    def cut(connection: Connection, data: bytes) -> None:
        os.write(connection.fileno(), bytes(data)[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    Connection._send = cut  # type: ignore[attr-defined]
    return number


@pytest.mark.parametrize("in_order", [True, False])
def test_a_worker_that_dies_while_it_writes_is_one_sentence(in_order: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_LOOK_SECONDS", 0.5)
    with pytest.raises(BackendError, match="a worker process ended unexpectedly"):
        list(run_parallel(die_while_writing, range(4), 2, in_order=in_order))


def test_a_dead_worker_is_one_sentence() -> None:
    with pytest.raises(BackendError, match="a worker process ended unexpectedly"):
        list(run_parallel(die, range(8), 2))


_PROGRAM = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from dferkit.parallel import run_parallel
from test_parallel import slow_process

if __name__ == "__main__":
    for pid in run_parallel(slow_process, range(1000), 2, in_order=False):
        print(pid, flush=True)
"""


def slow_process(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def test_workers_do_not_outlive_a_killed_command(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(_PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), str(Path(__file__).parent)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    workers = {int(child.stdout.readline()) for _ in range(12)}
    child.kill()
    child.wait()
    child.stdout.close()
    deadline = time.monotonic() + 60
    while (alive := {pid for pid in workers if Path(f"/proc/{pid}").exists()}) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive
