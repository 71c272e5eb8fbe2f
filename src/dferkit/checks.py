"""Checks of settings, where a settings class is made; each refusal is one sentence."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from dferkit.errors import ConfigError


def check_range(
    settings: object,
    *names: str,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> None:
    """Require the named numbers to be finite and within bounds.

    Raises:
        ConfigError: One is not.
    """
    bounds = {"at least": least, "above": above, "at most": most, "below": below}
    wanted = " and ".join(f"{word} {bound}" for word, bound in bounds.items() if bound is not None)
    for name in names:
        value = getattr(settings, name)
        is_large = (least is None or value >= least) and (above is None or value > above)
        is_small = (most is None or value <= most) and (below is None or value < below)
        if not (math.isfinite(value) and is_large and is_small):
            raise ConfigError(f"{name} is {value}; give {wanted}")


def check_counts(settings: object, *names: str) -> None:
    """Require the named numbers to be at least 1.

    Raises:
        ConfigError: One is not.
    """
    check_range(settings, *names, least=1)


def check_choices(settings: object, known: Mapping[str, Collection[str]]) -> None:
    """Require the named texts to be among those known.

    Raises:
        ConfigError: One is not.
    """
    for name, choices in known.items():
        if getattr(settings, name) not in choices:
            raise ConfigError(f"{name} is {getattr(settings, name)!r}; choose {', '.join(choices)}")
