"""Tests of an explanation: cells or words that it ranks high are removed, and the fall of the answer's probability is compared with random orders."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from dferkit.errors import DataError
from dferkit.schema import DeletionTest

FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)

KeepProbability = Callable[[np.ndarray], np.ndarray]
"""Boolean masks (batch, …), True for what is kept → probability of the predicted class (batch,)."""


def deletion_test(
    probability: KeepProbability,
    ranking: Float[np.ndarray, "frames rows columns"],
    *,
    fractions: Sequence[float] = FRACTIONS,
    num_orders: int = 20,
    seed: int = 0,
    batch_size: int = 32,
) -> DeletionTest:
    """Remove the highest-ranked cells first, and random ones for comparison.

    Args:
        probability: Of the class that was predicted on the whole clip, for masks (batch, frames, rows, columns) of the
            cells that are kept. How a removed cell is filled is the caller's choice.
        ranking: Higher goes first. Equal values go in a random order drawn from ``seed``, so that a flat ranking is
            a random order and not one from the top left.
        fractions: Shares of the cells that are removed, rising from 0.
        num_orders: Random orders.
        batch_size: Masks per call.

    Raises:
        DataError: Fractions that do not rise from 0 to below or at 1, a ranking with NaN, or answers that are no
            probabilities.
    """
    steps = np.asarray(fractions, dtype=np.float64)
    if len(steps) < 2 or steps[0] != 0 or (np.diff(steps) <= 0).any() or steps[-1] > 1:
        raise DataError(f"fractions rise from 0 to at most 1, got {tuple(fractions)}")
    if num_orders < 1:
        raise DataError(f"num_orders is at least 1, got {num_orders}")
    ranking = np.asarray(ranking, dtype=np.float64)
    if np.isnan(ranking).any():
        raise DataError("the ranking has NaN values")
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(ranking.size)
    ranked = shuffled[np.argsort(-ranking.ravel()[shuffled], kind="stable")]
    orders = [ranked, *(generator.permutation(ranking.size) for _ in range(num_orders))]
    counts = [math.floor(fraction * ranking.size + 0.5) for fraction in steps[1:]]
    masks = np.ones((1 + len(orders) * len(counts), ranking.size), dtype=bool)
    for i, order in enumerate(orders):
        for j, count in enumerate(counts):
            masks[1 + i * len(counts) + j, order[:count]] = False
    answers = _ask(probability, masks.reshape(-1, *ranking.shape), batch_size)
    curves = np.full((len(orders), len(steps)), answers[0])
    curves[:, 1:] = answers[1:].reshape(len(orders), len(counts))
    return DeletionTest(
        fractions=steps,
        ranked_probability=curves[0],
        random_probability=curves[1:],
        drop=float((curves[1:] - curves[0]).mean()),  # In this order a constant answer gives exactly 0.
    )


def occlusion(
    probability_without: KeepProbability, num_phrases: int, *, batch_size: int = 32
) -> Float[np.ndarray, " phrases"]:
    """How much the predicted class depends on each phrase: its probability with all of them minus that without the phrase.

    Args:
        probability_without: Of the predicted class, for masks (batch, phrases) of the phrases that are kept.
    """
    if num_phrases == 0:
        return np.zeros(0)
    keep = np.ones((1 + num_phrases, num_phrases), dtype=bool)
    keep[1:][np.eye(num_phrases, dtype=bool)] = False
    answers = _ask(probability_without, keep, batch_size)
    return answers[0] - answers[1:]


def summarise_deletion(tests: Sequence[DeletionTest], *, num_resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Deletion tests of several clips in one statement.

    Returns:
        ``num_clips``, ``mean_drop`` with ``low`` and ``high`` (95 % percentile bootstrap over clips), ``median_drop``,
        ``share_above_chance`` (clips with a drop above 0), ``sign_test_p`` (two-sided and exact; clips with a drop of 0
        are left out), and where all tests have the same fractions the mean curves: ``fractions``, ``ranked``,
        ``random``.
    """
    if not tests:
        return {"num_clips": 0}
    drops = np.array([test.drop for test in tests], dtype=np.float64)
    picks = np.random.default_rng(seed).integers(len(drops), size=(num_resamples, len(drops)))
    low, high = np.quantile(drops[picks].mean(1), [0.025, 0.975])
    summary: dict[str, Any] = {
        "num_clips": len(drops),
        "mean_drop": float(drops.mean()),
        "low": float(low),
        "high": float(high),
        "median_drop": float(np.median(drops)),
        "share_above_chance": float((drops > 0).mean()),
        "sign_test_p": _sign_test(int((drops > 0).sum()), int((drops < 0).sum())),
    }
    first = tests[0].fractions
    if all(np.array_equal(test.fractions, first) for test in tests):
        summary["fractions"] = [float(value) for value in first]
        summary["ranked"] = [float(v) for v in np.mean([test.ranked_probability for test in tests], axis=0)]
        summary["random"] = [float(v) for v in np.mean([test.random_probability.mean(0) for test in tests], axis=0)]
    return summary


def _sign_test(above: int, below: int) -> float:
    """Two-sided exact binomial p-value of ``above`` against ``below`` at even odds; 1 without any."""
    total = above + below
    tail = sum(math.comb(total, k) for k in range(min(above, below) + 1))
    return min(1.0, 2 * tail / 2**total)


def _ask(probability: KeepProbability, masks: np.ndarray, batch_size: int) -> Float[np.ndarray, " masks"]:
    if batch_size < 1:
        raise DataError(f"batch_size is at least 1, got {batch_size}")
    parts = []
    for start in range(0, len(masks), batch_size):
        batch = masks[start : start + batch_size]
        part = np.asarray(probability(batch), dtype=np.float64)
        if part.shape != (len(batch),):
            raise DataError(f"expected {len(batch)} probabilities, one per mask, got an array of shape {part.shape}")
        parts.append(part)
    answers = np.concatenate(parts)
    if not ((answers >= -1e-6) & (answers <= 1 + 1e-6)).all():
        raise DataError("the answers are not probabilities between 0 and 1")
    return answers
