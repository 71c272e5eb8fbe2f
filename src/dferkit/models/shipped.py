"""The GRACE heads that ship in the bundled model, one per front end."""

from __future__ import annotations

from pathlib import Path

# Encoder → folder of its head.
HEADS = {"box": "grace", "landmarks": "grace-landmarks", "box+landmarks": "grace-combined"}
# What a user calls them; plain ``box`` leaves the choice to what is installed.
NAMES = {"box-pixels": "box", "box-landmarks": "landmarks", "box-combined": "box+landmarks"}


def head_folder(box: Path | str, encoder: str) -> Path:
    """Checkpoint folder of the head that reads an encoder's tokens."""
    return Path(box) / HEADS[encoder]
