"""The tables of ``dferkit ablate mechanism`` in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_WHOLE = 400  # training videos of a run that counts
_CHANCE = (("text only", "text_only"), ("video only", "video_only"))


def mechanism_page(results: Mapping[str, Any]) -> str:
    """Accuracy of every cell on every task, the three claims, and where the evidence lies."""
    parts = ["# Results of the mechanism benchmark", _introduction(results), _accuracy(results)]
    if results["claims"]:
        parts.append(_claims(results))
    if results["localisation"]:
        parts.append(_localisation(results))
    return "\n\n".join(parts) + "\n"


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
    rows = [["cell", *(f"`{name}`" for name in tasks)]]
    for words, key in _CHANCE:
        chances = [task[key] for task in tasks.values()]
        rows.append(
            [f"*highest expected from {words}*", *("measured below" if c is None else f"{c:.2f}" for c in chances)]
        )
    for cell in next(iter(tasks.values()))["accuracy"]:
        rows.append([cell, *(_interval(task["accuracy"][cell]) for task in tasks.values())])
    return "## Accuracy, with 95 % intervals over people and seeds\n\n" + _table(rows)


def _claims(results: Mapping[str, Any]) -> str:
    tasks = results["tasks"]
    rows = [["claim", "compared", *(f"`{name}`" for name in tasks), "verdict"]]
    for claim in results["claims"]:
        compared = f"{claim['cell']} − {claim['rival']}"
        differences = [_interval(claim["differences"][name], signed=True) for name in tasks]
        rows.append([claim["name"], compared, *differences, f"**{claim['verdict']}**"])
    return (
        f"## The three claims\n\nThe best form of transport on `which_when` is **{results['best_transport']}**.\n\n"
        + _table(rows)
    )


def _localisation(results: Mapping[str, Any]) -> str:
    rows = [["cell", "evidence inside the moving cells", "× uniform", "× another movement's cells"]]
    for cell, found in results["localisation"].items():
        rows.append(
            [cell, f"{found['mass_inside']:.2f}", f"{found['times_uniform']:.2f}", f"{found['times_shuffled']:.2f}"]
        )
    return (
        "## Where the evidence lies\n\nShare of the evidence for the answer (on `which_when`) in the cells that the named movement moves.\n\n"
        + _table(rows)
    )


def _interval(value: Mapping[str, float], *, signed: bool = False) -> str:
    mean, low, high = (_decimal(value[key], signed=signed) for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _decimal(value: float, *, signed: bool) -> str:
    return (f"{value:+.3f}" if signed else f"{value:.3f}").replace("-", "−")


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])
