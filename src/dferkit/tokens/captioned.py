"""Cached action units → captions → text tokens, with guides that never saw the clip's own label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dferkit.captions import describe, refine
from dferkit.encoders.text import TextEncoder
from dferkit.models.checkpoint import Checkpoint
from dferkit.models.coarse import CoarseClassifier, fit_coarse, out_of_fold, unit_statistics
from dferkit.schema import ActionUnits, Caption, CoarsePrediction, TextTokens

TOP_K = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Captioned:
    """Text side of a set of clips, in their order."""

    coarse: tuple[Caption, ...]
    guides: tuple[CoarsePrediction, ...]
    captions: tuple[Caption, ...]
    tokens: tuple[TextTokens, ...]


def describe_all(intensity: np.ndarray, timestamps: np.ndarray, names: tuple[str, ...], source: str) -> list[Caption]:
    """Coarse captions of (clips, frames, AUs) curves."""
    return [
        describe(ActionUnits(names=names, intensity=curves, timestamps=times, source=source))
        for curves, times in zip(intensity, timestamps, strict=True)
    ]


def refine_all(
    coarse: Sequence[Caption],
    guides: Sequence[CoarsePrediction],
    encoder: TextEncoder,
    *,
    for_training: bool,
    top_k: int = TOP_K,
) -> Captioned:
    """CATE's second step and the text tokens."""
    captions = [
        refine(caption, guide, top_k=top_k, for_training=for_training)
        for caption, guide in zip(coarse, guides, strict=True)
    ]
    return Captioned(
        coarse=tuple(coarse),
        guides=tuple(guides),
        captions=tuple(captions),
        tokens=tuple(encoder.encode_captions(captions)),
    )


def caption_unseen(
    checkpoint: Checkpoint,
    units: np.ndarray,
    timestamps: np.ndarray,
    names: tuple[str, ...],
    encoder: TextEncoder,
    *,
    for_training: bool = False,
) -> Captioned:
    """Captions of clips that a checkpoint has never seen, as it writes them in use.

    Args:
        for_training: Another model is going to be trained on them.
    """
    coarse = describe_all(units, timestamps, names, "box")
    top_k = int(checkpoint.about["caption"]["top_k"])
    return refine_all(coarse, test_guides(checkpoint.coarse, units), encoder, for_training=for_training, top_k=top_k)


def training_guides(
    units: np.ndarray, target: np.ndarray, subjects: np.ndarray, labels: tuple[str, ...]
) -> tuple[CoarseClassifier, list[CoarsePrediction]]:
    """The coarse classifier of all training clips, and out-of-fold guides for those same clips."""
    statistics = unit_statistics(units.astype(np.float64))
    return fit_coarse(statistics, target, labels=labels), out_of_fold(statistics, target, subjects, labels=labels)


def test_guides(coarse: CoarseClassifier, units: np.ndarray) -> list[CoarsePrediction]:
    """Guides for clips outside the training set."""
    statistics = unit_statistics(units.astype(np.float64))
    return [coarse.guide(row, fold=-1, is_out_of_fold=True) for row in statistics]
