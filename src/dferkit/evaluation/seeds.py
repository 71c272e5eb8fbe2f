"""Scores of one model trained several times: the mean over trainings, with an interval over people and trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dferkit.evaluation.metrics import Estimate, mean_over_runs, uar, war
from dferkit.evaluation.scored import ScoredClips


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedScores:
    """Scores over trainings that differ in their seed only.

    Attributes:
        uar, war: Mean over trainings. The interval draws people (clips where no person is known) and trainings with replacement; every drawn training is
            scored on the same drawn people.
        uar_sd, war_sd: Sample standard deviation over trainings (n − 1).
        num_clips: Of one training. num_failed: Clips without an answer, summed over trainings.
    """

    uar: Estimate
    war: Estimate
    uar_sd: float
    war_sd: float
    num_clips: int
    num_failed: int

    def figures(self) -> dict[str, object]:
        """As ``summary.summarize`` names them, for a table."""
        return {
            "uar": self.uar.value,
            "war": self.war.value,
            "uar_ci95": [self.uar.low, self.uar.high],
            "war_ci95": [self.war.low, self.war.high],
            "uar_sd": self.uar_sd,
            "war_sd": self.war_sd,
            "num_clips": self.num_clips,
            "num_failed": self.num_failed,
        }


def evaluate_seeds(runs: Sequence[ScoredClips], *, seed: int = 0) -> SeedScores:
    """The mean over two or more trainings, tested on the same clips.

    Raises:
        DataError: Not the same clips.
    """
    first = runs[0]
    rows = [run.in_label_order(first.labels).in_order_of(first) for run in runs]
    people = first.clip_ids if first.subjects is None else first.subjects
    predicted = np.stack([run.predicted for run in rows])
    scores = {
        statistic: mean_over_runs(statistic, first.true, predicted, len(first.labels), groups=people, seed=seed)
        for statistic in (uar, war)
    }
    return SeedScores(
        uar=scores[uar][0],
        war=scores[war][0],
        uar_sd=scores[uar][1],
        war_sd=scores[war][1],
        num_clips=len(first.clip_ids),
        num_failed=int((predicted < 0).sum()),
    )
