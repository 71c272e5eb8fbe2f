"""Abstention: risk over coverage, and the threshold for a wanted accuracy.

Confidence is the probability of the most probable class. Clips without an answer are left out beforehand; report
their number with the figure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int

from dferkit.evaluation.metrics import checked_probabilities

# Share of right answers that an abstention threshold requires, without doubts and with one (``judgement``).
TARGET_ACCURACY, ACCURACY_IN_DOUBT = 0.8, 0.9
ABSTAIN_ALWAYS = 1.01
"""A threshold above every confidence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RiskCoverage:
    """Risk when only the most confident clips are answered; one step per different confidence, the most confident first.

    Clips of equal confidence are one step, since they have no order.

    Attributes:
        threshold: Answered are the clips with at least this confidence.
        coverage: Share of answered clips, rising to 1.
        risk: Share of wrong ones among the answered.
        area: AURC (Geifman, Uziel, El-Yaniv 2019): mean over the clips of the risk at their step, 0 to 1; lower is better.
    """

    threshold: Float64[np.ndarray, " steps"]
    coverage: Float64[np.ndarray, " steps"]
    risk: Float64[np.ndarray, " steps"]
    area: float


def risk_coverage(probabilities: Float[np.ndarray, "clips classes"], true: Int[np.ndarray, " clips"]) -> RiskCoverage:
    """Risk–coverage curve of answered clips.

    Raises:
        DataError: No clips, rows that are no probabilities, or class numbers out of range.
    """
    p = checked_probabilities(probabilities, true)
    threshold, step = np.unique(-p.max(1), return_inverse=True)
    size = np.bincount(step, minlength=len(threshold))
    wrong = np.bincount(step, weights=p.argmax(1) != true, minlength=len(threshold))
    risk = wrong.cumsum() / size.cumsum()
    return RiskCoverage(
        threshold=-threshold,
        coverage=size.cumsum() / len(p),
        risk=risk,
        area=float((size * risk).sum() / len(p)),
    )


def abstention_threshold(
    probabilities: Float[np.ndarray, "clips classes"],
    target: Int[np.ndarray, " clips"],
    *,
    accuracy: float = TARGET_ACCURACY,
) -> tuple[float, float]:
    """Smallest confidence from which on answers are right at least this often, and the share of clips that get one.

    Returns:
        The threshold in steps of .01, from .15 to .99; ``ABSTAIN_ALWAYS`` and 0 where none of them is enough.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == target
    for threshold in np.arange(0.15, 0.995, 0.01):
        kept = confidence >= threshold
        if kept.any() and right[kept].mean() >= accuracy:
            return round(float(threshold), 2), float(kept.mean())
    return ABSTAIN_ALWAYS, 0.0
