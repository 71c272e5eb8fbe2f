"""Rows of a data set as batches: padding, masks, and an order fixed by the seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dferkit.encoders.text import phrase_numbers
from dferkit.schema import TextTokens


def pad_texts(
    texts: Sequence[TextTokens],
) -> tuple[
    Float[Tensor, "batch words dim"],
    Bool[Tensor, "batch words"],
    Float[Tensor, "batch dim"],
    Int[Tensor, "batch words"],
]:
    """Texts padded to the longest: token vectors, which of them are real, one vector per text, and the phrase of each word."""
    words = max(len(t.pieces) for t in texts)
    values, mask = (
        torch.zeros(len(texts), words, texts[0].values.shape[1]),
        torch.zeros(len(texts), words, dtype=torch.bool),
    )
    for i, tokens in enumerate(texts):
        values[i, : len(tokens.values)] = tokens.values
        mask[i, : len(tokens.values)] = True
    return values, mask, torch.stack([t.sentence for t in texts]), phrase_numbers(texts, words)


def epoch_rows(
    clips: Int[np.ndarray, " rows"], *, batch: int, seed: int, epoch: int
) -> Iterator[Int[np.ndarray, " batch"]]:
    """Row numbers of the shuffled batches of one epoch, one view of every clip; a pure function of (seed, epoch).

    A rest smaller than half a batch is left out.

    Args:
        clips: Which clip each row is a view of.
    """
    order = draw_views(clips, np.random.default_rng([seed, epoch]))
    for first in range(0, len(order), batch):
        chosen = order[first : first + batch]
        if len(chosen) < batch // 2 and first:
            return
        yield chosen


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
