"""Numbers of a classifier → probabilities: is it shares, percent, or raw scores?"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from dferkit.errors import DataError

# Seven shares with two decimals sum to 1 within this.
ROUNDED = 0.04


PROBABILITIES, PERCENT, SCORES = "probabilities", "percent", "scores"
_WHOLE = {PROBABILITIES: 1.0, PERCENT: 100.0}
_SAID = {PROBABILITIES: (), PERCENT: ("percent were taken as probabilities",), SCORES: ("raw scores were soft-maxed",)}


def kind_of_values(values: Float[np.ndarray, "rows classes"], where: str) -> str:
    """``probabilities`` (0 or more, sum 1), ``percent`` (sum 100) or ``scores``. The kind is found from all rows together, since a single row can fit several kinds.

    Raises:
        DataError: Values from 0 to 1 that do not sum to 1: neither probabilities nor raw scores.
    """
    total = values.sum(1)
    has_no_negative = bool((values >= 0).all())
    for kind, whole in _WHOLE.items():
        if has_no_negative and np.abs(total - whole).max() <= ROUNDED * whole:
            return kind
    if has_no_negative and values.max() <= 1:
        raise DataError(
            f"{where}: values from 0 to 1 that sum to {total.min():.2f} to {total.max():.2f} are neither probabilities nor raw scores; give probabilities of all classes (sum 1 or 100), or scores before the soft-max"
        )
    return SCORES


def as_probabilities(
    values: Float[np.ndarray, "rows classes"], where: str
) -> tuple[Float[np.ndarray, "rows classes"], tuple[str, ...]]:
    """Probabilities (each row sums to 1), and what was done to get them; a row with a NaN has no answer and stays NaN.

    Raises:
        DataError: As ``kind_of_values``.
    """
    values = np.asarray(values, np.float64)
    is_known = ~np.isnan(values).any(1)
    out = np.full_like(values, np.nan)
    if not is_known.any():
        return out, ()
    known = values[is_known]
    kind = kind_of_values(known, where)
    out[is_known] = softmax(known) if kind == SCORES else known / known.sum(1, keepdims=True)
    return out, _SAID[kind]


def softmax(values: Float[np.ndarray, "*rest classes"]) -> Float[np.ndarray, "*rest classes"]:
    """Softmax over the last axis."""
    exponentials = np.exp(values - values.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)
