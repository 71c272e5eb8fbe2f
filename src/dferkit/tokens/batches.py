"""Cached tokens as batches: padding, masks, and an order fixed by the seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dferkit.encoders.text import phrase_numbers
from dferkit.schema import TextTokens
from dferkit.tokens.rows import TokenRows


@dataclass(frozen=True, slots=True)
class Batch:
    """What a model sees at once; padding words are False in ``text_mask``, ``phrases`` numbers the phrase of each word."""

    visual: Float[Tensor, "batch frames patches visual_dim"]
    text: Float[Tensor, "batch words text_dim"]
    text_mask: Bool[Tensor, "batch words"]
    sentence: Float[Tensor, "batch text_dim"]
    target: Int[Tensor, " batch"]
    phrases: Int[Tensor, "batch words"]
    summary: Float[Tensor, "batch frames summary_dim"] | None = None
    motion: Float[Tensor, "batch frames patches"] | None = None
    shares: Float[Tensor, "batch classes"] | None = None


def collate(
    visual: Tensor,
    texts: Sequence[TextTokens],
    target: Tensor,
    *,
    summary: Tensor | None = None,
    motion: Tensor | None = None,
    shares: Tensor | None = None,
) -> Batch:
    """Pad the texts of a batch to the longest."""
    words = max(len(t.pieces) for t in texts)
    dim = texts[0].values.shape[1]
    text, mask = torch.zeros(len(texts), words, dim), torch.zeros(len(texts), words, dtype=torch.bool)
    for i, tokens in enumerate(texts):
        text[i, : len(tokens.values)] = tokens.values
        mask[i, : len(tokens.values)] = True
    whole = None if summary is None else summary.float()
    return Batch(
        visual.float(),
        text,
        mask,
        torch.stack([t.sentence for t in texts]),
        target,
        phrase_numbers(texts, words),
        whole,
        motion,
        shares,
    )


def epoch_batches(
    visual: Tensor | TokenRows,
    texts: Sequence[TextTokens],
    target: Tensor,
    *,
    batch: int,
    seed: int,
    epoch: int,
    summary: Tensor | None = None,
    motion: Tensor | None = None,
    shares: Tensor | None = None,
    clips: Int[np.ndarray, " rows"] | None = None,
) -> Iterator[Batch]:
    """Shuffled batches of one epoch, a pure function of (seed, epoch); a rest smaller than half a batch is left out.

    Args:
        clips: Which clip each row is a view of; by default every row is a clip.
    """
    clips = np.arange(len(target)) if clips is None else clips
    order = draw_views(clips, np.random.default_rng([seed, epoch]))
    for first in range(0, len(order), batch):
        chosen = order[first : first + batch]
        if len(chosen) < batch // 2 and first:
            return
        index = torch.from_numpy(chosen)
        whole, moving, soft = (None if part is None else part[index] for part in (summary, motion, shares))
        yield collate(
            visual[index], [texts[i] for i in chosen], target[index], summary=whole, motion=moving, shares=soft
        )


def number_clips(clip_ids: Sequence[str]) -> Int[np.ndarray, " rows"]:
    """Number of each row's clip, from 0, in the order in which they first appear."""
    numbers = {clip_id: number for number, clip_id in enumerate(dict.fromkeys(clip_ids))}
    return np.array([numbers[clip_id] for clip_id in clip_ids], dtype=np.int64)


def draw_views(clips: Int[np.ndarray, " rows"], rng: np.random.Generator) -> Int[np.ndarray, " clips"]:
    """One row of every clip, drawn evenly from its views, in random order.

    Args:
        clips: Number of each row's clip, every number from 0 up at least once.
    """
    counts = np.bincount(clips)
    rows, firsts = np.argsort(clips, kind="stable"), np.cumsum(counts) - counts
    order = rng.permutation(len(counts))
    return rows[firsts[order] + rng.integers(counts[order])]


def rate_of_cycle(progress: float, warmup: float) -> float:
    """Share of the highest learning rate: a linear rise, then a cosine to a hundredth. ``progress`` and ``warmup`` are shares of the cycle."""
    if progress < warmup:
        return max(progress / warmup, 0.02)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
