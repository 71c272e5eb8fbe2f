"""One table of models: the same tokens, capacity and budget for every row, controls included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dferkit.encoders.text import TextEncoder
from dferkit.models.coarse import CoarseClassifier
from dferkit.schema import Caption, TextTokens
from dferkit.tokens.batches import number_clips
from dferkit.tokens.captioned import Captioned, describe_all, refine_all, test_guides, training_guides
from dferkit.tokens.features import Features
from dferkit.tokens.rows import TokenRows, take_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSet:
    """Labelled clips with cached tokens; a row per clip, or per view of one.

    Attributes:
        motion: Measured motion weights, for models that read them.
        target: Index into ``labels``. subjects: Names; clips of one name are never in two folds.
    """

    visual: Tensor | TokenRows
    summary: Tensor
    units: np.ndarray
    timestamps: np.ndarray
    target: np.ndarray
    subjects: np.ndarray
    au_names: tuple[str, ...]
    grid: tuple[int, int]
    areas: tuple[str, ...]
    labels: tuple[str, ...]
    clip_ids: tuple[str, ...] = ()
    motion: Tensor | None = None

    @property
    def clips(self) -> np.ndarray:
        """Number of each row's clip: views of one clip have one number."""
        return number_clips(self.clip_ids) if self.clip_ids else np.arange(len(self.target))

    @property
    def first_rows(self) -> np.ndarray:
        """The first row of every clip."""
        return np.unique(self.clips, return_index=True)[1]

    def visual_in_memory(self) -> Tensor:
        """All visual tokens as one tensor."""
        return self.visual.load() if isinstance(self.visual, TokenRows) else self.visual

    def take(self, chosen: np.ndarray) -> ClipSet:
        """Some clips."""
        ids = tuple(self.clip_ids[i] for i in chosen) if self.clip_ids else ()
        return replace(
            self,
            visual=take_rows(self.visual, chosen),
            summary=self.summary[torch.from_numpy(chosen)],
            units=self.units[chosen],
            timestamps=self.timestamps[chosen],
            target=self.target[chosen],
            subjects=self.subjects[chosen],
            clip_ids=ids,
            motion=None if self.motion is None else self.motion[torch.from_numpy(chosen)],
        )


def clip_set(features: Features, labels: tuple[str, ...]) -> ClipSet:
    """Labelled features; a clip without a subject stands for a person of its own."""
    return ClipSet(
        visual=features.visual,
        summary=features.summary,
        units=features.units,
        timestamps=features.timestamps,
        target=np.array([labels.index(str(r.label)) for r in features.records]),
        subjects=np.array([r.subject or f"clip:{r.clip_id}" for r in features.records]),
        au_names=features.au_names,
        grid=features.grid,
        areas=features.areas,
        labels=labels,
        clip_ids=tuple(r.clip_id for r in features.records),
        motion=features.motion,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSides:
    """Captions of both sides of a split, and the classifier that guided them."""

    coarse: CoarseClassifier
    train: Captioned
    test: Captioned


def caption_split(train: ClipSet, test: ClipSet, encoder: TextEncoder) -> TextSides:
    """Describe, guide (out of fold for training clips) and refine both sides."""
    coarse, guides = training_guides(train.units, train.target, train.subjects, train.labels)
    described = [describe_all(side.units, side.timestamps, side.au_names, "box") for side in (train, test)]
    return TextSides(
        coarse=coarse,
        train=refine_all(described[0], guides, encoder, for_training=True),
        test=refine_all(described[1], test_guides(coarse, test.units), encoder, for_training=False),
    )


def shuffle_texts(tokens: Sequence[TextTokens], *, seed: int) -> list[TextTokens]:
    """Captions given to the wrong clips: a permutation without fixed points where possible."""
    order = np.random.default_rng([seed, len(tokens)]).permutation(len(tokens))
    back = np.empty_like(order)
    back[order] = np.roll(order, 1)
    return [tokens[i] for i in back]


def shuffled_topk(side: Captioned, encoder: TextEncoder, *, seed: int, for_training: bool) -> Captioned:
    """The same descriptions, stressed by another clip's top-k."""
    order = np.random.default_rng([seed, 7, len(side.guides)]).permutation(len(side.guides))
    back = np.empty_like(order)
    back[order] = np.roll(order, 1)
    return refine_all(side.coarse, [side.guides[i] for i in back], encoder, for_training=for_training)


def guided(coarse: Sequence[Caption], side: Captioned, encoder: TextEncoder, *, for_training: bool) -> Captioned:
    """Other descriptions of the same clips, stressed by the same guides."""
    return refine_all(coarse, side.guides, encoder, for_training=for_training)
