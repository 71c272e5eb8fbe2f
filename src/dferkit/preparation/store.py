"""Reading a store: one clip at a time, only the requested pictures."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from safetensors import safe_open

from dferkit.errors import CheckpointError, DataError
from dferkit.preparation.config import FORMAT
from dferkit.preparation.manifest import abouts_of, release_of
from dferkit.preparation.part import DAMAGE, GEOMETRY_ARRAYS, Part, decode_picture, face_clip, status_of
from dferkit.preparation.shards import StoreFolder, locate, num_shards, read_clip_arrays
from dferkit.schema import ClipStatus, FaceClip, Release
from dferkit.storage import digest_json, read_json

# Shards are mapped, not read; a few stay open because clips of one are often read together.
_MAX_OPEN = 16


class FaceStore:
    """The faces of a release, as ``prepare_faces`` wrote them.

    Attributes:
        path: Its folder. release: What it was made from; ``Record.video`` is relative to the release's root.
        statuses: What became of every clip, by clip id. settings: How the faces were cut and kept.

    A clip is checked against its digest when it is first read.
    """

    def __init__(self, path: Path | str) -> None:
        folder = StoreFolder(Path(path))
        self.path = folder.path
        self._folder = folder
        about = _read(folder, folder.about)
        if about.get("format") != FORMAT:
            raise CheckpointError(
                f"{self.path.name}/ has store format {about.get('format')}, expected {FORMAT}: run dferkit prepare again"
            )
        value = _read(folder, folder.release)
        if digest_json(value) != about.get("release_digest"):
            raise CheckpointError(f"{self.path.name}/release.json is not that of the store: run dferkit prepare again")
        self.release: Release = release_of(value)
        self.settings: Mapping[str, Any] = about["settings"]
        self._number = {record.clip_id: i for i, record in enumerate(self.release.records)}
        self.statuses: dict[str, ClipStatus] = {}
        # Of each clip only this stays in memory; the rest of a shard's description is read with the shard.
        self._digests: list[str] = []
        self._num_frames: list[int] = []
        for shard in range(num_shards(len(self._number))):
            for about_clip in abouts_of(folder, shard, len(self._number)):
                self.statuses[about_clip["clip_id"]] = status_of(about_clip)
                self._digests.append(about_clip["digest"])
                self._num_frames.append(about_clip["num_frames"])
        if list(self.statuses) != list(self._number):
            raise CheckpointError(f"the shards of {self.path.name}/ are of another release: run dferkit prepare again")
        self._open: OrderedDict[int, tuple[Any, list[dict[str, Any]]]] = OrderedDict()
        self._checked: set[int] = set()

    @classmethod
    def open(cls, path: Path | str) -> FaceStore:
        """Open a complete store.

        Raises:
            CheckpointError: It is not complete, or damaged.
        """
        return cls(path)

    def __reduce__(self) -> tuple[type[FaceStore], tuple[Path]]:
        return FaceStore, (self.path,)  # for loader processes: maps of files are not sent

    def num_frames(self, clip_id: str) -> int:
        """Stored frames; 0 for a clip without a face."""
        return self._num_frames[self._find(clip_id)]

    def frame_numbers(self, clip_id: str) -> Int[np.ndarray, " frames"]:
        """Numbers of the stored frames in the source."""
        return self._array(self._usable(clip_id), "frame_numbers")

    def frame_size(self, clip_id: str) -> tuple[int, int]:
        """(width, height) of the source's upright frames."""
        width, height = self._about(self._find(clip_id))["frame_size"]
        return width, height

    def digest(self, clip_id: str) -> str:
        """SHA-256 over a clip's stored arrays and description: what a cache made from it is keyed by."""
        return self._digests[self._find(clip_id)]

    def landmarks(self, clip_id: str) -> Float[np.ndarray, "frames points 3"] | None:
        """Landmarks of the stored frames; None where the faces were stored without a landmarker."""
        number = self._usable(clip_id)
        return self._array(number, "landmarks") if "landmarks" in self._about(number)["arrays"] else None

    def read(self, clip_id: str, frames: Sequence[int] | np.ndarray | None = None) -> FaceClip:
        """A face clip of all stored frames, or of some of them (by their number among the stored ones; they may repeat).

        Raises:
            DataError: The clip is unknown, has no face, or has no such frame.
            CheckpointError: Its shard is missing or damaged.
        """
        number = self._usable(clip_id)
        count = self.num_frames(clip_id)
        chosen = np.arange(count) if frames is None else np.asarray(frames, dtype=np.int64)
        if chosen.size == 0 or chosen.min() < 0 or chosen.max() >= count:
            raise DataError(f"{clip_id} has frames 0 to {count - 1}; requested {chosen.tolist()}")
        self._check(number)
        offsets = self._array(number, "offsets")
        pictures = {i: self._picture(number, offsets[i], offsets[i + 1]) for i in np.unique(chosen)}
        there = self._about(number)["arrays"]
        names = ("boxes", "scores", "found", "timestamps", *(name for name in GEOMETRY_ARRAYS if name in there))
        per_frame = {name: self._array(number, name)[chosen] for name in names}
        return face_clip(self._about(number), per_frame, np.stack([pictures[i] for i in chosen]))

    def _find(self, clip_id: str) -> int:
        if clip_id not in self._number:
            raise DataError(f"{clip_id} is no clip of {self.path.name}/ ({self.release.layout})")
        return self._number[clip_id]

    def _usable(self, clip_id: str) -> int:
        number = self._find(clip_id)
        if not self.statuses[clip_id].has_features:
            raise DataError(
                f"{clip_id} has no faces ({self.statuses[clip_id].status}): {self.statuses[clip_id].message}"
            )
        return number

    def _check(self, number: int) -> None:
        if number in self._checked:
            return
        shard, place = locate(number)
        try:
            arrays = read_clip_arrays(self._folder.shard(shard), place)
        except DAMAGE as error:
            raise self._damaged(number) from error
        if not Part(about=self._about(number), arrays=arrays).is_whole:
            raise self._damaged(number)
        self._checked.add(number)

    def _damaged(self, number: int) -> CheckpointError:
        name = self._folder.shard(locate(number)[0]).name
        return CheckpointError(
            f"{self.release.records[number].clip_id} in {name} is damaged: run dferkit prepare --verify to make it again"
        )

    def _array(self, number: int, name: str) -> np.ndarray:
        shard, place = locate(number)
        try:
            values: np.ndarray = self._shard(shard)[0].get_tensor(f"{place:04d}/{name}")
        except DAMAGE as error:
            raise self._damaged(number) from error
        return values

    def _picture(self, number: int, start: int, end: int) -> np.ndarray:
        shard, place = locate(number)
        data = self._shard(shard)[0].get_slice(f"{place:04d}/jpeg")[int(start) : int(end)]
        return decode_picture(data)

    def _about(self, number: int) -> dict[str, Any]:
        """Description of a clip.

        Raises:
            CheckpointError: It is not the one that was there when the store was opened.
        """
        shard, place = locate(number)
        about = self._shard(shard)[1][place]
        if about["digest"] != self._digests[number]:
            raise self._damaged(number)
        return about

    def _shard(self, shard: int) -> tuple[Any, list[dict[str, Any]]]:
        """Mapped file and descriptions of a shard."""
        if shard not in self._open:
            abouts = abouts_of(self._folder, shard, len(self._number))
            self._open[shard] = safe_open(self._folder.shard(shard), framework="numpy"), abouts
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(shard)
        return self._open[shard]


def _read(folder: StoreFolder, path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder.path.name}/ has no {path.name}, so it is not a complete store: run dferkit prepare LAYOUT ROOT --out {folder.path.name}"
        ) from error
    except NotADirectoryError as error:
        raise CheckpointError(
            f"{folder.path.name} is a file; a store is a folder that dferkit prepare wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder.path.name}/{path.name} is damaged: run dferkit prepare again") from error
