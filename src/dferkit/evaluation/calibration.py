"""Calibration of probabilities by one temperature: fit, cross-fit, and scores with intervals.

Temperature scaling (Guo, Pleiss, Sun, Weinberger 2017) divides the logits by one positive number. It changes the
confidence and never the label. NumPy, float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int, Shaped

from dferkit.errors import DataError
from dferkit.evaluation.metrics import (
    NUM_RESAMPLES,
    Estimate,
    brier,
    checked_probabilities,
    expected_calibration_error,
    negative_log_likelihood,
)
from dferkit.evaluation.summary import NUM_BINS
from dferkit.readings.scores import softmax

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.05, 20.0
_MOST_STEPS, _TOLERANCE = 200, 1e-13
_PERFECT_DRAWS = 1000

Statistic = Callable[[np.ndarray], float]
"""Row numbers of the drawn clips → a value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Temperature:
    """A fitted temperature.

    Attributes:
        value: From ``LEAST_TEMPERATURE`` to ``MOST_TEMPERATURE``; above 1 lowers the confidence.
        negative_log_likelihood: At this temperature on the clips of the fit, nats.
        is_at_bound: The likelihood still rises at the end of the range: every clip is right (lower end), or confidence
            is unrelated to being right (upper end).
    """

    value: float
    negative_log_likelihood: float
    is_at_bound: bool


def at_temperature(
    logits: Float[np.ndarray, "*rest classes"], temperature: float
) -> Float64[np.ndarray, "*rest classes"]:
    """Probabilities: softmax of logits / temperature over the last axis, as ``Checkpoint.probabilities`` gives them."""
    return softmax(np.asarray(logits, dtype=np.float64) / temperature)


