"""Scores over official folds: each fold, their mean and spread, and all clips pooled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dferkit.evaluation.scored import ScoredClips, evaluate_clips
from dferkit.schema import Evaluation


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldScores:
    """Scores over folds.

    The mean over folds is what papers report; pooled UAR is another number, since the mean of ratios is not the ratio
    of sums.

    Attributes:
        folds: Names, in the order of the clips.
        of_fold: One evaluation per fold.
        pooled: All clips together, with their interval.
        uar_mean, war_mean: Mean over folds.
        uar_sd, war_sd: Sample standard deviation over folds (n − 1); NaN with one fold. It measures how far folds lie
            apart, not how exact the mean is: the training sets of folds overlap.
    """

    folds: tuple[str, ...]
    of_fold: tuple[Evaluation, ...]
    pooled: Evaluation
    uar_mean: float
    uar_sd: float
    war_mean: float
    war_sd: float

    @property
    def num_folds(self) -> int:
        """How many folds there are."""
        return len(self.folds)


def evaluate_folds(clips: ScoredClips, *, seed: int = 0) -> FoldScores:
    """Scores of each fold and of all.

    Raises:
        DataError: No clips, or a clip is twice in one fold.
    """
    pooled = evaluate_clips(clips, seed=seed)
    folds = tuple(dict.fromkeys(clips.folds))
    names = np.array(clips.folds)
    of_fold = tuple(evaluate_clips(clips.take(names == fold), seed=seed) for fold in folds)
    uars, wars = np.array([e.uar for e in of_fold]), np.array([e.war for e in of_fold])
    return FoldScores(
        folds=folds,
        of_fold=of_fold,
        pooled=pooled,
        uar_mean=float(uars.mean()),
        uar_sd=_sample_sd(uars),
        war_mean=float(wars.mean()),
        war_sd=_sample_sd(wars),
    )


def _sample_sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")
