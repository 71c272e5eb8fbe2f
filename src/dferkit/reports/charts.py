"""Coordinates of the drawings in ``templates/charts.html``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from dferkit.reports.formatting import percent, signed
from dferkit.schema import DeletionTest

_LEFT, _TOP, _WIDTH, _HEIGHT = 44, 12, 330, 170  # the plot inside its chart, in units of the view box


def curves(
    rows: Sequence[tuple[str, Float[np.ndarray, " steps"]]], times: Float[np.ndarray, " steps"]
) -> dict[str, Any]:
    """Curves of 0 to 1 on one time axis: label, points in a box of 100 × 30, and the peak as text."""
    times = np.asarray(times, dtype=np.float64)
    x = 100 * (times - times[0]) / max(times[-1] - times[0], 1e-9) if len(times) > 1 else np.array([0.0, 100.0])
    drawn = []
    for label, raw in rows:
        values = np.clip(np.nan_to_num(np.asarray(raw, dtype=np.float64)), 0, 1)
        peak = int(values.argmax())
        y = np.broadcast_to(values, x.shape)
        text = f"{percent(float(values[peak]))} at {times[peak]:.1f} s"
        drawn.append({"label": label, "points": _points(x, 30 - 28 * y), "peak": text})
    return {"rows": drawn, "start": times[0], "end": times[-1]}


def deletion_chart(test: DeletionTest) -> dict[str, Any]:
    """Probability of the predicted class while cells are removed, in evidence order and in random orders."""
    x = _LEFT + _WIDTH * test.fractions / test.fractions[-1]

    def y(probability: Any) -> Any:
        return _TOP + _HEIGHT * (1 - np.clip(probability, 0, 1))

    random, ranked = test.random_probability, test.ranked_probability
    shown = [f in (0.0, test.fractions[-1]) or f * 10 == round(f * 10) for f in test.fractions]
    return {
        "left": _LEFT, "right": _LEFT + _WIDTH, "bottom": _TOP + _HEIGHT,
        "grid": [(y(p), percent(p)) for p in (0.0, 0.5, 1.0)],
        "ticks": [(a, percent(f)) for a, f, is_shown in zip(x, test.fractions, shown, strict=True) if is_shown],
        "band": _points([*x, *x[::-1]], [*y(random.max(0)), *y(random.min(0))[::-1]]),
        "random": _points(x, y(random.mean(0))),
        "ranked": _points(x, y(ranked)),
        "dots": list(zip(x, y(ranked), strict=True)),
    }  # fmt: skip


def differences(items: Mapping[str, tuple[float, float, float]]) -> list[dict[str, Any]]:
    """Differences with their intervals, (value, low, high), in per cent of a width whose middle is 0."""
    reach = 1.1 * max((abs(v) for values in items.values() for v in values), default=0) or 1.0
    return [
        {
            "label": label,
            "ends": [50 + 50 * v / reach for v in (value, low, high)],
            "text": f"{signed(value)} ({signed(low)} to {signed(high)})",
        }
        for label, (value, low, high) in items.items()
    ]


def _points(x: Iterable[float], y: Iterable[float]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
