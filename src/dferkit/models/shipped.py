"""The GRACE heads that ship in a box, one per front end."""

from __future__ import annotations

from pathlib import Path

# Encoder → folder of its head.
HEADS = {"box": "grace", "landmarks": "grace-landmarks", "box+landmarks": "grace-combined"}


def head_folder(box: Path | str, encoder: str) -> Path:
    """Checkpoint folder of the head that reads an encoder's tokens."""
    return Path(box) / HEADS[encoder]
