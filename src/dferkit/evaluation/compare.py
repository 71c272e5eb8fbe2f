"""Is one system better than another on the same clips?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from dferkit.errors import DataError
from dferkit.evaluation.metrics import FEW_CLIPS, Estimate, paired_difference, uar, war
from dferkit.evaluation.scored import ScoredClips, evaluate_clips
from dferkit.schema import Evaluation


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two systems, A and B, on the same clips; differences are B minus A.

    Attributes:
        labels: Class names, in the order of A.
        a, b: Scores of each.
        uar, war: Differences; the interval is by subject where subjects are known.
        table: Number of clips by whether A (row) and B (column) is wrong (0) or right (1).
        mcnemar_p: Exact two-sided p-value of McNemar's test. It takes clips as independent: with several clips of one
            person trust the interval.
        clips_per_class: Clips of each true class.
        recall_difference: Per class; NaN for a class without clips.
        is_by_subject: Intervals are by subject.
    """

    labels: tuple[str, ...]
    a: Evaluation
    b: Evaluation
    uar: Estimate
    war: Estimate
    table: Int64[np.ndarray, "2 2"]
    mcnemar_p: float
    clips_per_class: Int64[np.ndarray, " classes"]
    recall_difference: Float64[np.ndarray, " classes"]
    is_by_subject: bool

    @property
    def num_clips(self) -> int:
        """Clips that both were scored on."""
        return self.a.num_clips

    def verdict(self) -> str:
        """The result in one sentence; from the intervals, which take subjects into account."""
        if self.num_clips < FEW_CLIPS:
            return f"{self.num_clips} clips are too few to decide which is better."
        shown = {name: d for name, d in (("UAR", self.uar), ("WAR", self.war)) if d.is_shown}
        if not shown:
            return f"No difference that these {self.num_clips} clips can show."
        better = {name: "B" if d.value > 0 else "A" for name, d in shown.items()}
        if len(set(better.values())) == 2:
            return f"{better['UAR']} has the higher UAR, but {better['WAR']} the higher WAR on these {self.num_clips} clips."
        winner = next(iter(better.values()))
        if len(shown) == 2:
            return f"{winner} is better on these {self.num_clips} clips, in UAR and WAR."
        name, other = ("UAR", "WAR") if "UAR" in shown else ("WAR", "UAR")
        return f"{winner} has the higher {name} on these {self.num_clips} clips; in {other} they show no difference."


def compare(a: ScoredClips, b: ScoredClips, *, seed: int = 0) -> Comparison:
    """Compare two systems on the same clips; clips and classes are matched by name.

    Subjects are taken from A, else from B.

    Raises:
        DataError: Other clips, other classes (restrict both to the shared ones first), or another true class of a clip.
    """
    b = b.in_label_order(a.labels).in_order_of(a)
    clash = np.flatnonzero(a.true != b.true)
    if len(clash):
        i = clash[0]
        raise DataError(
            f"{len(clash)} of {len(a.true)} clips have two true classes: {a.clip_ids[i]!r} is {a.labels[a.true[i]]} in the first and {a.labels[b.true[i]]} in the second; check the class orders"
        )
    subjects = a.subjects if a.subjects is not None else b.subjects
    scores_a, scores_b = evaluate_clips(a, seed=seed), evaluate_clips(b, seed=seed)
    is_right_a, is_right_b = a.predicted == a.true, b.predicted == b.true
    table = np.zeros((2, 2), dtype=np.int64)
    np.add.at(table, (is_right_a.astype(np.int64), is_right_b.astype(np.int64)), 1)
    args = (a.true, a.predicted, b.predicted, len(a.labels))
    differences = {
        statistic: Estimate(value=value, low=low, high=high)
        for statistic in (uar, war)
        for value, low, high in [paired_difference(*args, groups=subjects, statistic=statistic, seed=seed)]
    }
    return Comparison(
        labels=a.labels,
        a=scores_a,
        b=scores_b,
        uar=differences[uar],
        war=differences[war],
        table=table,
        mcnemar_p=mcnemar_exact(int(table[1, 0]), int(table[0, 1])),
        clips_per_class=np.bincount(a.true, minlength=len(a.labels)).astype(np.int64),
        recall_difference=scores_b.per_class_recall - scores_a.per_class_recall,
        is_by_subject=subjects is not None,
    )


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value of McNemar's test: twice the smaller tail of a fair coin, at most 1.

    Args:
        only_a, only_b: Clips that only A, or only B, has right.

    Raises:
        DataError: A negative number.
    """
    if min(only_a, only_b) < 0:
        raise DataError(f"counts are {only_a} and {only_b}, but must be 0 or more")
    n, k = only_a + only_b, min(only_a, only_b)
    # The largest term is a quotient of whole numbers, rounded once; the rest are its multiples, each a product of
    # ratios below 1. Logarithms of factorials would lose ten digits at n = 100,000.
    largest = math.comb(n, k) / (1 << n)
    down = np.arange(k, 0, -1, dtype=np.float64)
    return min(1.0, 2 * largest * (1.0 + float((down / (n - down + 1)).cumprod().sum())))
