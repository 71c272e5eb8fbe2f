"""Tokens beside the faces: shared out, interrupted, killed, and of the faces that are there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_release import face_folders, files

from dferkit.errors import CheckpointError
from dferkit.preparation import FaceStore, PrepareConfig, Work, prepare_faces, shards
from dferkit.schema import Release
from dferkit.tokens.stored import TokenConfig, encode_store, open_tokens

SMALL = PrepareConfig(size=64)


@pytest.fixture
def store(faces: tuple[Release, Path], tmp_path: Path) -> Path:
    prepare_faces(*faces, tmp_path / "store", SMALL, work=Work(workers=1))
    return tmp_path / "store"


def tokens_of(store: Path) -> dict[str, bytes]:
    return {name: data for name, data in files(store).items() if name.startswith("tokens/")}


def test_two_shares_are_the_whole(store: Path) -> None:
    _, missing = encode_store(store, shard=(0, 2), workers=1)
    assert missing == [1]
    with pytest.raises(CheckpointError, match="no tokens of box with these settings"):
        open_tokens(FaceStore.open(store))
    _, missing = encode_store(store, shard=(1, 2), workers=1)
    assert missing == []
    shared = tokens_of(store)
    for name in shared:
        (store / name).unlink()
    encode_store(store, workers=1)
    assert tokens_of(store) == shared
    tokens = open_tokens(FaceStore.open(store))
    # Clip 4 is empty and clip 7 is missing.
    assert [r.clip_id for r in tokens.records] == [f"{i:05d}" for i in range(11) if i not in (4, 7)]


def test_tokens_of_the_cpu_are_not_those_of_another_device(store: Path) -> None:
    encode_store(store, workers=1)
    with pytest.raises(CheckpointError, match="no tokens of box with these settings"):
        open_tokens(FaceStore.open(store), TokenConfig(device="meta"))


def test_every_precision_has_tokens_of_its_own(store: Path) -> None:
    exact, rounded = (TokenConfig(encoder=name) for name in ("videomae", "videomae-bf16"))
    encode_store(store, exact, workers=1)
    with pytest.raises(CheckpointError, match="no tokens of videomae-bf16-random with these settings"):
        open_tokens(FaceStore.open(store), rounded)
    encode_store(store, rounded, workers=1)
    found, expected = (open_tokens(FaceStore.open(store), config).visual for config in (rounded, exact))
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0.05)


def test_a_shard_of_other_faces_counts_as_missing(faces: tuple[Release, Path], tmp_path: Path) -> None:
    """One clip changed: the other process's shard is stale, and this one says so instead of writing an index over it."""
    source, root = faces
    moved = face_folders(tmp_path / "release")
    del source, root
    prepare_faces(moved, tmp_path / "release", tmp_path / "store", SMALL, work=Work(workers=1))
    folder, _ = encode_store(tmp_path / "store", workers=1)
    index = (folder / "index.json").read_bytes()
    (moved.records[5].video / "2.png").write_bytes((moved.records[1].video / "1.png").read_bytes())
    prepare_faces(moved, tmp_path / "release", tmp_path / "store", SMALL, work=Work(workers=1))
    _, missing = encode_store(tmp_path / "store", shard=(0, 2), workers=1)
    assert missing == [1]
    assert (folder / "index.json").read_bytes() == index
    with pytest.raises(CheckpointError, match="made from other faces"):
        open_tokens(FaceStore.open(tmp_path / "store"))
    left = folder / ".tokens-00001.1.abc.tmp.safetensors"
    left.write_bytes(b"cut")
    encode_store(tmp_path / "store", workers=1)
    assert not left.exists()
    assert (folder / "index.json").read_bytes() != index


def test_an_interruption_keeps_what_is_done(store: Path) -> None:
    class Stop(Exception):
        pass

    def end(done: int, of: int) -> None:
        if done == 4:
            raise Stop

    with pytest.raises(Stop):
        encode_store(store, workers=1, on_progress=end)
    first = next(iter((store / "tokens").rglob("tokens-00000.safetensors")))
    written = first.stat().st_mtime_ns
    encode_store(store, workers=1)
    assert first.stat().st_mtime_ns == written


def test_other_faces_are_encoded_again(faces: tuple[Release, Path], store: Path, tmp_path: Path) -> None:
    """Tokens of a store that was made anew with other settings are refused, and made again."""
    encode_store(store, workers=1)
    old = tokens_of(store)
    shutil.rmtree(store / "faces")
    for path in (store / "store.json", store / "release.json", store / "index.csv"):
        path.unlink()
    prepare_faces(*faces, store, PrepareConfig(size=48), work=Work(workers=1))
    with pytest.raises(CheckpointError, match="made from other faces"):
        open_tokens(FaceStore.open(store))
    encode_store(store, workers=1)
    assert tokens_of(store).keys() == old.keys()
    assert tokens_of(store) != old
    assert len(open_tokens(FaceStore.open(store)).records) == 9


def test_views_and_motion_have_folders_of_their_own(store: Path) -> None:
    plain, _ = encode_store(store, workers=1)
    flipped, _ = encode_store(store, TokenConfig(with_flip=True), workers=1)
    steady, _ = encode_store(store, TokenConfig(motion="steady"), workers=1)
    assert len({plain, flipped, steady}) == 3
    assert len(open_tokens(FaceStore.open(store), TokenConfig(with_flip=True)).records) == 18
    assert open_tokens(FaceStore.open(store), TokenConfig(motion="steady")).motion is not None


def test_killed_and_run_again_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real processes, real SIGKILL, three shards of the usual size."""
    monkeypatch.setattr(shards, "CLIPS_PER_SHARD", 64)
    release = face_folders(tmp_path / "release", num_clips=140, num_frames=2)
    store = tmp_path / "store"
    prepare_faces(release, tmp_path / "release", store, SMALL, work=Work(workers=2))
    encode_store(store, workers=1)
    whole = tokens_of(store)
    assert len(whole) == 4
    for name in whole:
        (store / name).unlink()
    command = [sys.executable, "-m", "dferkit.cli.main", "encode", str(store), "--workers", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for wanted in (1, 2):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list((store / "tokens").rglob("tokens-*.safetensors"))) < wanted:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
    visible = {name: data for name, data in tokens_of(store).items() if not Path(name).name.startswith(".")}
    assert visible == whole