def fit_temperature(logits: Float[np.ndarray, "clips classes"], true: Int[np.ndarray, " clips"]) -> Temperature:
    """The temperature of the highest likelihood.

    In β = 1 / temperature the negative log likelihood is convex with slope E_p[z] − z_true and curvature Var_p[z]: Newton's
    method, with halving where a step leaves the bracket, finds its one minimum.

    Raises:
        DataError: No clips, logits that are not finite, or class numbers out of range.
    """
    z = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(z).all():
        raise DataError("some logits are not finite; a temperature needs finite ones")
    checked_probabilities(at_temperature(z, 1.0), true)
    z = z - z.max(1, keepdims=True)
    of_true = z[np.arange(len(z)), true]

    def slope(beta: float) -> tuple[float, float]:
        p = at_temperature(z, 1 / beta)
        mean = (p * z).sum(1)
        return float((mean - of_true).mean()), float(((p * z**2).sum(1) - mean**2).mean())

    def result(beta: float, *, is_at_bound: bool) -> Temperature:
        nll = np.log(np.exp(z * beta).sum(1)) - of_true * beta
        return Temperature(value=1 / beta, negative_log_likelihood=float(nll.mean()), is_at_bound=is_at_bound)

    low, high = 1 / MOST_TEMPERATURE, 1 / LEAST_TEMPERATURE
    for bound, is_beyond in ((low, slope(low)[0] >= 0), (high, slope(high)[0] <= 0)):
        if is_beyond:
            return result(bound, is_at_bound=True)
    beta = 1.0
    for _ in range(_MOST_STEPS):
        gradient, curvature = slope(beta)
        low, high = (low, beta) if gradient > 0 else (beta, high)
        step = beta - gradient / curvature if curvature > 0 else np.nan
        following = float(step) if low < step < high else (low + high) / 2
        if abs(following - beta) <= _TOLERANCE * beta:
            break
        beta = following
    return result(beta, is_at_bound=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossFit:
    """Probabilities of clips at a temperature that was fitted without them.

    Attributes:
        probabilities: One row per clip. temperatures: One per fold, in the order of the fold numbers.
    """

    probabilities: Float64[np.ndarray, "clips classes"]
    temperatures: tuple[Temperature, ...]


def cross_fit(
    logits: Float[np.ndarray, "clips classes"], true: Int[np.ndarray, " clips"], fold_of: Int[np.ndarray, " clips"]
) -> CrossFit:
    """Fit on all folds but one, apply to that one; so the temperature of a clip was never fitted on that clip (or its person).

    Raises:
        DataError: Fewer than two folds, or as ``fit_temperature``.
    """
    folds = np.unique(fold_of)
    if len(folds) < 2:
        raise DataError(f"there is {len(folds)} fold; fitting without a clip's own fold needs at least 2")
    probabilities = np.empty(np.shape(logits), dtype=np.float64)
    temperatures = []
    for fold in folds:
        held = fold_of == fold
        temperatures.append(fit_temperature(logits[~held], true[~held]))
        probabilities[held] = at_temperature(logits[held], temperatures[-1].value)
    return CrossFit(probabilities=probabilities, temperatures=tuple(temperatures))


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedEstimate:
    """One score of the same clips before and after; ``change`` is after minus before, drawn in pairs."""

    before: Estimate
    after: Estimate
    change: Estimate

    def as_dict(self) -> dict[str, object]:
        """For a JSON file."""
        return {name: getattr(self, name).as_dict() for name in self.__slots__}


def compare_calibration(
    before: Float[np.ndarray, "clips classes"],
    after: Float[np.ndarray, "clips classes"],
    true: Int[np.ndarray, " clips"],
    *,
    groups: Shaped[np.ndarray, " clips"] | Sequence[str] | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Mapping[str, PairedEstimate]:
    """Negative log likelihood (nats), Brier score (0 to 2) and calibration error (0 to 1) of two sets of probabilities, lower is better.

    Whole groups (subjects) are drawn where given, else clips. The intervals of the two means are percentiles; that of the
    calibration error is the reflected one (2 · value − percentile, within its range), because noise alone gives
    a binned error: drawing clips adds as much again as the value itself has, and the reflection subtracts it.

    Raises:
        DataError: No clips, unequal lengths, rows that are no probabilities, or class numbers out of range.
    """
    true = np.asarray(true)
    sides = [checked_probabilities(p, true) for p in (before, after)]
    scores: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "negative_log_likelihood": negative_log_likelihood,
        "brier": brier,
        "expected_calibration_error": lambda p, t: expected_calibration_error(p, t, num_bins=NUM_BINS),
    }
    whole = {name: [score(p, true) for p in sides] for name, score in scores.items()}
    drawn: dict[str, list[list[float]]] = {name: [] for name in scores}
    for rows in resample(len(true), groups, num_resamples=num_resamples, seed=seed):
        for name, score in scores.items():
            drawn[name].append([score(p[rows], true[rows]) for p in sides])
    found = {}
    for name, values in whole.items():
        table = np.array(drawn[name])
        error, change = ((0.0, 1.0), (-1.0, 1.0)) if name == "expected_calibration_error" else (None, None)
        found[name] = PairedEstimate(
            before=_estimate(values[0], table[:, 0], reflected_within=error),
            after=_estimate(values[1], table[:, 1], reflected_within=error),
            change=_estimate(values[1] - values[0], table[:, 1] - table[:, 0], reflected_within=change),
        )
    return found


def bootstrap_estimate(
    statistic: Statistic,
    num_clips: int,
    *,
    groups: Shaped[np.ndarray, " clips"] | Sequence[str] | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Any value of a set of clips with its percentile interval; resamples on which it is NaN are left out.

    Raises:
        DataError: No clips, or not one group per clip.
    """
    draws = [statistic(rows) for rows in resample(num_clips, groups, num_resamples=num_resamples, seed=seed)]
    return _estimate(statistic(np.arange(num_clips)), np.array(draws))


def resample(
    num_clips: int,
    groups: Shaped[np.ndarray, " clips"] | Sequence[str] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Iterator[Int[np.ndarray, " drawn"]]:
    """Row numbers of bootstrap resamples: clips drawn with replacement, or whole groups with all their clips.

    Raises:
        DataError: No clips, or not one group per clip.
    """
    if num_clips < 1 or (groups is not None and len(groups) != num_clips):
        raise DataError(
            f"got {num_clips} clips and {'no' if groups is None else len(groups)} groups; give one per clip"
        )
    members = _members(np.arange(num_clips) if groups is None else np.asarray(groups))
    random = np.random.default_rng(seed)
    for _ in range(num_resamples):
        yield np.concatenate([members[i] for i in random.integers(len(members), size=len(members))])


def error_if_calibrated(
    probabilities: Float[np.ndarray, "clips classes"], *, num_draws: int = _PERFECT_DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Calibration error that clips of these confidences would have by chance if every confidence were true: mean and 95th percentile.

    A measured error below this is no evidence against the probabilities (consistency resampling of Bröcker and Smith
    2007).

    Raises:
        DataError: No clips, or rows that are no probabilities.
    """
    p = checked_probabilities(probabilities, np.zeros(len(probabilities), dtype=np.int64))
    confidence = np.sort(p.max(1))
    is_right = np.random.default_rng(seed).random((num_draws, len(p))) < confidence
    parts = np.array_split(np.arange(len(p)), min(NUM_BINS, len(p)))
    gaps = np.add.reduceat(confidence - is_right, [part[0] for part in parts], axis=1)
    errors = np.abs(gaps).sum(1) / len(p)
    return float(errors.mean()), float(np.quantile(errors, 0.95))


@dataclass(frozen=True, kw_only=True, slots=True)
class ReliabilityBins:
    """Clips sorted by confidence, in bins of equal mass, the least confident first.

    Attributes:
        confidence: Mean probability of the answer. num_right, num_clips: Counts.
    """

    confidence: Float64[np.ndarray, " bins"]
    num_right: Int[np.ndarray, " bins"]
    num_clips: Int[np.ndarray, " bins"]


def reliability_bins(
    probabilities: Float[np.ndarray, "clips classes"], true: Int[np.ndarray, " clips"], *, num_bins: int = NUM_BINS
) -> ReliabilityBins:
    """The bins of ``expected_calibration_error``.

    Raises:
        DataError: No clips, rows that are no probabilities, or class numbers out of range.
    """
    p = checked_probabilities(probabilities, true)
    order = np.argsort(p.max(1), kind="stable")
    parts = np.array_split(order, min(num_bins, len(p)))
    is_right = p.argmax(1) == true
    return ReliabilityBins(
        confidence=np.array([p.max(1)[part].mean() for part in parts]),
        num_right=np.array([is_right[part].sum() for part in parts], dtype=np.int64),
        num_clips=np.array([len(part) for part in parts], dtype=np.int64),
    )


def _members(groups: np.ndarray) -> list[np.ndarray]:
    _, number = np.unique(groups, return_inverse=True)
    order = np.argsort(number, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1)


def _estimate(value: float, draws: np.ndarray, *, reflected_within: tuple[float, float] | None = None) -> Estimate:
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return Estimate(value=value, low=float("nan"), high=float("nan"))
    low, high = np.quantile(draws, [0.025, 0.975])
    if reflected_within is not None:
        low, high = np.clip([2 * value - high, 2 * value - low], *reflected_within)
    return Estimate(value=value, low=float(low), high=float(high))
