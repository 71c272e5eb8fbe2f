"""``dferkit pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.progress import Stages


def pretrain(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; DIR/box holds the result.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of people, clips and weights.")] = 0,
    clips: Annotated[int, typer.Option("--clips", min=384, help="Rendered clips for the video network.")] = 5760,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps of the video network.")] = 13700,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes and threads; all cores by default.")
    ] = None,
) -> None:
    """Rebuild the small model in the box from nothing: render, train every part, measure, write its card.

    Takes up to two hours on two cores and 2 GB of disk. Interrupted, the same command goes on.
    """
    from dferkit.recipes.pretrain import PretrainConfig
    from dferkit.recipes.pretrain import pretrain as run

    with Stages() as tell:
        box = run(out, PretrainConfig(seed=seed, clips=clips, visual_steps=steps), workers=workers, on_progress=tell)
    typer.echo(f"the box is in {box}; its figures are in {box / 'CARD.md'}")
