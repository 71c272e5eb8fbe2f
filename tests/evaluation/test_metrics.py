import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy import stats
from sklearn import metrics as oracle

from dferkit.errors import ConfigError, DataError
from dferkit.evaluation.metrics import (
    WARNINGS,
    bootstrap_interval,
    brier,
    confusion_matrix,
    evaluate_predictions,
    expected_calibration_error,
    negative_log_likelihood,
    paired_difference,
    per_class_recall,
    spearman,
    uar,
    war,
)


def guesses(num_clips, num_classes, *, accuracy, seed):
    random = np.random.default_rng(seed)
    true = random.integers(num_classes, size=num_clips)
    return true, np.where(random.random(num_clips) < accuracy, true, random.integers(num_classes, size=num_clips))


@settings(max_examples=50, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_scores_equal_scikit_learn_with_absent_classes(pairs):
    true, predicted = np.array(pairs).T
    confusion = confusion_matrix(true, predicted, 5)
    assert np.array_equal(confusion, oracle.confusion_matrix(true, predicted, labels=range(5)))
    present = np.unique(true)
    recall = per_class_recall(confusion)
    assert np.array_equal(np.flatnonzero(~np.isnan(recall)), present)
    expected = oracle.recall_score(true, predicted, labels=present, average=None, zero_division=0)
    np.testing.assert_allclose(recall[present], expected)
    np.testing.assert_allclose(uar(confusion), expected.mean())
    np.testing.assert_allclose(war(confusion), oracle.accuracy_score(true, predicted))


def test_intervals_cover_and_are_reproducible():
    true, predicted = guesses(300, 7, accuracy=0.6, seed=0)
    point = float(war(confusion_matrix(true, predicted, 7)))
    low, high = bootstrap_interval(war, true, predicted, 7, seed=3)
    assert (low, high) == bootstrap_interval(war, true, predicted, 7, seed=3)
    # For a share the bootstrap is known: the binomial's quantiles.
    expected = np.array(stats.binom(300, point).ppf([0.025, 0.975])) / 300
    np.testing.assert_allclose((low, high), expected, atol=0.01)


def test_every_clip_its_own_group_equals_no_groups():
    true, predicted = guesses(200, 4, accuracy=0.7, seed=1)
    by_clip = bootstrap_interval(uar, true, predicted, 4)
    by_group = bootstrap_interval(uar, true, predicted, 4, groups=np.arange(200))
    np.testing.assert_allclose(by_clip, by_group, atol=0.01)


def test_groups_widen_the_interval_when_clips_repeat():
    true, predicted = guesses(40, 3, accuracy=0.6, seed=2)
    subjects = [f"s{i}" for i in range(40) for _ in range(10)]
    true, predicted = true.repeat(10), predicted.repeat(10)
    low, high = bootstrap_interval(war, true, predicted, 3, groups=subjects)
    narrow_low, narrow_high = bootstrap_interval(war, true, predicted, 3)
    assert high - low > 2 * (narrow_high - narrow_low)
    once = bootstrap_interval(war, true[::10], predicted[::10], 3)
    np.testing.assert_allclose((low, high), once, atol=0.03)


def test_grouped_bootstrap_equals_drawing_by_hand():
    true, predicted = guesses(60, 3, accuracy=0.5, seed=4)
    subject = np.random.default_rng(0).integers(6, size=60)
    random = np.random.default_rng(1)
    values = []
    for _ in range(2000):
        rows = np.concatenate([np.flatnonzero(subject == s) for s in random.integers(6, size=6)])
        values.append(float(uar(confusion_matrix(true[rows], predicted[rows], 3))))
    by_hand = np.quantile(values, [0.025, 0.975])
    np.testing.assert_allclose(bootstrap_interval(uar, true, predicted, 3, groups=subject), by_hand, atol=0.02)


@pytest.mark.parametrize("groups", [None, np.arange(1000) // 10, np.arange(1000)])
def test_bootstrap_is_fast(groups):
    true, predicted = guesses(1000, 11, accuracy=0.5, seed=0)
    start = time.process_time()
    bootstrap_interval(uar, true, predicted, 11, groups=groups)
    assert time.process_time() - start < 1


def test_paired_difference():
    true, a = guesses(400, 5, accuracy=0.5, seed=0)
    b = np.where(np.random.default_rng(1).random(400) < 0.15, true, a)  # b repairs some of a's mistakes.
    expected = uar(confusion_matrix(true, b, 5)) - uar(confusion_matrix(true, a, 5))
    difference, low, high = paired_difference(true, a, b, 5)
    assert difference == pytest.approx(expected)
    assert 0 < low < difference < high
    low_a, high_a = bootstrap_interval(uar, true, a, 5)
    assert high - low < high_a - low_a  # Pairing pays.
    assert paired_difference(true, b, a, 5)[0] == pytest.approx(-difference)
    assert paired_difference(true, a, a, 5, groups=np.arange(400) // 8) == (0.0, 0.0, 0.0)
    failed = np.where(np.arange(400) % 2, a, -1)
    difference = paired_difference(true, failed, a, 5, statistic=war)[0]
    assert difference == pytest.approx(np.mean(a == true) - np.mean(failed == true))


def test_evaluate_predictions():
    true = np.array([0, 0, 1, 1, 1, 0])
    predicted = np.array([0, 1, 1, 1, -1, 0])
    found = evaluate_predictions(("x", "y", "z"), true, predicted, subjects=["a", "a", "b", "b", "c", "c"])
    np.testing.assert_allclose(found.per_class_recall, [2 / 3, 2 / 3, np.nan])
    assert found.uar == pytest.approx(2 / 3)
    assert found.war == pytest.approx(4 / 6)
    assert found.confusion.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert (found.num_clips, found.num_failed) == (6, 1)
    assert found.warnings == ("W_FEW_CLIPS", "W_CLASS_ABSENT", "W_FAILED_CLIPS", "W_FEW_SUBJECTS")
    assert found.uar_ci95[0] <= found.uar <= found.uar_ci95[1]
    probabilities = np.full((6, 3), 0.1)
    probabilities[range(6), predicted] = 0.8
    probabilities[4] = np.nan
    again = evaluate_predictions(("x", "y", "z"), true, probabilities)
    assert (again.uar, again.war, again.num_failed) == (found.uar, found.war, 1)
    assert again.warnings == ("W_FEW_CLIPS", "W_CLASS_ABSENT", "W_FAILED_CLIPS", "W_NO_SUBJECTS")
    assert set(found.warnings) | set(again.warnings) == set(WARNINGS)
    assert evaluate_predictions(("x",), np.zeros(30, int), np.zeros(30, int)).warnings == ("W_NO_SUBJECTS",)


@settings(max_examples=50, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 5), st.floats(-3, 3)), min_size=2, max_size=30))
def test_spearman_equals_scipy(pairs):
    x, y = np.array(pairs).T
    ours = spearman(x, y)
    if len(np.unique(x)) == 1 or len(np.unique(y)) == 1:
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(stats.spearmanr(x, y).statistic)


def test_probability_scores():
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(4), size=2000)
    true = np.array([random.choice(4, p=row) for row in p])
    assert negative_log_likelihood(p, true) == pytest.approx(oracle.log_loss(true, p, labels=range(4)))
    by_class = [oracle.brier_score_loss(true == k, p[:, k]) for k in range(4)]
    assert brier(p, true) == pytest.approx(sum(by_class))
    assert expected_calibration_error(p, true) < 0.05  # Drawn from p, so p is calibrated.
    sure = np.eye(4)[np.zeros(10, dtype=int)]
    right = np.array([0] * 7 + [1] * 3)
    assert expected_calibration_error(sure, right, num_bins=1) == pytest.approx(0.3)
    assert brier(sure, right) == pytest.approx(0.6)
    assert negative_log_likelihood(sure, right) == pytest.approx(-0.3 * np.log(1e-12))


