"""Releases built by hand: folders of numbered pictures, and what a store of them looks like on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dferkit.schema import Finding, Fold, Record, Release

SIDE = 48


def picture(clip: int, frame: int, side: int = SIDE) -> np.ndarray:
    """Smooth colours that differ by clip, frame, place and channel."""
    y, x = np.mgrid[0:side, 0:side] / (side - 1)
    red = 40 + 170 * x
    green = 30 + 150 * y
    blue = np.full_like(x, 20 + 15 * (clip % 12)) + 4 * (frame % 10)
    return np.stack([red, green, blue], -1).round().astype(np.uint8)


def face_folders(root: Path, *, num_clips: int = 11, num_frames: int = 5, side: int = SIDE) -> Release:
    """Folders of PNG faces; clip 4 is empty, clip 7 missing (where there are so many)."""
    records = []
    for clip in range(num_clips):
        folder = root / "faces" / f"{clip:05d}"
        if clip != 7:
            folder.mkdir(parents=True)
        for frame in range(num_frames if clip not in (4, 7) else 0):
            Image.fromarray(picture(clip, frame, side)).save(folder / f"{frame + 1}.png")
        records.append(
            Record(
                clip_id=f"{clip:05d}",
                video=folder,
                label=("anger", "joy")[clip % 2],
                votes=(0.25, 0.75),
                attributes={"scene": "a"},
            )
        )
    ids = tuple(record.clip_id for record in records)
    return Release(
        layout="hand-made",
        labels=("anger", "joy"),
        records=tuple(records),
        folds=(Fold(name="1", train=ids[:-2], test=ids[-2:]),),
        media="faces",
        media_reason="the only one",
        media_kind="faces",
        annotation_digest="0" * 64,
        findings=(Finding(severity="note", code="X", message="hand-made"),),
    )


def files(store: Path) -> dict[str, bytes]:
    """Every file of a store, hidden ones too, with its bytes."""
    return {p.relative_to(store).as_posix(): p.read_bytes() for p in sorted(store.rglob("*")) if p.is_file()}
