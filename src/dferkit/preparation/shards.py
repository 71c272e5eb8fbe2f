"""Where the clips of a store lie: 64 to a shard in the release's order, and one part file each until a shard is complete."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from dferkit.errors import CheckpointError
from dferkit.preparation.config import FORMAT
from dferkit.preparation.part import DAMAGE, Part, read_part, save_tensors
from dferkit.storage import atomic_path, digest_json

CLIPS_PER_SHARD = 64


@dataclass(frozen=True, slots=True)
class StoreFolder:
    """Names of the files of a store."""

    path: Path

    @property
    def release(self) -> Path:
        """The release and the settings; written first."""
        return self.path / "release.json"

    @property
    def index(self) -> Path:
        """One row per clip."""
        return self.path / "index.csv"

    @property
    def about(self) -> Path:
        """Counts and versions; written last, so a folder that has it is complete."""
        return self.path / "store.json"

    def shard(self, number: int) -> Path:
        """A shard file."""
        return self.path / "faces" / f"faces-{number:05d}.safetensors"

    def parts(self, number: int) -> Path:
        """Folder of the part files of a shard."""
        return self.path / "parts" / f"faces-{number:05d}"

    def part(self, number: int, place: int) -> Path:
        """Part file of one clip."""
        return self.parts(number) / f"{place:04d}.safetensors"


def num_shards(num_clips: int) -> int:
    """Shards of a release."""
    return -(-num_clips // CLIPS_PER_SHARD)


def places(number: int, num_clips: int) -> range:
    """Numbers of a shard's clips among the release's records."""
    return range(number * CLIPS_PER_SHARD, min((number + 1) * CLIPS_PER_SHARD, num_clips))


def locate(index: int) -> tuple[int, int]:
    """Shard and place of a record."""
    return divmod(index, CLIPS_PER_SHARD)


def read_header(path: Path) -> list[dict[str, Any]] | None:
    """Descriptions of a shard's clips, without their pictures; None when the file is missing, cut, not a shard, or they changed."""
    try:
        with safe_open(path, framework="numpy") as handle:
            about = json.loads(handle.metadata()["about"])
        is_good = about["format"] == FORMAT and about["digest"] == digest_json(about["clips"])
        return list(about["clips"]) if is_good else None
    except DAMAGE:
        return None


def read_clip_arrays(path: Path, place: int) -> dict[str, np.ndarray]:
    """All arrays of one clip of a shard."""
    prefix = f"{place:04d}/"
    with safe_open(path, framework="numpy") as handle:
        names = [name for name in handle.keys() if name.startswith(prefix)]  # noqa: SIM118
        return {name.removeprefix(prefix): handle.get_tensor(name) for name in names}


def known_keys(
    folder: StoreFolder, number: int, clip_ids: Sequence[str], settings: str, *, verify: bool = False
) -> dict[int, str]:
    """Keys of the clips of a shard that are there already, by place.

    Parts are always checked by their digests, since they are not flushed to disk; clips of a shard file with ``verify``.

    Args:
        clip_ids: That belong into this shard. settings: Digest of the settings they must have been made with.
    """
    path = folder.shard(number)
    found = dict(enumerate(read_header(path) or []))
    if verify:
        found = {place: about for place, about in found.items() if _from_shard(path, place, about["key"]) is not None}
    for file in sorted(folder.parts(number).glob("[0-9]*.safetensors")):
        part = read_part(file)
        if part is not None:
            found[int(file.stem)] = dict(part.about)
    wanted = {place: (clip_id, settings) for place, clip_id in enumerate(clip_ids)}
    return {p: about["key"] for p, about in found.items() if (about["clip_id"], about["settings"]) == wanted.get(p)}


def merge_shard(folder: StoreFolder, number: int, keys: Mapping[int, str]) -> None:
    """Write a shard of the clips with these keys, from part files or from the shard that was there before.

    Raises:
        CheckpointError: A clip is gone or damaged.
    """
    arrays: dict[str, np.ndarray] = {}
    abouts = []
    for place, key in sorted(keys.items()):
        part = read_part(folder.part(number, place))
        if part is None or part.about["key"] != key:
            part = _from_shard(folder.shard(number), place, key)
        if part is None:
            folder.part(number, place).unlink(missing_ok=True)
            raise CheckpointError(
                f"{folder.part(number, place).name} of {folder.shard(number).stem} was damaged or removed while the "
                "store was written: run the same command again"
            )
        abouts.append(dict(part.about))
        arrays.update({f"{place:04d}/{name}": value for name, value in part.arrays.items()})
    # Until it is written again, the store is not complete.
    folder.about.unlink(missing_ok=True)
    with atomic_path(folder.shard(number)) as temporary:
        save_tensors(temporary, arrays, {"format": FORMAT, "clips": abouts, "digest": digest_json(abouts)})


def _from_shard(path: Path, place: int, key: str) -> Part | None:
    abouts = read_header(path)
    if abouts is None or place >= len(abouts) or abouts[place]["key"] != key:
        return None
    try:
        part = Part(about=abouts[place], arrays=read_clip_arrays(path, place))
        return part if part.is_whole else None
    except DAMAGE:
        return None


def remove_parts(folder: StoreFolder, number: int) -> None:
    """Remove the part files of a finished shard, and the folder of all parts when it was the last."""
    shutil.rmtree(folder.parts(number), ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rmdir(folder.path / "parts")


def sweep(folder: StoreFolder, numbers: range) -> None:
    """Remove temporary files that killed runs left: those of these shards, and at the top those of processes that ended."""
    for path in _temporaries(folder.path / "faces", *(folder.path / "parts").glob("faces-*")):
        match = re.search(r"faces-(\d+)", str(path.relative_to(folder.path)))
        if match and int(match.group(1)) in numbers:
            path.unlink(missing_ok=True)
    for path in _temporaries(folder.path):
        if not _is_running(int(path.name.split(".")[2])):
            path.unlink(missing_ok=True)


def _temporaries(*folders: Path) -> Iterator[Path]:
    """Files with a name that ``atomic_path`` gives."""
    for folder in folders:
        for path in folder.glob(".*.tmp.*"):
            if re.fullmatch(r"\.[\w-]+\.\d+\.[0-9a-f]{8}\.tmp\.\w+", path.name):
                yield path


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
