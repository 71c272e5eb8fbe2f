"""Rendered training faces: crops and landmarks from the front ends in use, with the true action units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int
from safetensors import safe_open

from dferkit.errors import DataError
from dferkit.faces import CROP_MARGIN

CROP_SIZE = 80
NETWORK_SIZE = 64
WIDE_MARGIN = 0.3125  # wider than in use: room for shifts, scale and roll
USED_SIZE = (
    CROP_SIZE * (1 + 2 * CROP_MARGIN) / (1 + 2 * WIDE_MARGIN)
)  # pixels of a stored crop that a clip in use shows
PROFILES = ("posed", "natural", "varied")
_PEOPLE_PER_PART = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderedFaces:
    """Training clips of one shard or of several.

    Attributes:
        crops: uint8 (clips, frames, 80, 80, 3) RGB. au: (clips, frames, AUs). label: (clips,) index into ``labels.BASIC``.
        subject: (clips,) number of the person, unique over the parts of a rendering. tone: (clips,) index into ``SKIN_TONES``.
        profile: (clips,) index into ``PROFILES``.
        heat: float16 (clips, AUs, 8, 8) how far each action unit moves the skin in each cell of a crop in use; the largest cell is 1.
        landmarks: float32 (clips, frames, 478, 3) pixels of the frame, NaN where the landmarker found no face or was not used.
        boxes: (clips, frames, 4) pixels of the frame, NaN where no face was found.
    """

    crops: np.ndarray
    au: np.ndarray
    label: np.ndarray
    subject: np.ndarray
    tone: np.ndarray
    profile: np.ndarray
    heat: np.ndarray
    landmarks: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    def take(self, chosen: np.ndarray) -> RenderedFaces:
        """Some clips."""
        return RenderedFaces(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def of_profile(self, name: str) -> Bool[np.ndarray, " clips"]:
        """True for the clips of one profile."""
        return self.profile == PROFILES.index(name)

    def split_subjects(self) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " held"]]:
        """Clip numbers to train on and of held-out people (one in twelve)."""
        held = self.subject % 12 == 5
        return np.flatnonzero(~held), np.flatnonzero(held)


def read_shards(paths: Sequence[Path]) -> RenderedFaces:
    """Read all shards as one into memory (about 420 kB a clip).

    Raises:
        DataError: A shard was written by another version.
    """
    wanted = {field.name for field in fields(RenderedFaces)}
    columns: dict[str, list[np.ndarray]] = {}
    for path in paths:
        with safe_open(path, framework="numpy") as handle:
            if missing := sorted(wanted - set(handle.keys())):
                raise DataError(
                    f"{path.name} was rendered by another version (no {', '.join(missing)}); delete its folder and run the same command again"
                )
            for key in sorted(wanted):
                value = handle.get_tensor(key)
                columns.setdefault(key, []).append(value + _first_subject(path) if key == "subject" else value)
    return RenderedFaces(**{key: np.concatenate(value) for key, value in columns.items()})


def shard_name(part: int, number: int, *, has_landmarks: bool) -> str:
    """File name of a shard."""
    return f"part{part:02d}-{number:04d}{'' if has_landmarks else '-unmeasured'}.safetensors"


def _first_subject(path: Path) -> int:
    """People of different parts get different numbers."""
    return _PEOPLE_PER_PART * int(path.name.removeprefix("part").split("-")[0])
