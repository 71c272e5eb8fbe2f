"""``dferkit pretrain``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.progress import Stages


def pretrain(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; DIR/box or DIR/clip holds the result.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of people, clips and weights.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=1,
            help="Training steps: of the video network 13700 from random weights, 4500 from the box; of the CLIP 9000.",
        ),
    ] = None,
    start: Annotated[
        str,
        typer.Option("--start", help="Video network: none (random weights), or box (go on from the installed one)."),
    ] = "none",
    what: Annotated[
        str, typer.Option("--what", help="box, or clip: a small CLIP for models that read CLIP (dferkit bench).")
    ] = "box",
    landmarker: Annotated[
        str,
        typer.Option(
            "--landmarker", help="Face landmarker, for the box: a .task file, or auto for the one in DFERKIT_MODELS."
        ),
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes and threads; all cores by default.")
    ] = None,
) -> None:
    """Rebuild the small model in the box from nothing: render, train every part, measure, write its card. With --what clip, a small CLIP.

    Takes some four hours on two cores and 8 GB of disk, the CLIP a good hour and 4 GB. Interrupted, the same command goes on.
    """
    from dferkit.errors import ConfigError
    from dferkit.faces import landmarker_file
    from dferkit.recipes.pretrain import DEFAULT_STEPS, PretrainConfig, pretrain_small_clip
    from dferkit.recipes.pretrain import pretrain as run

    if what not in ("box", "clip"):
        raise ConfigError(f"--what is {what!r}; choose box or clip")
    if what == "clip":
        from dferkit.pretraining.clip import ClipPretrainingConfig

        if start != "none":
            raise ConfigError("--start is for the box; the small CLIP begins with the box's convolutions")
        if landmarker != "auto":
            raise ConfigError("--landmarker is for the box; the small CLIP reads no landmarks")
        sizes = ClipPretrainingConfig()
        clip = replace(sizes, seed=seed, steps=steps or sizes.steps, threads=workers or os.cpu_count() or 1)
        with Stages() as tell:
            folder, figures = pretrain_small_clip(
                out, PretrainConfig(seed=seed), clip, workers=workers, on_progress=tell
            )  # fmt: skip
        probed = ", ".join(f"{name.removeprefix('probe_')} {value:.3f}" for name, value in figures.items())
        typer.echo(f"the small CLIP is in {folder}; UAR of a linear probe on its frame features: {probed}")
        return
    with Stages() as tell:
        chosen = steps or DEFAULT_STEPS.get(start, 1)
        settings = PretrainConfig(seed=seed, visual_steps=chosen, start=start)
        box = run(out, settings, landmarker=landmarker_file(landmarker), workers=workers, on_progress=tell)
    typer.echo(f"the box is in {box}; its figures are in {box / 'CARD.md'}")
