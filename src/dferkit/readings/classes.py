"""Classes of another classifier → classes of dferkit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dferkit.errors import ConfigError, ManifestError
from dferkit.labels import MAFW, parse_label, restrict_probabilities

KNOWN = (*MAFW, "calm")


def class_name(text: str, where: str) -> str:
    """dferkit's name of a class in another spelling (``Happy``, ``fearful``).

    Raises:
        ConfigError: Unknown; the message has the nearest name.
    """
    try:
        return parse_label(text, KNOWN, where=where)
    except ManifestError as error:
        raise ConfigError(str(error)) from error


def into_labels(
    probabilities: Float[np.ndarray, "rows found"], found: Sequence[str], labels: Sequence[str]
) -> tuple[Float[np.ndarray, "rows classes"], tuple[str, ...]]:
    """Probabilities over ``labels``, and notes on how classes were mapped.

    ``calm`` counts as neutral where it is no class of its own. A class that is not among ``labels`` (contempt) is left out and the others are scaled
    to sum to 1; a row in which nothing remains has no answer (NaN). A class that the other tool does not have gets probability 0.

    Raises:
        ConfigError: Fewer than two classes in common.
    """
    merged: dict[str, np.ndarray] = {}
    for column, name in enumerate(found):
        target = "neutral" if name == "calm" and "calm" not in labels else name
        merged[target] = merged.get(target, 0) + probabilities[:, column]
    kept = tuple(name for name in merged if name in labels)
    if len(kept) < 2:
        raise ConfigError(
            f"the other classifier has the classes {', '.join(found)}; at least two of {', '.join(labels)} are needed"
        )
    notes = []
    if dropped := [name for name in merged if name not in labels]:
        notes.append(f"{' and '.join(dropped)} left out, the other classes scaled to sum to 1")
    if lacking := [name for name in labels if name not in merged]:
        notes.append(f"{', '.join(lacking)} not predicted, taken as 0")
    shared = restrict_probabilities(np.stack(list(merged.values()), 1), tuple(merged), kept)
    out = np.zeros((len(probabilities), len(labels)))
    out[np.isnan(shared).any(1)] = np.nan
    out[:, [list(labels).index(name) for name in kept]] = shared
    return out, tuple(notes)
