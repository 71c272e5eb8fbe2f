"""A picture of rendered clips that a model classified wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from dferkit.storage import atomic_path

_FRAMES = 4


def write_gallery(
    path: Path | str, clips: Sequence[UInt8[np.ndarray, "frames size size 3"]], titles: Sequence[str], *, title: str
) -> None:
    """One row of frames per clip, two clips side by side, each pair under its title; a JPEG."""
    from matplotlib.figure import Figure

    rows = -(-len(clips) // 2)
    figure = Figure(figsize=(2.2 * _FRAMES * 2 / 1.6, 1.75 * rows + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for part, (clip, text) in zip(
        figure.subfigures(rows, 2, squeeze=False).flat, zip(clips, titles, strict=True), strict=False
    ):
        part.suptitle(text, fontsize=8)
        chosen = np.linspace(0, len(clip) - 1, _FRAMES).round().astype(int)
        for axes, frame in zip(part.subplots(1, _FRAMES), chosen, strict=True):
            axes.imshow(clip[frame])
            axes.set_axis_off()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=90, format="jpeg", pil_kwargs={"quality": 80})
