"""A comparison of two systems in words (``compare.md``) and as figures (``compare.json``)."""

from __future__ import annotations

import math
from typing import Any

from dferkit.evaluation.compare import Comparison
from dferkit.evaluation.metrics import Estimate
from dferkit.evaluation.summary import evaluation_figures
from dferkit.reports.results_table import markdown_rows


def comparison_figures(comparison: Comparison, files: tuple[str, str]) -> dict[str, Any]:
    """Every figure of the comparison."""
    return {
        "a": {"file": files[0], **evaluation_figures(comparison.a)},
        "b": {"file": files[1], **evaluation_figures(comparison.b)},
        "b_minus_a": difference_figures(comparison),
        "mcnemar": {
            "p": comparison.mcnemar_p,
            "both_wrong": int(comparison.table[0, 0]),
            "only_a_right": int(comparison.table[1, 0]),
            "only_b_right": int(comparison.table[0, 1]),
            "both_right": int(comparison.table[1, 1]),
        },
        "num_clips": comparison.num_clips,
        "verdict": comparison.verdict(),
    }


def difference_figures(comparison: Comparison) -> dict[str, Any]:
    """B minus A, with paired intervals."""
    return {
        **{name: difference.as_dict() for name, difference in _differences(comparison).items()},
        "per_class_recall": dict(zip(comparison.labels, comparison.recall_difference.tolist(), strict=True)),
        "intervals_by": "subjects" if comparison.is_by_subject else "clips",
    }


def comparison_lines(comparison: Comparison) -> list[str]:
    """The comparison in a few lines, the verdict last."""
    lines = [
        f"{name}: UAR {e.uar:.3f} (95 % interval {e.uar_ci95[0]:.3f}–{e.uar_ci95[1]:.3f}), "
        f"WAR {e.war:.3f} ({e.war_ci95[0]:.3f}–{e.war_ci95[1]:.3f}), {e.num_failed} of {e.num_clips} clips without answer"
        for name, e in (("A", comparison.a), ("B", comparison.b))
    ]
    lines += [
        f"{name.upper()} of B minus A: {d.value:+.3f} (95 % interval {d.low:+.3f} to {d.high:+.3f})"
        for name, d in _differences(comparison).items()
    ]
    lines.append(
        f"Only A right: {comparison.table[1, 0]}, only B right: {comparison.table[0, 1]}; McNemar's exact p = {_p(comparison.mcnemar_p)}"
    )
    return [*lines, comparison.verdict()]


def comparison_markdown(comparison: Comparison, files: tuple[str, str]) -> str:
    """The comparison as a page."""
    e, f = comparison.a, comparison.b
    difference = _differences(comparison)
    scores = [
        [
            name.upper(),
            *(f"{getattr(x, name):.3f} ({_range(getattr(x, f'{name}_ci95'))})" for x in (e, f)),
            f"{d.value:+.3f} ({d.low:+.3f} to {d.high:+.3f})",
        ]
        for name, d in difference.items()
    ]
    recalls = [
        [label, str(int(total)), *(_share(value) for value in values[:2]), _share(values[2], sign="+")]
        for label, total, values in zip(
            comparison.labels,
            comparison.clips_per_class.tolist(),
            zip(e.per_class_recall, f.per_class_recall, comparison.recall_difference, strict=True),
            strict=True,
        )
    ]
    unit = "subjects" if comparison.is_by_subject else "clips"
    return "\n".join(
        [
            "# Two systems on the same clips\n",
            f"{comparison.verdict()}\n",
            f"A is `{files[0]}`, B is `{files[1]}`.\n",
            markdown_rows(["score (95 % interval)", "A", "B", "B minus A"], scores),
            f"{comparison.num_clips} clips; intervals from paired draws of {unit}. Without answer: {e.num_failed} and {f.num_failed} (they count as wrong).\n",
            markdown_rows(
                ["clips", "B wrong", "B right"],
                [
                    [f"A {word}", *map(str, row)]
                    for word, row in zip(("wrong", "right"), comparison.table.tolist(), strict=True)
                ],
            ),
            f"McNemar's exact two-sided p = {_p(comparison.mcnemar_p)}. It takes clips as independent; with several clips of one person trust the interval.\n",
            markdown_rows(["recall", "clips", "A", "B", "B minus A"], recalls),
        ]
    )


def _differences(comparison: Comparison) -> dict[str, Estimate]:
    return {"uar": comparison.uar, "war": comparison.war}


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _range(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3f}–{ends[1]:.3f}"


def _share(value: float, *, sign: str = "") -> str:
    return "n/a" if math.isnan(value) else f"{value:{sign}.3f}"
