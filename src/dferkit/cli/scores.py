"""The last lines of a command that trained or scored something."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import typer

from dferkit.cli.progress import note, plural

_NAMED = 5


def end_with(unused: Mapping[str, str], file: Path) -> NoReturn:
    """Name the clips that were not used (the first five) with their reasons, and end: with 1 if one could not be read, else with 0.

    Args:
        unused: Status and reason by clip id. file: Lists all of them.
    """
    for clip_id, reason in list(unused.items())[:_NAMED]:
        note(f"not used: {clip_id}: {reason}")
    if len(unused) > _NAMED:
        note(f"not used: {len(unused) - _NAMED} more, all in {file}")
    raise typer.Exit(1 if any(reason.startswith("unreadable") for reason in unused.values()) else 0)


def say_scores(figures: Mapping[str, Any], out: Path) -> None:
    """One line of scores on stdout, and one per baseline; how the epoch was chosen and every warning on stderr."""
    from dferkit.datasets.protocol import RULE_TEXT
    from dferkit.evaluation.metrics import WARNINGS

    low, high = figures["uar_ci95"]
    folds = figures.get("folds")
    spread = f", over {folds['num_folds']} folds {folds['uar_mean']:.3f} ± {folds['uar_sd']:.3f}" if folds else ""
    typer.echo(
        f"UAR {figures['uar']:.3f} (95 % interval {low:.3f}–{high:.3f}){spread}, WAR {figures['war']:.3f}, "
        f"{plural(figures['num_clips'], 'clip')}, {figures['num_failed']} without answer: {out / 'metrics.json'}"
    )
    for name, row in figures.get("baselines", {}).items():
        low, high = row["uar_ci95"]
        typer.echo(
            f"baseline {name}: UAR {row['uar']:.3f} (95 % interval {low:.3f}–{high:.3f}), WAR {row['war']:.3f}, "
            f"{row['num_failed']} without answer; {'. '.join([row['source'], *row['notes']])}"
        )
    if rule := figures.get("selection"):
        note(f"selection {rule}: {RULE_TEXT[rule]}")
    for warning in figures["warnings"]:
        note(f"{warning}: {WARNINGS[warning]}")
