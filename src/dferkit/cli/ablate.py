"""``dferkit ablate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.progress import Stages

ablate = typer.Typer(
    name="ablate",
    no_args_is_help=True,
    add_completion=False,
    help="Compare the parts of the method on tasks whose truth is known.",
)


@ablate.callback()  # with a callback, a single command keeps its name
def about() -> None:
    """Compare the parts of the method on tasks whose truth is known."""


@ablate.command("mechanism")
def mechanism(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for videos, tokens, answers and tables.")] = Path(
        "mechanism"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Everything in small (about four minutes); its figures say nothing.")
    ] = False,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task", help="One of the tasks; give the option again for more. All by default; the verdict needs all."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Trainings of every cell (default 5). More can be added later.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores by default.")] = None,
) -> None:
    """Five tasks that need both text and video: transport or cosine, phrases or sentence, motion weights or none.

    Renders real video files, trains every cell of the grid on each, and applies the rule of docs/explanation/mechanism.md.

    Takes several hours on two cores; after an interruption the same command resumes. Writes DIR/results.md and DIR/results.json.
    """
    from dataclasses import replace

    from dferkit.recipes.mechanism import QUICK, MechanismConfig, run_mechanism

    config = QUICK if quick else MechanismConfig()
    config = replace(config, tasks=tuple(dict.fromkeys(task)) if task else config.tasks, seeds=seeds or config.seeds)
    with Stages() as stages:
        results = run_mechanism(out, config, workers=workers, on_progress=stages)
    claims = ", ".join(f"{claim['name']}: {claim['verdict']}" for claim in results["claims"])
    typer.echo(f"{claims or 'No verdict: it needs all five tasks'}. Open {out / 'results.md'}")
