"""The tables of ``dferkit ablate mechanism`` in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dferkit.reports.results_table import markdown_rows

_WHOLE = 400  # training videos of a run that counts
_CHANCE = (("text only", "text_only"), ("video only", "video_only"))


def mechanism_page(results: Mapping[str, Any]) -> str:
    """Accuracy of every cell on every task, the three claims, and where the evidence lies."""
    parts = ["# Results of the mechanism benchmark", _introduction(results), _accuracy(results)]
    if results["claims"]:
        parts.append(_claims(results))
    if results["localisation"]:
        parts.append(_localisation(results))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _introduction(results: Mapping[str, Any]) -> str:
    config, tasks = results["config"], results["tasks"]
    sizes = ", ".join(
        f"`{name}` {task['test_clips']} clips of {task['test_people']} people" for name, task in tasks.items()
    )
    seeds = "1 seed" if config["seeds"] == 1 else f"{config['seeds']} seeds"
    small = "" if config["data"]["train_videos"] >= _WHOLE else " **This was a small run: its figures say nothing.**"
    return (
        f"Made by `dferkit ablate mechanism` {results['version']} with {seeds}, "
        f"{config['data']['train_videos']} training videos and {config['data']['test_videos']} test videos of each task "
        f"(a test side has {sizes}). [The tasks and the rule](mechanism.md) were written down before the run.{small}"
    )


def _accuracy(results: Mapping[str, Any]) -> str:
    tasks = results["tasks"]
    rows = []
    for words, key in _CHANCE:
        chances = [task[key] for task in tasks.values()]
        rows.append(
            [f"*highest expected from {words}*", *("measured below" if c is None else f"{c:.2f}" for c in chances)]
        )
    for cell in next(iter(tasks.values()))["accuracy"]:
        rows.append([cell, *(_interval(task["accuracy"][cell]) for task in tasks.values())])
    return "## Accuracy, with 95 % intervals over people and seeds\n\n" + markdown_rows(
        ("cell", *_columns(results)), rows
    )


def _claims(results: Mapping[str, Any]) -> str:
    tasks = results["tasks"]
    rows = []
    for claim in results["claims"]:
        compared = f"{claim['cell']} − {claim['rival']}"
        differences = [_interval(claim["differences"][name], signed=True) for name in tasks]
        rows.append([claim["name"], compared, *differences, f"**{claim['verdict']}**"])
    return (
        f"## The three claims\n\nThe best form of transport on `which_when` is **{results['best_transport']}**.\n\n"
        + markdown_rows(("claim", "compared", *_columns(results), "verdict"), rows)
    )


def _localisation(results: Mapping[str, Any]) -> str:
    keys = ("mass_inside", "times_uniform", "times_shuffled")
    rows = [[cell, *(f"{found[key]:.2f}" for key in keys)] for cell, found in results["localisation"].items()]
    return (
        "## Where the evidence lies\n\nShare of the evidence for the answer (on `which_when`) in the cells that the named movement moves.\n\n"
        + markdown_rows(("cell", "evidence inside the moving cells", "× uniform", "× another movement's cells"), rows)
    )


def _columns(results: Mapping[str, Any]) -> list[str]:
    return [f"`{name}`" for name in results["tasks"]]


def _interval(value: Mapping[str, float], *, signed: bool = False) -> str:
    mean, low, high = (_decimal(value[key], signed=signed) for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _decimal(value: float, *, signed: bool) -> str:
    return (f"{value:+.3f}" if signed else f"{value:.3f}").replace("-", "−")
