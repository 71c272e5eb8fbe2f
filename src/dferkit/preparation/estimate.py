"""What a preparation will take, from a few of its own clips."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from dferkit.errors import ConfigError
from dferkit.preparation.shards import CLIPS_PER_SHARD

TIMED_CLIPS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Expected cost of the clips that are not stored yet.

    Attributes:
        num_clips: Of this process, with those that are there already. num_pending: Without them.
        num_bytes: To be written. hours: On the wall, with ``workers`` processes. free_bytes: On the disk of the store.
    """

    num_clips: int
    num_pending: int
    num_bytes: int
    hours: float
    workers: int
    free_bytes: int

    def __str__(self) -> str:
        there = self.num_clips - self.num_pending
        clips = f"{self.num_clips:,} clips" + (f" ({there:,} are there already)" if there else "")
        processes = "1 process" if self.workers == 1 else f"{self.workers} processes"
        cost = f"about {in_bytes(self.num_bytes)} and {in_time(self.hours)} with {processes}"
        return f"{clips}, {cost}; {in_bytes(self.free_bytes)} are free"

    def require_space(self, folder: Path) -> None:
        """Refuse what would not fit.

        Raises:
            ConfigError: The disk has not enough space.
        """
        # While a shard is merged, its clips lie on the disk twice.
        needed = self.num_bytes * (1 + min(1.0, CLIPS_PER_SHARD / max(1, self.num_pending)))
        if needed > self.free_bytes:
            raise ConfigError(
                f"{folder.name}/ needs about {in_bytes(needed)}, but {in_bytes(self.free_bytes)} are free: "
                "make space, choose another disk, or keep less with --frames, --size or --quality"
            )


def free_bytes(folder: Path) -> int:
    """Free space where a folder is or will be."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(place).free


def spread(pending: list[int]) -> list[int]:
    """Up to ``TIMED_CLIPS`` of the pending clips, evenly over them."""
    count = min(TIMED_CLIPS, len(pending))
    return [pending[(2 * i + 1) * len(pending) // (2 * count)] for i in range(count)]


def in_bytes(count: float) -> str:
    """``12 GB``, ``340 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:.3g} TB"


def in_time(hours: float) -> str:
    """``3.1 h``, ``4 min``, ``12 s``."""
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"
