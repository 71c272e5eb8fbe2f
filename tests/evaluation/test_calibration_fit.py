"""Temperature and calibration figures against closed forms, grids, and planted truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from dferkit.errors import DataError
from dferkit.evaluation.calibration import (
    LEAST_TEMPERATURE,
    MOST_TEMPERATURE,
    at_temperature,
    bootstrap_estimate,
    compare_calibration,
    cross_fit,
    error_if_calibrated,
    fit_temperature,
    reliability_bins,
    resample,
)
from dferkit.evaluation.metrics import expected_calibration_error


def drawn(clips: int, *, sharpened: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose true temperature is ``sharpened``: classes are drawn from the softmax before they are multiplied."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(clips, 7)) * 2
    p = softmax(logits, axis=1)
    true = (random.random((clips, 1)) > p.cumsum(1)).sum(1).clip(max=6)
    return logits * sharpened, true


def test_probabilities_are_those_of_scipy() -> None:
    logits, _ = drawn(9)
    np.testing.assert_allclose(at_temperature(logits, 1.7), softmax(logits / 1.7, axis=1), rtol=0, atol=1e-15)
    assert at_temperature(np.array([1e4, 0.0]), 0.05).tolist() == [1.0, 0.0]


def test_two_classes_of_one_margin_have_a_closed_form() -> None:
    """Every clip has logits (m, 0); k of n are right: σ(m / T) = k / n, so T = m / log(k / (n − k))."""
    for margin, right, clips in ((2.0, 15, 20), (0.3, 11, 20), (5.0, 99, 100)):
        logits = np.tile([margin, 0.0], (clips, 1))
        found = fit_temperature(logits, (np.arange(clips) >= right).astype(int))
        assert found.value == pytest.approx(margin / np.log(right / (clips - right)), rel=1e-10)
        share = right / clips
        entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
        assert found.negative_log_likelihood == pytest.approx(entropy, rel=1e-10)
        assert not found.is_at_bound


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_minimum_of_a_grid_and_of_scipy(seed: int) -> None:
    logits, true = drawn(60, sharpened=[0.4, 1.0, 3.0][seed % 3], seed=seed)

    def nll(temperature: float) -> float:
        return -log_softmax(logits / temperature, axis=1)[np.arange(len(true)), true].mean()

    found = fit_temperature(logits, true)
    assert found.negative_log_likelihood == pytest.approx(nll(found.value), rel=1e-12)
    assert found.negative_log_likelihood <= min(nll(t) for t in np.geomspace(0.06, 19, 4000)) + 1e-12
    best = minimize_scalar(lambda b: nll(1 / b), bounds=(0.05, 20), method="bounded", options={"xatol": 1e-10})
    assert found.value == pytest.approx(1 / best.x, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_planted_sharpening_is_recovered(temperature: float) -> None:
    logits, true = drawn(20_000, sharpened=temperature)
    assert fit_temperature(logits, true).value == pytest.approx(temperature, rel=0.03)


def test_what_clips_cannot_tell_ends_at_a_bound() -> None:
    logits = np.eye(7)[np.arange(30) % 7] * 3
    always = fit_temperature(logits, np.arange(30) % 7)
    assert (always.value, always.is_at_bound) == (LEAST_TEMPERATURE, True)
    never = fit_temperature(logits, (np.arange(30) + 1) % 7)
    assert (never.value, never.is_at_bound) == (MOST_TEMPERATURE, True)


def test_a_shift_of_all_logits_changes_nothing() -> None:
    logits, true = drawn(50)
    assert fit_temperature(logits + 1e3, true).value == pytest.approx(fit_temperature(logits, true).value, rel=1e-9)


def test_wrong_input_is_refused() -> None:
    logits, true = drawn(20)
    with pytest.raises(DataError, match="not finite"):
        fit_temperature(np.where(np.arange(20)[:, None] == 3, np.nan, logits), true)
    with pytest.raises(DataError, match="run from"):
        fit_temperature(logits, true + 7)
    with pytest.raises(DataError):
        fit_temperature(logits[:0], true[:0])
    with pytest.raises(DataError, match="at least 2"):
        cross_fit(logits, true, np.zeros(20, int))


def test_cross_fit_never_sees_the_own_fold() -> None:
    """Another truth in a fold changes the temperature of all other folds, and not of its own."""
    logits, true = drawn(90, sharpened=2)
    fold_of = np.arange(90) % 3
    first = cross_fit(logits, true, fold_of)
    other = cross_fit(logits, np.where(fold_of == 1, (true + 1) % 7, true), fold_of)
    same = [a.value == b.value for a, b in zip(first.temperatures, other.temperatures, strict=True)]
    assert same == [False, True, False]
    expected = fit_temperature(logits[fold_of != 2], true[fold_of != 2]).value
    np.testing.assert_array_equal(first.probabilities[fold_of == 2], at_temperature(logits[fold_of == 2], expected))


def test_calibration_error_and_its_bins_by_hand() -> None:
    """Four clips, two bins: (|.5 + .6 − 1| + |.8 + .9 − 1|) / 4."""
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.5, 0.5]])
    true = np.array([0, 0, 1, 1])
    bins = reliability_bins(p, true, num_bins=2)
    np.testing.assert_allclose(bins.confidence, [(0.5 + 0.6) / 2, (0.8 + 0.9) / 2])
    assert bins.num_right.tolist() == [1, 1]
    assert bins.num_clips.tolist() == [2, 2]
    by_hand = (abs(0.5 + 0.6 - 1) + abs(0.8 + 0.9 - 1)) / 4
    assert expected_calibration_error(p, true, num_bins=2) == pytest.approx(by_hand, abs=1e-15)


def test_fifteen_bins_by_hand() -> None:
    """Thirty clips: pairs of one confidence, of which one is right in each."""
    confidence = np.repeat(np.linspace(0.55, 0.97, 15), 2)
    p = np.stack([confidence, 1 - confidence], 1)
    true = np.tile([0, 1], 15)
    assert expected_calibration_error(p, true) == pytest.approx((confidence - 0.5).mean(), abs=1e-12)


def test_error_if_calibrated_of_one_clip_has_a_closed_form() -> None:
    """One clip of confidence c: |c − 1| with probability c, else c; so 2 c (1 − c) on average."""
    mean, high = error_if_calibrated(np.array([[0.8, 0.2]]), num_draws=20_000)
    assert mean == pytest.approx(0.32, abs=0.01)
    assert high == pytest.approx(0.8)


def test_scores_with_intervals() -> None:
    logits, true = drawn(400, sharpened=3)
    people = np.arange(400) // 10
    after = at_temperature(logits, 3.0)
    found = compare_calibration(at_temperature(logits, 1.0), after, true, groups=people, num_resamples=300)
    for pair in found.values():
        for estimate in (pair.before, pair.after, pair.change):
            assert estimate.low <= estimate.high
        assert pair.change.value == pytest.approx(pair.after.value - pair.before.value)
    nll = found["negative_log_likelihood"]
    picked = after[np.arange(400), true]
    assert nll.after.value == pytest.approx(-np.log(picked).mean())
    assert found["brier"].after.value == pytest.approx(((after - np.eye(7)[true]) ** 2).sum(1).mean())
    assert nll.change.high < 0, "a planted sharpening is mended beyond doubt"
    assert found["expected_calibration_error"].change.high < 0
    same = compare_calibration(after, after, true, groups=people, num_resamples=50)
    assert all(pair.change.low == pair.change.high == 0 for pair in same.values())


def test_whole_groups_are_drawn() -> None:
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    members = {name: set(np.flatnonzero(groups == name)) for name in "abc"}
    for rows in resample(6, groups, num_resamples=20):
        for name in "abc":
            counts = {int((rows == i).sum()) for i in members[name]}
            assert len(counts) == 1
    with pytest.raises(DataError):
        next(resample(6, groups[:4]))


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = bootstrap_estimate(lambda rows: float(values[rows].mean()), 400)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)
