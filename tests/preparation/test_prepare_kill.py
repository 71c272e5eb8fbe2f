"""A preparation that is killed goes on to the same bytes, wherever it was."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from small_release import SIDE, files

from dferkit.preparation import FaceStore, PrepareConfig, Work, prepare_faces, shards
from dferkit.schema import Release

SMALL = PrepareConfig(size=SIDE)
Faces = tuple[Release, Path]
KilledAt = Callable[..., tuple[bool, int]]


@pytest.fixture(scope="module")
def whole(faces: Faces, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Bytes of a store that nobody interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "CLIPS_PER_SHARD", 4)
        out = tmp_path_factory.mktemp("whole") / "store"
        prepare_faces(*faces, out, SMALL, work=Work(workers=1))
    return files(out)


CALLS = ((os, "replace"), (os, "fsync"), (os, "rmdir"), (os, "unlink"), (shards, "save_tensors"))


def _count_down(limit: int, *, is_after: bool) -> list[int]:
    """From here on every operation on files is counted; the ``limit``-th one kills this process (0: none does)."""
    seen = [0]

    def wrap(function):
        def counted(*args, **kwargs):
            seen[0] += 1
            is_last = seen[0] == limit
            if is_last and not is_after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(*args, **kwargs)
            finally:
                if is_last:
                    os.kill(os.getpid(), signal.SIGKILL)

        return counted

    for owner, name in CALLS:
        setattr(owner, name, wrap(getattr(owner, name)))
    return seen


def _killed_at(limit: int, faces: Faces, out: Path, is_after: bool) -> tuple[bool, int]:
    """Run in a child that dies at an operation. Returns whether it died, and how many operations it counted otherwise."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # never returns into the tests
        try:
            seen = _count_down(limit, is_after=is_after)
            prepare_faces(*faces, out, SMALL, work=Work(workers=1))
            os.write(writer, str(seen[0]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    told = os.read(reader, 20)
    os.close(reader)
    return os.WIFSIGNALED(status), int(told or 0)


def _serve(questions: Connection) -> None:
    """A process that does nothing but fork: a fork of the tests' own process, which has threads, may hang."""
    shards.CLIPS_PER_SHARD = 4
    while (asked := questions.recv()) is not None:
        questions.send(_killed_at(*asked))


@pytest.fixture(scope="module")
def killed_at() -> Iterator[KilledAt]:
    here, there = Pipe()
    process = get_context("spawn").Process(target=_serve, args=(there,), daemon=True)
    process.start()
    there.close()  # if it dies, the next answer fails at once

    def ask(limit: int, faces: Faces, out: Path, *, is_after: bool = False) -> tuple[bool, int]:
        here.send((limit, faces, out, is_after))
        found: tuple[bool, int] = here.recv()
        return found

    yield ask
    here.send(None)
    process.join(60)


def _check(killed_at: KilledAt, limits: range, faces: Faces, whole: dict[str, bytes], folder: Path) -> None:
    for limit in limits:
        out = folder / str(limit)
        died, _ = killed_at(limit, faces, out, is_after=limit % 2 == 0)
        assert died
        assert not (out / "store.json").exists() or files(out)["store.json"] == whole["store.json"]
        prepare_faces(*faces, out, SMALL, work=Work(workers=1))
        assert files(out) == whole, f"killed at operation {limit}"
        assert not (out / "parts").exists()
        shutil.rmtree(out)


def test_killed_at_every_operation(killed_at: KilledAt, faces: Faces, whole: dict[str, bytes], tmp_path: Path) -> None:
    died, operations = killed_at(0, faces, tmp_path / "counted")
    assert not died
    assert operations > 30
    assert files(tmp_path / "counted") == whole
    _check(killed_at, range(1, operations + 1), faces, whole, tmp_path)


def test_killed_again_and_again(killed_at: KilledAt, faces: Faces, whole: dict[str, bytes], tmp_path: Path) -> None:
    """Every run dies a few operations further on; what was made is never lost."""
    out = tmp_path / "store"
    for limit in (9, 12, 15, 15, 15):
        killed_at(limit, faces, out)
    prepare_faces(*faces, out, SMALL, work=Work(workers=1))
    assert files(out) == whole


def test_a_part_half_on_the_disk_is_made_again(
    killed_at: KilledAt, faces: Faces, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """After a power cut a renamed file may be empty or cut: parts are not flushed."""
    out = tmp_path / "store"
    killed_at(12, faces, out)
    parts = sorted(out.glob("parts/*/*.safetensors"))
    assert len(parts) > 2
    parts[0].write_bytes(b"")
    parts[1].write_bytes(parts[1].read_bytes()[:-7])
    data = parts[2].read_bytes()
    parts[2].write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    prepare_faces(*faces, out, SMALL, work=Work(workers=1))
    assert files(out) == whole


_PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from dferkit.preparation import PrepareConfig, Work, prepare_faces, shards
from dferkit.preparation.manifest import release_of
from dataclasses import replace

if __name__ == "__main__":
    shards.CLIPS_PER_SHARD = 4
    root, out = Path(sys.argv[2]), Path(sys.argv[3])
    release = release_of(json.loads(Path(sys.argv[4]).read_text()))
    release = replace(release, records=tuple(replace(r, video=root / r.video) for r in release.records))
    print("ready", flush=True)
    prepare_faces(release, root, out, PrepareConfig(size=48), work=Work(workers=2))
"""


def _kill_runs(count: int, faces: Faces, whole: dict[str, bytes], folder: Path) -> None:
    """Real commands with worker processes, killed at random moments after they began; each goes on where one died."""
    (folder / "release.json").write_bytes(whole["release.json"])
    program = folder / "program.py"
    program.write_text(_PROGRAM)
    here = str(Path(__file__).parent)
    command = [sys.executable, str(program), here, str(faces[1]), "OUT", str(folder / "release.json")]
    rng = random.Random(0)
    killed, run = 0, 0
    while killed < count:
        out = folder / f"store{run}"
        command[4] = str(out)
        while True:
            child = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0, 1.8) if killed < count else 0)
            if killed < count:
                child.send_signal(signal.SIGKILL)
            status = child.wait()
            child.stdout.close()
            if status == 0:
                break
            assert status == -signal.SIGKILL, "it died of something else"
            killed += 1
        assert files(out) == whole
        assert not (out / "parts").exists()
        run += 1


def test_a_real_kill(faces: Faces, whole: dict[str, bytes], tmp_path: Path) -> None:
    _kill_runs(1, faces, whole, tmp_path)


@pytest.mark.slow
def test_twenty_real_kills(faces: Faces, whole: dict[str, bytes], tmp_path: Path) -> None:
    _kill_runs(20, faces, whole, tmp_path)


def test_one_shard_of_two_killed(killed_at: KilledAt, faces: Faces, whole: dict[str, bytes], tmp_path: Path) -> None:
    """The other process's unfinished files are left alone."""
    out = tmp_path / "store"
    killed_at(30, faces, out)
    others = {p: p.read_bytes() for p in out.glob("parts/faces-00001/*")}
    assert others
    temporary = next(iter(others)).with_name(".0009.1.0123abcd.tmp.safetensors")
    temporary.write_bytes(b"half")
    prepare_faces(*faces, out, SMALL, work=Work(shard=(0, 2), workers=1))
    assert temporary.exists()
    assert all(p.read_bytes() == data for p, data in others.items())
    prepare_faces(*faces, out, SMALL, work=Work(shard=(1, 2), workers=1))
    assert files(out) == whole
    assert FaceStore.open(out).read("00000").images.shape[0] == 5