def test_unusable_data_are_refused():
    ok = np.array([0, 1])
    for true, predicted in (
        ([], []),
        ([0, 2], [0, 1]),
        ([-1, 0], [0, 1]),
        ([0, 1], [0, -2]),
        ([0, 1], [0, 2]),
    ):
        with pytest.raises(DataError):
            confusion_matrix(np.array(true, dtype=int), np.array(predicted, dtype=int), 2)
    with pytest.raises((DataError, TypeCheckError)):  # Whichever looks first.
        confusion_matrix(ok, ok[:1], 2)
    with pytest.raises(DataError, match="one per clip"):
        bootstrap_interval(uar, ok, ok, 2, groups=["a"])
    with pytest.raises(ConfigError, match="num_bins"):
        expected_calibration_error(np.eye(2), ok, num_bins=0)
    with pytest.raises(DataError, match="labels"):
        evaluate_predictions(("a", "b"), ok, np.ones((2, 3)) / 3)
    for p in (np.eye(2) * 2, np.array([[1.5, -0.5], [0.0, 1.0]]), np.full((2, 2), np.nan)):
        with pytest.raises(DataError):
            brier(p, ok)
    with pytest.raises(DataError, match="without NaN"):
        spearman(np.array([0.0, np.nan]), np.array([0.0, 1.0]))
