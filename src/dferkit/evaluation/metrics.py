"""Scores of predicted classes, in NumPy float64.

Everything about classes starts from a confusion matrix: rows are true classes, columns predicted ones. Extra columns
after the classes hold clips without an answer: they count as wrong, so that failing never improves a score. A matrix may
have leading axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int, Num, Shaped

from dferkit.errors import ConfigError, DataError
from dferkit.schema import Evaluation

NO_ANSWER = -1
"""Predicted class of a clip without an answer."""

NUM_RESAMPLES = 2000
"""Draws of a bootstrap interval."""
LEVEL = 0.95
"""Share of an interval."""
_FEW_SUBJECTS = 10
FEW_CLIPS = 30
"""With fewer clips an interval is no sign of certainty."""

WARNINGS = {
    "W_FEW_CLIPS": f"fewer than {FEW_CLIPS} clips: the interval is too narrow or has no width; it is no sign of certainty",
    "W_CLASS_ABSENT": "not every class is in the data: UAR is the mean over those that are",
    "W_FAILED_CLIPS": "clips without an answer count as wrong",
    "W_NO_SUBJECTS": "no subject is named: the interval takes clips as independent and is too narrow when people appear more than once",
    "W_FEW_SUBJECTS": f"fewer than {_FEW_SUBJECTS} people: the interval may not hold for other people",
}
"""What each warning of an evaluation means."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A value with its 95 % bootstrap interval; the ends are NaN where no resample defines the value."""

    value: float
    low: float
    high: float

    @property
    def is_shown(self) -> bool:
        """The interval is on one side of 0."""
        return self.low > 0 or self.high < 0

    def as_dict(self) -> dict[str, object]:
        """For a JSON file."""
        return {"value": self.value, "ci95": [self.low, self.high]}


Statistic = Callable[[np.ndarray], np.ndarray]
"""Confusion matrices (…, classes, columns) → values (…), such as ``uar``."""


