"""The GRACE heads of the bundled model, one per front end."""

from __future__ import annotations

from pathlib import Path

# Front end → folder of its head.
HEADS = {"pixels": "grace", "landmarks": "grace-landmarks", "both": "grace-combined"}
# Names of the bundled model with a fixed front end; with plain ``box``, ``--front-end`` chooses.
NAMES = {"box-pixels": "pixels", "box-landmarks": "landmarks", "box-combined": "both"}


def head_folder(box: Path | str, front_end: str) -> Path:
    """Checkpoint folder of a front end's head."""
    return Path(box) / HEADS[front_end]
