"""Numbers of a classifier → probabilities: is it shares, percent, or raw scores?"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from dferkit.errors import DataError

# Seven shares with two decimals sum to 1 within this.
ROUNDED = 0.04


def as_probabilities(
    values: Float[np.ndarray, "rows classes"], where: str
) -> tuple[Float[np.ndarray, "rows classes"], tuple[str, ...]]:
    """Probabilities (each row sums to 1), and what was done to get them. All rows decide together, since one row may look like anything.

    Args:
        values: Shares (0 to 1, sum 1), percent (sum 100) or raw scores; a row with a NaN has no answer and stays NaN.

    Raises:
        DataError: Values from 0 to 1 that do not sum to 1: neither probabilities nor raw scores.
    """
    values = np.asarray(values, np.float64)
    is_known = ~np.isnan(values).any(1)
    out = np.full_like(values, np.nan)
    known = values[is_known]
    if not len(known):
        return out, ()
    total = known.sum(1, keepdims=True)
    has_no_negative = bool((known >= 0).all())
    for whole, said in ((1.0, ()), (100.0, ("percent were taken as probabilities",))):
        if has_no_negative and np.abs(total - whole).max() <= ROUNDED * whole:
            out[is_known] = known / total
            return out, said
    if has_no_negative and known.max() <= 1:
        raise DataError(
            f"{where}: values from 0 to 1 that sum to {total.min():.2f} to {total.max():.2f} are neither probabilities nor raw scores; give probabilities of all classes (sum 1 or 100), or scores before the soft-max"
        )
    out[is_known] = softmax(known)
    return out, ("raw scores were soft-maxed",)


def softmax(values: Float[np.ndarray, "rows classes"]) -> Float[np.ndarray, "rows classes"]:
    """Soft-max of each row."""
    exponentials = np.exp(values - values.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)
