"""``dferkit demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.progress import Stages


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything the demo makes.")] = Path("demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Stop after the first explained answer (about 20 seconds).")
    ] = False,
    clips: Annotated[int, typer.Option("--clips", min=140, help="Rendered clips of the posed profile.")] = 700,
    natural_clips: Annotated[
        int, typer.Option("--natural-clips", min=140, help="Rendered clips of the natural profile.")
    ] = 420,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed gives other people and other clips.")] = 0,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores by default.")] = None,
) -> None:
    """Show the whole flow on rendered faces: an explained answer first, then training, scores and a report.

    Needs no data and no download. Takes about six minutes on two cores. After an interruption the same command resumes.
    Writes DIR/report.html, DIR/results.json, DIR/checkpoints/ and DIR/run.json.
    """
    from dferkit.recipes.demo import DemoConfig, first_answer, run_demo

    with Stages() as stages:
        stages.say("An explained answer on one rendered video, from the bundled model …")
        page = first_answer(out, seed=seed)
        stages.say(f"  open {page}")
        if quick:
            return
        stages.say(
            "All steps: render, detect faces, describe, train GRACE and the other models, score, explain (about six minutes on two idle cores) …"
        )
        results = run_demo(
            out, DemoConfig(clips=clips, natural_clips=natural_clips, seed=seed), workers=workers, on_progress=stages
        )
    grace, ceiling = results["models"]["grace"], results["ceiling"]["uar"]
    low, high = grace["uar_ci95"]
    typer.echo(
        f"GRACE on unseen people: UAR {grace['uar']:.3f} (95 % interval {low:.3f}–{high:.3f}; ceiling {ceiling:.3f}). Open {out / 'report.html'}"
    )
