"""Small drawings as inline SVG, sized by attributes and classes: the page's policy refuses style attributes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Num

from dferkit.reports.page import escape, number, percent
from dferkit.schema import DeletionTest


def bar(share: float, *, low: float = float("nan"), high: float = float("nan"), mark: float = float("nan")) -> str:
    """One horizontal bar of 0 to 1, with an optional interval and an optional mark (a ceiling)."""
    share = 0.0 if np.isnan(share) else float(np.clip(share, 0, 1))
    parts = [
        f'<rect class="track" width="100%" height="100%"/><rect class="fill" width="{100 * share:.2f}%" height="100%"/>'
    ]
    if not np.isnan(low) and not np.isnan(high):
        parts.append(f'<line class="range" x1="{100 * low:.2f}%" x2="{100 * high:.2f}%" y1="50%" y2="50%"/>')
    if not np.isnan(mark):
        parts.append(f'<line class="mark" x1="{100 * mark:.2f}%" x2="{100 * mark:.2f}%" y1="0" y2="100%"/>')
    return f'<svg class="bar" aria-hidden="true">{"".join(parts)}</svg>'


def bars(rows: Sequence[tuple[str, float, str]], *, first: int = 0) -> str:
    """Rows of label, bar and text; the row number ``first`` is stressed (-1: none)."""
    lines = [
        f'<div class="row{" strong" if i == first else ""}"><span class="name">{escape(label)}</span>{bar(share)}'
        f'<span class="value">{escape(text)}</span></div>'
        for i, (label, share, text) in enumerate(rows)
    ]
    return f'<div class="bars">{"".join(lines)}</div>'


def curves(
    rows: Sequence[tuple[str, Float[np.ndarray, " steps"]]], times: Float[np.ndarray, " steps"], *, unit: str = ""
) -> str:
    """Small curves of 0 to 1 below each other on one time axis; labels are words, so that no colour is needed."""
    times = np.asarray(times, dtype=np.float64)
    span = float(times[-1] - times[0]) if len(times) > 1 else 0.0
    x = 100 * (times - times[0]) / span if span > 0 else np.linspace(0, 100, len(times))
    if len(times) == 1:
        x = np.array([0.0, 100.0])
    lines = []
    for label, raw in rows:
        values = np.clip(np.nan_to_num(np.asarray(raw, dtype=np.float64)), 0, 1)
        peak = int(values.argmax())
        y = np.repeat(values, 2) if len(values) == 1 else values
        points = " ".join(f"{a:.1f},{30 - 28 * b:.1f}" for a, b in zip(x, y, strict=True))
        lines.append(
            f'<div class="row"><span class="name">{escape(label)}</span>'
            f'<svg class="curve" viewBox="0 0 100 30" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect class="track" width="100" height="30"/><polygon class="area" points="0,30 {points} 100,30"/>'
            f'<polyline class="line" points="{points}"/></svg>'
            f'<span class="value">{escape(f"{percent(float(values[peak]))} at {times[peak]:.1f} s")}</span></div>'
        )
    axis = (
        f'<div class="row axis"><span class="name">{escape(unit)}</span>'
        f'<span class="ends"><span>{times[0]:.1f} s</span>'
        f'<span>{times[-1]:.1f} s</span></span><span class="value"></span></div>'
    )
    return f'<div class="bars curves">{"".join(lines)}{axis}</div>'


def deletion_chart(test: DeletionTest, *, cells: str = "patches") -> str:
    """Probability of the predicted class while cells are removed: ranked against random orders."""
    left, top, width, height = 44, 12, 330, 170
    largest = float(test.fractions[-1])

    def place(fraction: float, probability: float) -> tuple[float, float]:
        return left + width * fraction / largest, top + height * (1 - float(np.clip(probability, 0, 1)))

    def points(values: Float[np.ndarray, " steps"]) -> str:
        return " ".join("{:.1f},{:.1f}".format(*place(f, p)) for f, p in zip(test.fractions, values, strict=True))

    random = test.random_probability
    upper, lower = random.max(0), random.min(0)
    band = points(upper) + " " + " ".join(reversed(points(lower).split(" ")))
    grid = "".join(
        f'<line class="grid" x1="{left}" x2="{left + width}" y1="{place(0.0, p)[1]:.1f}" y2="{place(0.0, p)[1]:.1f}"/>'
        f'<text x="{left - 6}" y="{place(0.0, p)[1] + 4:.1f}" text-anchor="end">{100 * p:.0f} %</text>'
        for p in (0.0, 0.5, 1.0)
    )
    ticks = "".join(
        f'<text x="{place(f, 0.0)[0]:.1f}" y="{top + height + 16}" text-anchor="middle">{100 * f:.0f} %</text>'
        for f in test.fractions
        if f in (0.0, test.fractions[-1]) or f * 10 == round(f * 10)
    )
    dots = "".join(
        '<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="3"/>'.format(*place(f, p))
        for f, p in zip(test.fractions, test.ranked_probability, strict=True)
    )
    return (
        f'<svg class="chart" viewBox="0 0 {left + width + 16} {top + height + 40}" role="img" '
        'aria-label="Deletion test">'
        f'{grid}{ticks}<polygon class="band" points="{band}"/>'
        f'<polyline class="dashed" points="{points(random.mean(0))}"/>'
        f'<polyline class="line" points="{points(test.ranked_probability)}"/>{dots}'
        f'<text x="{left + width / 2}" y="{top + height + 34}" text-anchor="middle">{cells} removed</text></svg>'
        '<p class="key"><svg class="swatch" viewBox="0 0 24 8"><line class="line" x1="0" x2="24" y1="4" y2="4"/></svg> '
        f'{cells} with most evidence first <svg class="swatch" viewBox="0 0 24 8"><line class="dashed" x1="0" x2="24" '
        'y1="4" y2="4"/></svg> random order, mean; band: lowest to highest</p>'
    )


def confusion(labels: Sequence[str], counts: Num[np.ndarray, "classes classes"]) -> str:
    """Confusion matrix as a table with shades: share of each true class, count below."""
    total = counts.sum(1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    head = "".join(f'<th scope="col"><span>{escape(label)}</span></th>' for label in labels)
    body = []
    for i, label in enumerate(labels):
        cells = "".join(
            f'<td class="s{round(10 * float(share[i, j]))}{" same" if i == j else ""}">{100 * share[i, j]:.0f}'
            f"<small>{int(counts[i, j])}</small></td>"
            for j in range(len(labels))
        )
        body.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>')
    return (
        '<div class="scroll"><table class="confusion"><caption>Rows: true class; columns: predicted. Per cent of the '
        f"true class, number of clips below.</caption><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def differences(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Differences with their intervals around a line at 0."""
    reach = max(1e-6, *(max(abs(low), abs(high), abs(value)) for _, value, low, high in rows)) * 1.1
    lines = []
    for label, value, low, high in rows:
        a, m, b = (50 + 50 * v / reach for v in (low, value, high))
        lines.append(
            f'<div class="row"><span class="name">{escape(label)}</span><svg class="bar wide" aria-hidden="true">'
            '<rect class="track" width="100%" height="100%"/><line class="mark" x1="50%" x2="50%" y1="0" y2="100%"/>'
            f'<line class="range thick" x1="{a:.2f}%" x2="{b:.2f}%" y1="50%" y2="50%"/>'
            f'<circle class="dot" cx="{m:.2f}%" cy="50%" r="4"/></svg>'
            f'<span class="value">{escape(f"{signed(value)} ({signed(low)} to {signed(high)})")}</span></div>'
        )
    return f'<div class="bars differences">{"".join(lines)}</div>'


def signed(value: float) -> str:
    """A difference with its sign."""
    return ("+" if value > 0 else "") + number(float(value))