def confusion_matrix(
    true: Int[np.ndarray, " clips"], predicted: Int[np.ndarray, " clips"], num_classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Number of clips per true class (row) and predicted class (column); clips without an answer (-1) are left out.

    Raises:
        DataError: A class number outside 0 to ``num_classes`` - 1 (predictions may be -1), or unequal lengths.
    """
    codes = _cells(true, predicted, num_classes)
    full = np.bincount(codes, minlength=num_classes * (num_classes + 1)).reshape(num_classes, num_classes + 1)
    return full[:, :num_classes].astype(np.int64)


def per_class_recall(confusion: Num[np.ndarray, "*rest classes columns"]) -> Float[np.ndarray, "*rest classes"]:
    """Share of each true class that was predicted right; NaN for a class without clips."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    total = confusion.sum(-1).astype(np.float64)
    return np.divide(right, total, out=np.full_like(right, np.nan), where=total > 0)


def uar(confusion: Num[np.ndarray, "*rest classes columns"]) -> Float[np.ndarray, "*rest"]:
    """Unweighted average recall: mean over the classes present; NaN without clips."""
    recall = per_class_recall(confusion)
    present = ~np.isnan(recall)
    num_present = present.sum(-1)
    total = np.where(present, recall, 0.0).sum(-1)
    return np.divide(total, num_present, out=np.full(total.shape, np.nan), where=num_present > 0)


def war(confusion: Num[np.ndarray, "*rest classes columns"]) -> Float[np.ndarray, "*rest"]:
    """Weighted average recall: share of clips predicted right; NaN without clips."""
    right = np.trace(confusion, axis1=-2, axis2=-1).astype(np.float64)
    total = confusion.sum((-2, -1)).astype(np.float64)
    return np.divide(right, total, out=np.full(total.shape, np.nan), where=total > 0)


def bootstrap_interval(
    statistic: Statistic,
    true: Int[np.ndarray, " clips"],
    predicted: Int[np.ndarray, " clips"],
    num_classes: int,
    *,
    groups: Shaped[np.ndarray, " clips"] | Sequence[str] | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a statistic of the confusion matrix.

    With ``groups`` (subjects, source videos) whole groups are drawn, since clips of one person are not independent;
    otherwise clips are drawn. Resamples on which the statistic is NaN are left out.

    Raises:
        DataError: No clips, unequal lengths, or a class number out of range.
    """
    codes = _cells(true, predicted, num_classes)
    tables = _resample(codes, num_classes * (num_classes + 1), groups, seed)
    return _percentiles(statistic(tables.reshape(-1, num_classes, num_classes + 1)))


def paired_difference(
    true: Int[np.ndarray, " clips"],
    a: Int[np.ndarray, " clips"],
    b: Int[np.ndarray, " clips"],
    num_classes: int,
    *,
    groups: Shaped[np.ndarray, " clips"] | Sequence[str] | None = None,
    statistic: Statistic = uar,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Statistic of ``b`` minus that of ``a`` on the same clips, with its paired 95 % bootstrap interval (low, high).

    Both are scored on the same drawn clips or groups, so the difficulty of a resample cancels. With an
    interval that excludes 0 they differ. See ``bootstrap_interval`` for groups and errors.
    """
    columns = num_classes + 1
    codes_a, codes_b = _cells(true, a, num_classes), _cells(true, b, num_classes)
    joint = codes_a * columns + codes_b % columns  # true, a, b: one cell per combination.
    tables = _resample(joint, num_classes * columns**2, groups, seed)

    def difference(counts: np.ndarray) -> np.ndarray:
        counts = counts.reshape(-1, num_classes, columns, columns)
        return statistic(counts.sum(2)) - statistic(counts.sum(3))

    whole = difference(np.bincount(joint, minlength=num_classes * columns**2)[None])
    return (float(whole[0]), *_percentiles(difference(tables)))


def mean_over_runs(
    statistic: Statistic,
    true: Int[np.ndarray, " clips"],
    predicted: Int[np.ndarray, "runs clips"],
    num_classes: int,
    *,
    groups: Shaped[np.ndarray, " clips"] | Sequence[str],
    seed: int = 0,
) -> tuple[Estimate, float]:
    """Mean of a statistic over several runs on the same clips, with its 95 % bootstrap interval; and its sample standard deviation over the runs.

    Every resample draws groups and runs with replacement, and scores the drawn runs on the same groups. See ``bootstrap_interval`` for errors.
    """
    shape = (-1, num_classes, num_classes + 1)
    cells = [_cells(true, one, num_classes) for one in predicted]
    size = num_classes * (num_classes + 1)
    # The draws depend on the groups and the seed only, so they are the same for every run.
    drawn = np.stack([statistic(_resample(one, size, groups, seed).reshape(shape)) for one in cells], 1)
    of_run = np.stack([statistic(np.bincount(one, minlength=size).reshape(shape))[0] for one in cells])
    times = np.random.default_rng((seed, 1)).multinomial(len(cells), np.full(len(cells), 1 / len(cells)), NUM_RESAMPLES)
    low, high = _percentiles((drawn * times).sum(1) / len(cells))
    return Estimate(value=float(of_run.mean()), low=low, high=high), float(of_run.std(ddof=1))


def wilson_interval(
    num_right: Num[np.ndarray, "*counts"], num_all: Num[np.ndarray, "*counts"]
) -> Float[np.ndarray, "*counts 2"]:
    """95 % Wilson score interval (low, high) of a share; NaN where ``num_all`` is 0. Unlike the normal interval it has a width at 0 and 1."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    n = np.where(np.asarray(num_all) > 0, num_all, np.nan).astype(np.float64)
    share = num_right / n
    middle = share + z**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return np.clip(np.stack([middle - half, middle + half], axis=-1) / (1 + z**2 / n)[..., None], 0, 1)


def evaluate_predictions(
    labels: tuple[str, ...],
    true: Int[np.ndarray, " clips"],
    predicted: Int[np.ndarray, " clips"] | Float[np.ndarray, "clips classes"],
    *,
    subjects: Shaped[np.ndarray, " clips"] | Sequence[str] | None = None,
    seed: int = 0,
) -> Evaluation:
    """All class scores of one model on one set of clips.

    Args:
        labels: Class names; their order numbers the classes.
        predicted: Class numbers, -1 for a clip without an answer; or probabilities, a row with NaN for such a clip.
            Clips without an answer count as wrong in UAR, WAR and recall, and are missing in the confusion matrix.
        subjects: One per clip; the intervals are then by subject.

    Raises:
        DataError: No clips, unequal lengths, or a class number out of range.
    """
    num_classes = len(labels)
    if predicted.ndim == 2:
        if predicted.shape[1] != num_classes:
            raise DataError(f"probabilities have {predicted.shape[1]} columns, but there are {num_classes} labels")
        answered = ~np.isnan(predicted).any(1)
        predicted = np.where(answered, np.nan_to_num(predicted).argmax(1), NO_ANSWER)
    codes = _cells(true, predicted, num_classes)
    full = np.bincount(codes, minlength=num_classes * (num_classes + 1)).reshape(num_classes, num_classes + 1)
    recall = per_class_recall(full)
    num_failed = int(full[:, num_classes].sum())
    warnings = []
    if len(codes) < FEW_CLIPS:
        warnings.append("W_FEW_CLIPS")
    if np.isnan(recall).any():
        warnings.append("W_CLASS_ABSENT")
    if num_failed:
        warnings.append("W_FAILED_CLIPS")
    if subjects is None:
        warnings.append("W_NO_SUBJECTS")
    elif len(np.unique(np.asarray(subjects))) < _FEW_SUBJECTS:
        warnings.append("W_FEW_SUBJECTS")
    return Evaluation(
        labels=labels,
        uar=float(uar(full)),
        war=float(war(full)),
        uar_ci95=bootstrap_interval(uar, true, predicted, num_classes, groups=subjects, seed=seed),
        war_ci95=bootstrap_interval(war, true, predicted, num_classes, groups=subjects, seed=seed),
        per_class_recall=recall,
        confusion=full[:, :num_classes].astype(np.int64),
        num_clips=len(codes),
        num_failed=num_failed,
        warnings=tuple(warnings),
    )


def spearman(x: Num[np.ndarray, " values"], y: Num[np.ndarray, " values"]) -> float:
    """Rank correlation, ties averaged; NaN when either side is constant or has fewer than two values.

    Raises:
        DataError: Unequal lengths, or a NaN.
    """
    if len(x) != len(y) or np.isnan(x).any() or np.isnan(y).any():
        raise DataError(f"spearman needs two series of equal length without NaN; got {len(x)} and {len(y)} values")
    if len(x) < 2:
        return float("nan")
    ranks_x, ranks_y = _average_ranks(x), _average_ranks(y)
    ranks_x, ranks_y = ranks_x - ranks_x.mean(), ranks_y - ranks_y.mean()
    scale = np.sqrt((ranks_x**2).sum() * (ranks_y**2).sum())
    return float((ranks_x * ranks_y).sum() / scale) if scale > 0 else float("nan")


def expected_calibration_error(
    probabilities: Float[np.ndarray, "clips classes"], true: Int[np.ndarray, " clips"], *, num_bins: int = 15
) -> float:
    """Mean distance of confidence and correctness over bins of equal mass (clips sorted by confidence), 0 to 1.

    Raises:
        ConfigError: ``num_bins`` below 1.
        DataError: No clips, rows that are not probabilities, or class numbers out of range.
    """
    if num_bins < 1:
        raise ConfigError(f"num_bins is {num_bins}, but must be at least 1")
    p = checked_probabilities(probabilities, true)
    order = np.argsort(p.max(1), kind="stable")
    confidence, is_right = p.max(1)[order], (p.argmax(1) == true)[order].astype(np.float64)
    gaps = [abs(part.sum()) for part in np.array_split(confidence - is_right, min(num_bins, len(p)))]
    return float(sum(gaps) / len(p))


def negative_log_likelihood(
    probabilities: Float[np.ndarray, "clips classes"], true: Int[np.ndarray, " clips"]
) -> float:
    """Mean of −log p(true class), in nats; p is held at 1e-12 or above, so one confident mistake stays finite."""
    p = checked_probabilities(probabilities, true)
    return float(-np.log(np.maximum(p[np.arange(len(p)), true], 1e-12)).mean())


def brier(probabilities: Float[np.ndarray, "clips classes"], true: Int[np.ndarray, " clips"]) -> float:
    """Mean squared distance of the probabilities from the one-hot truth, summed over classes, 0 to 2."""
    p = checked_probabilities(probabilities, true)
    return float(((p - np.eye(p.shape[1])[true]) ** 2).sum(1).mean())


def checked_probabilities(
    probabilities: Float[np.ndarray, "clips classes"], true: Int[np.ndarray, " clips"]
) -> Float[np.ndarray, "clips classes"]:
    """The probabilities in float64, checked together with the class numbers.

    Raises:
        DataError: No clips, unequal lengths, rows that do not sum to 1 (or are NaN), or class numbers out of range.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if len(p) == 0 or len(p) != len(true):
        raise DataError(
            f"got probabilities of {len(p)} clips and {len(true)} true classes; both must be equal and above 0"
        )
    if not np.isfinite(p).all() or p.min() < 0 or np.abs(p.sum(1) - 1).max() > 1e-3:
        raise DataError("every row of probabilities must be 0 or more and sum to 1; leave out clips without an answer")
    if np.min(true) < 0 or np.max(true) >= p.shape[1]:
        raise DataError(f"true classes run from {np.min(true)} to {np.max(true)}, but must be 0 to {p.shape[1] - 1}")
    return p


def _cells(true: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Cell number true · (classes + 1) + predicted of each clip; no answer goes to the last column."""
    true, predicted = np.asarray(true), np.asarray(predicted)
    if len(true) != len(predicted) or len(true) == 0:
        raise DataError(f"got {len(true)} true and {len(predicted)} predicted classes; both must be equal and above 0")
    if true.min() < 0 or true.max() >= num_classes:
        raise DataError(f"true classes run from {true.min()} to {true.max()}, but must be 0 to {num_classes - 1}")
    if predicted.min() < NO_ANSWER or predicted.max() >= num_classes:
        raise DataError(
            f"predicted classes run from {predicted.min()} to {predicted.max()}, "
            f"but must be 0 to {num_classes - 1}, or -1 without an answer"
        )
    column = np.where(predicted == NO_ANSWER, num_classes, predicted)
    return true.astype(np.int64) * (num_classes + 1) + column


def _resample(codes: np.ndarray, num_cells: int, groups: np.ndarray | Sequence[str] | None, seed: int) -> np.ndarray:
    """Bootstrapped counts of the cells, (resamples, cells)."""
    random = np.random.default_rng(seed)
    if groups is None:
        # Drawing clips with replacement and counting cells is one multinomial draw over the cells.
        return random.multinomial(len(codes), np.bincount(codes, minlength=num_cells) / len(codes), size=NUM_RESAMPLES)
    if len(groups) != len(codes):
        raise DataError(f"got {len(groups)} groups for {len(codes)} clips; give one per clip")
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    cells, cell = np.unique(codes, return_inverse=True)  # Few of the possible cells occur.
    tables = np.zeros((len(names), len(cells)))
    np.add.at(tables, (group, cell), 1.0)
    counts = np.zeros((NUM_RESAMPLES, num_cells), dtype=np.int64)
    even = np.full(len(names), 1 / len(names))
    block = max(1, 4_000_000 // len(names))
    for start in range(0, NUM_RESAMPLES, block):
        draws = random.multinomial(len(names), even, size=min(block, NUM_RESAMPLES - start))
        counts[start : start + block, cells] = np.rint(draws @ tables)
    return counts


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _average_ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[inverse]
