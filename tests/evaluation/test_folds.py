import statistics
from dataclasses import replace

import numpy as np
import pytest
from scored_examples import imagined_clips
from sklearn import metrics as oracle

from dferkit.errors import DataError
from dferkit.evaluation.folds import evaluate_folds


def test_folds_mean_spread_and_pooled_equal_scikit_learn():
    clips = imagined_clips(700, num_present=6)
    found = evaluate_folds(clips)
    predicted = np.where(clips.predicted < 0, 7, clips.predicted)
    folds = np.array(clips.folds)

    def scores(rows):
        labels = np.unique(clips.true[rows])
        recall = oracle.recall_score(clips.true[rows], predicted[rows], labels=labels, average="macro", zero_division=0)
        return recall, oracle.accuracy_score(clips.true[rows], predicted[rows])

    uars, wars = zip(*(scores(folds == f"fd{i}") for i in range(1, 6)), strict=True)
    assert found.folds == ("fd1", "fd2", "fd3", "fd4", "fd5")
    assert found.num_folds == 5
    np.testing.assert_allclose([e.uar for e in found.of_fold], uars, rtol=0, atol=1e-12)
    np.testing.assert_allclose([e.war for e in found.of_fold], wars, rtol=0, atol=1e-12)
    assert found.uar_mean == pytest.approx(statistics.mean(uars), abs=1e-12)
    assert found.uar_sd == pytest.approx(statistics.stdev(uars), abs=1e-12)
    assert found.war_mean == pytest.approx(statistics.mean(wars), abs=1e-12)
    assert found.war_sd == pytest.approx(statistics.stdev(wars), abs=1e-12)
    pooled = scores(np.arange(700))
    assert (found.pooled.uar, found.pooled.war) == pytest.approx(pooled, abs=1e-12)
    assert abs(found.uar_mean - found.pooled.uar) > 1e-6  # they are two numbers
    assert found.pooled.uar_ci95[0] < found.pooled.uar < found.pooled.uar_ci95[1]


def test_one_fold_has_no_spread():
    found = evaluate_folds(imagined_clips(50, num_folds=1))
    assert found.num_folds == 1
    assert np.isnan(found.uar_sd)
    assert np.isnan(found.war_sd)
    assert found.uar_mean == found.pooled.uar


def test_a_clip_of_two_folds_counts_in_both_but_not_twice_in_one():
    clips = imagined_clips(20, num_folds=0)
    with pytest.raises(DataError, match="more than once"):
        evaluate_folds(clips.take(np.r_[0:20, 0:20]))
    both = clips.take(np.r_[0:20, 0:20])
    both = replace(both, folds=("a",) * 20 + ("b",) * 20)
    assert evaluate_folds(both).pooled.num_clips == 40
