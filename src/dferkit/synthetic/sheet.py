"""Contact sheet: people by expressions, to judge the faces by eye."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from dferkit.labels import BASIC
from dferkit.storage import atomic_path
from dferkit.synthetic.benchmark import BenchmarkConfig, draw_identity, generator
from dferkit.synthetic.motion import draw_performance
from dferkit.synthetic.render import render_frames


def contact_sheet(config: BenchmarkConfig, *, people: int = 8, size: int = 128) -> np.ndarray:
    """One row per person, one column per class (its most intense frame): uint8 RGB."""
    rows = []
    for subject in range(people):
        identity = draw_identity(config, subject)
        row = []
        for c, label in enumerate(BASIC):
            performance = draw_performance(
                label,
                frames=config.num_frames,
                fps=config.fps,
                profile=config.profile,
                rng=generator(config, 1, subject * len(BASIC) + c),
            )
            frames = render_frames(
                identity, performance.au, performance.asymmetry, performance.scene, size=size, noise_seed=subject
            )
            row.append(frames[int(performance.au.sum(1).argmax())])
        rows.append(np.concatenate(row, 1))
    return np.concatenate(rows, 0)


def write_sheet(config: BenchmarkConfig, path: Path | str) -> None:
    """Write the contact sheet as a PNG."""
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), contact_sheet(config)[..., ::-1])
