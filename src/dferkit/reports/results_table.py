"""Tables of results for a paper or a README, from the figures of ``metrics.json``: Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dferkit.errors import ConfigError
from dferkit.storage import guard_cell, write_text

FORMATS = ("markdown", "csv", "latex")
LEAKY = "test-leaky"
FOOTNOTE = "Chosen by its score on the test clips themselves, so the score is too good by an unknown amount."
_DAGGER = "†"
_HEAD = (
    "run",
    "UAR, all clips",
    "95 % interval",
    "WAR, all clips",
    "UAR, mean ± SD of folds",
    "WAR, mean ± SD of folds",
    "clips",
    "selection",
)
_CSV_HEAD = (
    "run", "uar", "uar_low", "uar_high", "war", "war_low", "war_high", "num_folds", "uar_mean", "uar_sd", "war_mean",
    "war_sd", "num_clips", "num_failed", "selection", "note",
)  # fmt: skip
_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "±": r"$\pm$",
    _DAGGER: r"$^\dagger$", **{sign: "\\" + sign for sign in "&%$#_{}"},
}  # fmt: skip


def results_table(runs: Mapping[str, Mapping[str, Any]], *, form: str = "markdown") -> str:
    """One row per run, in the order given.

    A run whose ``selection`` is ``test-leaky`` gets a dagger and a footnote. With several folds UAR and WAR are those of
    all clips pooled, and the mean ± sample standard deviation over folds stands beside them.

    Args:
        runs: Figures of ``evaluation.summary.summarize`` by the name of the run; the optional key ``selection`` says how
            its epoch was chosen.
        form: ``markdown``, ``csv`` (numbers in full, for programs) or ``latex`` (needs the package booktabs).

    Raises:
        ConfigError: An unknown form.
    """
    if form not in FORMATS:
        raise ConfigError(f"unknown form {form!r}; known: {', '.join(FORMATS)}")
    if form == "csv":
        return _csv([_CSV_HEAD, *(_numbers(name, figures) for name, figures in runs.items())])
    rows = [_words(name, figures) for name, figures in runs.items()]
    has_leaky = any(_is_leaky(figures) for figures in runs.values())
    if form == "latex":
        return _latex(_HEAD, rows, f"{_DAGGER} {FOOTNOTE}" if has_leaky else "")
    return markdown_rows(_HEAD, rows) + (f"\n{_DAGGER} {FOOTNOTE}\n" if has_leaky else "")


def write_results(folder: Path, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """``results.md``, ``results.csv`` and ``results.tex`` in a folder."""
    for form, suffix in zip(FORMATS, ("md", "csv", "tex"), strict=True):
        write_text(folder / f"results.{suffix}", results_table(runs, form=form))


def markdown_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; cells cannot break out of it."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_one_line(cell).replace("\\", "\\\\").replace("|", "\\|") for cell in cells) + " |\n"

    return "".join([line(head), line(["---"] * len(head)), *map(line, rows)])


def _is_leaky(figures: Mapping[str, Any]) -> bool:
    return figures.get("selection") == LEAKY


def _words(name: str, figures: Mapping[str, Any]) -> list[str]:
    folds = figures.get("folds") or {}
    failed = figures.get("num_failed") or 0
    return [
        f"{name} {_DAGGER}" if _is_leaky(figures) else name,
        _score(figures["uar"]),
        "–".join(_score(end) for end in figures["uar_ci95"]),
        _score(figures["war"]),
        *(f"{_score(folds[f'{s}_mean'])} ± {_score(folds[f'{s}_sd'])}" if folds else "" for s in ("uar", "war")),
        f"{figures['num_clips']}" + (f" ({failed} without answer)" if failed else ""),
        str(figures.get("selection") or ""),
    ]


def _numbers(name: str, figures: Mapping[str, Any]) -> list[str]:
    folds = figures.get("folds") or {}
    values = [
        figures["uar"],
        *figures["uar_ci95"],
        figures["war"],
        *figures["war_ci95"],
        *(folds.get(key) for key in ("num_folds", "uar_mean", "uar_sd", "war_mean", "war_sd")),
        figures["num_clips"],
        figures.get("num_failed"),
    ]
    is_leaky = _is_leaky(figures)
    return [
        guard_cell(f"{name} {_DAGGER}" if is_leaky else name),
        *("" if value is None else repr(value) for value in values),
        guard_cell(str(figures.get("selection") or "")),
        FOOTNOTE if is_leaky else "",
    ]


def _score(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _csv(rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _latex(head: Sequence[str], rows: Sequence[Sequence[str]], footnote: str) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(latex_text(cell) for cell in cells) + r" \\"

    note = [rf"\multicolumn{{{len(head)}}}{{l}}{{\footnotesize {latex_text(footnote)}}} \\"] if footnote else []
    return "\n".join(
        [
            rf"\begin{{tabular}}{{l{'c' * (len(head) - 2)}l}}",
            r"\toprule",
            line(head),
            r"\midrule",
            *(line(row) for row in rows),
            r"\bottomrule",
            *note,
            r"\end{tabular}",
            "",
        ]
    )


def latex_text(text: str) -> str:
    """Text with the signs that LaTeX takes for commands escaped."""
    return re.sub(".", lambda match: _LATEX.get(match[0], match[0]), _one_line(text))
