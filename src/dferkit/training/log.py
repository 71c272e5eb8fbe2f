"""The log of a training: a CSV with a row per epoch."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from dferkit.storage import atomic_path

LOG = "training.csv"
_COLUMNS = ("epoch", "loss", "learning_rate", "val_uar")


def write_log(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write the rows anew."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=[name for name in _COLUMNS if name in rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
