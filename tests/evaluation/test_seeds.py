"""The mean over trainings, against sums written out and scikit-learn."""

from __future__ import annotations

import statistics
from dataclasses import replace

import numpy as np
import pytest
from scored_examples import imagined_clips
from sklearn.metrics import accuracy_score, recall_score

from dferkit.errors import DataError
from dferkit.evaluation.metrics import bootstrap_interval, uar
from dferkit.evaluation.scored import ScoredClips
from dferkit.evaluation.seeds import evaluate_seeds


@pytest.fixture(scope="module")
def trained() -> list[ScoredClips]:
    return [imagined_clips(seed=seed, skill=0.4 + seed / 10, has_subjects=True) for seed in range(3)]


def test_mean_and_spread(trained: list[ScoredClips]) -> None:
    found = evaluate_seeds(trained)
    uars = [recall_score(run.true, run.predicted, labels=range(7), average="macro", zero_division=0) for run in trained]
    wars = [accuracy_score(run.true, run.predicted) for run in trained]
    assert found.uar.value == pytest.approx(statistics.mean(uars))
    assert found.uar_sd == pytest.approx(statistics.stdev(uars))
    assert found.war.value == pytest.approx(statistics.mean(wars))
    assert found.war_sd == pytest.approx(statistics.stdev(wars))
    assert found.uar.low < found.uar.value < found.uar.high
    assert (found.num_clips, found.num_failed) == (240, 3 * 15)


def test_equal_trainings_have_the_interval_of_one(trained: list[ScoredClips]) -> None:
    one = trained[0]
    found = evaluate_seeds([one, one])
    assert found.uar_sd == 0
    expected = bootstrap_interval(uar, one.true, one.predicted, 7, groups=one.subjects)
    np.testing.assert_allclose([found.uar.low, found.uar.high], expected)


def test_trainings_that_differ_widen_the_interval(trained: list[ScoredClips]) -> None:
    """With every clip right in one training and wrong in the other, people do not matter: the drawn trainings alone give 0, ½ and 1."""
    right = np.eye(7)[trained[0].true]
    wrong = np.roll(right, 1, axis=1)
    found = evaluate_seeds([replace(trained[0], probabilities=p) for p in (right, wrong)])
    assert (found.uar.low, found.uar.value, found.uar.high) == (0.0, 0.5, 1.0)


def test_clips_in_another_order_are_matched_by_name(trained: list[ScoredClips]) -> None:
    turned = [trained[0], *(run.take(np.arange(240)[::-1]) for run in trained[1:])]
    assert evaluate_seeds(turned) == evaluate_seeds(trained)
    with pytest.raises(DataError, match="not the same clips"):
        evaluate_seeds([trained[0], trained[1].take(np.arange(100))])
