"""``dferkit train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.progress import Stages, plural


def train(
    recipe: Annotated[
        str,
        typer.Argument(help="Model: grace, grace_cosine, grace_sentence, grace_no_motion, vision_only, text_only, …"),
    ] = "grace",
    data: Annotated[Path, typer.Option("--data", help="clips.csv with columns video,label[,split,subject].")] = Path(
        "clips.csv"
    ),
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for checkpoints and figures.")] = Path("runs/train"),
    encoder: Annotated[
        str, typer.Option("--encoder", help="Visual encoder: box, videomae (small, random) or a VideoMAE folder.")
    ] = "box",
    face: Annotated[
        str, typer.Option("--face", help="Face detector: haar, yunet, auto, cropped, or a CSV of boxes.")
    ] = "haar",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same weights.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting: training.epochs=50, model.aligner.epsilon=0.05 (repeat)."),
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores by default.")] = None,
) -> None:
    """Train a model on your own labelled clips.

    Rows with split train are used (all rows without that column); val rows are measured at the end. Interrupted, the same command goes on.
    """
    from dferkit.recipes.training_run import train_manifest

    with Stages() as tell:
        folder, figures = train_manifest(
            data,
            out,
            model=recipe,
            encoder=encoder,
            face=face,
            seed=seed,
            settings=settings or [],
            workers=workers,
            on_progress=tell,
        )
    val = f", val UAR {figures['val']['uar']:.3f}" if "val" in figures else ""
    failed = f", {plural(figures['failed'], 'clip')} could not be used" if figures["failed"] else ""
    typer.echo(f"{plural(figures['train_clips'], 'clip')}{failed}{val}: {folder}")
