"""``dferkit transfer``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.options import (
    DeviceOption,
    EncoderOption,
    FlipOption,
    FrontEndOption,
    SeedOption,
    SettingsOption,
    ViewsOption,
    WorkersOption,
    open_run,
)
from dferkit.cli.progress import Stages, note


def transfer(
    test: Annotated[list[Path], typer.Option("--test", help="Store to test on (repeat).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for scores and tables.")],
    train: Annotated[Path | None, typer.Option("--train", help="Store to train on, all its clips.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", "-c", help="Checkpoint to test, instead of --train.")
    ] = None,
    recipe: Annotated[str, typer.Option("--recipe", help="Model: grace, vision_only, … or a recipe.")] = "grace",
    front_end: FrontEndOption = None,
    encoder: EncoderOption = None,
    select: Annotated[
        str | None,
        typer.Option("--select", help="How the epoch is chosen: val (the default for models with epochs) or last."),
    ] = None,
    views: ViewsOption = None,
    flip: FlipOption = False,
    seed: SeedOption = 0,
    settings: SettingsOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
) -> None:
    """Train on one data set and test on others, on the classes that both have.

    Classes are matched by name. Clips of other classes are left out and counted; nothing is merged.
    """
    from dferkit.datasets.protocol import ProtocolConfig
    from dferkit.evaluation.metrics import WARNINGS
    from dferkit.recipes.transfer import transfer as run_transfer

    known = open_run(recipe, train, front_end=front_end, encoder=encoder, settings=settings, seed=seed, device=device)
    protocol = ProtocolConfig(select=select or known.select, times=views or 1, with_flip=flip)
    run = replace(known, protocol=protocol)
    with Stages() as report:
        found = run_transfer(test, out, run, train=train, checkpoint=checkpoint, workers=workers, report=report)
    for name, figures in found.items():
        about = figures["transfer"]
        low, high = figures["uar_ci95"]
        typer.echo(
            f"{name}: UAR {figures['uar']:.3f} (95 % interval {low:.3f}–{high:.3f}), WAR {figures['war']:.3f} on "
            f"{len(about['shared_classes'])} shared classes, {figures['num_clips']:,} clips: {out / name}"
        )
        note(f"{name}: the epoch is {about['selection_rule']}")
        for warning in figures["warnings"]:
            note(f"{name}: {warning}: {WARNINGS[warning]}")
        if about["left_out_clips"]:
            note(
                f"{name}: {about['left_out_clips']:,} clips of other classes were left out ({', '.join(about['left_out_classes'])})"
            )
