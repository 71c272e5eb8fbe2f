"""Batches of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dferkit.labels import BASIC
from dferkit.schema import Record, TextTokens
from dferkit.tokens.dataset import TokenDataset


def text(*seconds: tuple[float, float]) -> TextTokens:
    values = torch.zeros(2, 3)
    return TextTokens(
        values=values, sentence=values[0], pieces=("a", "b"), spans=((0, 1), (2, 3)), encoder="test", phrase_seconds=seconds
    )  # fmt: skip


def test_a_step_belongs_to_a_phrase_if_its_middle_lies_in_the_phrases_time() -> None:
    """Two clips of eight samples in four steps; the second one begins at 10 s and has one phrase less."""
    starts, steps = np.array([0.0, 10.0]), np.arange(8) / 4
    data = TokenDataset(
        records=tuple(Record(clip_id=str(i), video=Path(), label="anger") for i in range(2)),
        labels=BASIC,
        target=np.zeros(2, np.int64),
        groups=np.array(["a", "b"]),
        visual=torch.zeros(2, 4, 9, 5).half(),
        texts=(text((0.0, 0.6), (1.0, 2.0)), text((10.5, 11.0))),
        units=np.zeros((2, 8, 0), np.float32),
        timestamps=starts[:, None] + steps,
        view=np.zeros(2, np.int64),
    )
    found = data.batch(slice(0, 2)).phrase_steps
    assert found is not None  # middles: .125, .625, 1.125, 1.625 s after the start
    assert found.tolist() == [
        [[True, False, False, False], [False, False, True, True]],
        [[False, True, False, False], [False, False, False, False]],
    ]
