"""Action units → captions → text tokens, with guides that never saw the clip's own label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dferkit.captions import describe, refine
from dferkit.encoders.text import TextEncoder
from dferkit.models.checkpoint import Checkpoint
from dferkit.models.coarse import CoarseClassifier, fit_coarse, out_of_fold, unit_statistics
from dferkit.schema import ActionUnits, Caption, CoarsePrediction, TextTokens
from dferkit.tokens.dataset import TokenDataset

TOP_K = 3
CAPTION_SOURCE = "template"
"""Who wrote the captions: the offline template, from the describer's action units."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Captioned:
    """Text side of a set of clips, in their order. ``encoder_digest``: Of the text encoder."""

    coarse: tuple[Caption, ...]
    guides: tuple[CoarsePrediction, ...]
    captions: tuple[Caption, ...]
    tokens: tuple[TextTokens, ...]
    encoder_digest: str


def describe_clips(data: TokenDataset) -> list[Caption]:
    """Coarse captions, from the action units of the clips."""
    return [
        describe(ActionUnits(names=data.au_names, intensity=curves, timestamps=times, source=data.describer))
        for curves, times in zip(data.units, data.timestamps, strict=True)
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
        encoder_digest=encoder.digest,
    )


def fit_guide(data: TokenDataset) -> CoarseClassifier:
    """The coarse classifier of the clips."""
    return fit_coarse(_statistics(data), data.target, labels=data.labels)


def caption_training_clips(data: TokenDataset, encoder: TextEncoder) -> Captioned:
    """Captions of training clips, guided out of fold: no guide has learned from a clip of the same group."""
    guides = out_of_fold(_statistics(data), data.target, data.groups, labels=data.labels)
    return refine_all(describe_clips(data), guides, encoder, for_training=True)


def caption_other_clips(
    data: TokenDataset,
    coarse: CoarseClassifier,
    encoder: TextEncoder,
    *,
    top_k: int = TOP_K,
    for_training: bool = False,
) -> Captioned:
    """Captions of clips that the guide has never seen.

    Args:
        for_training: Another model is going to be trained on them.
    """
    guides = [coarse.guide(row, fold=-1, is_out_of_fold=True) for row in _statistics(data)]
    return refine_all(describe_clips(data), guides, encoder, for_training=for_training, top_k=top_k)


def caption_unseen(
    checkpoint: Checkpoint, data: TokenDataset, encoder: TextEncoder, *, for_training: bool = False
) -> Captioned:
    """Captions of clips that a checkpoint has never seen, as it writes them in use."""
    top_k = int(checkpoint.about["caption"]["top_k"])
    return caption_other_clips(data, checkpoint.coarse, encoder, top_k=top_k, for_training=for_training)


def with_texts(data: TokenDataset, captioned: Captioned) -> TokenDataset:
    """The clips with these captions."""
    return replace(data, texts=captioned.tokens, text_encoder_digest=captioned.encoder_digest)


def shuffle_texts(tokens: Sequence[TextTokens], *, seed: int) -> tuple[TextTokens, ...]:
    """Captions given to the wrong clips: a permutation without fixed points where possible."""
    return tuple(tokens[i] for i in _shuffled(len(tokens), [seed, len(tokens)]))


def shuffle_guides(side: Captioned, encoder: TextEncoder, *, seed: int, for_training: bool) -> Captioned:
    """The same descriptions, stressed by another clip's top-k."""
    order = _shuffled(len(side.guides), [seed, 7, len(side.guides)])
    return refine_all(side.coarse, [side.guides[i] for i in order], encoder, for_training=for_training)


def _shuffled(count: int, seed: list[int]) -> np.ndarray:
    order = np.random.default_rng(seed).permutation(count)
    back = np.empty_like(order)
    back[order] = np.roll(order, 1)
    return back


def _statistics(data: TokenDataset) -> np.ndarray:
    return unit_statistics(data.units.astype(np.float64))
