"""``dferkit transfer``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.options import (
    DeviceOption,
    EncoderOption,
    Encoders,
    FaceOption,
    FlipOption,
    FrontEndOption,
    LabelsOption,
    SeedOption,
    SettingsOption,
    TextEncoderOption,
    ViewsOption,
    WorkersOption,
    named_labels,
    open_checkpoint,
    open_run,
    stored_landmarks,
)
from dferkit.cli.progress import Stages, note

_Select = Annotated[
    str | None,
    typer.Option(
        "--select", help="For stores only: the epoch is chosen by val (the default for models with epochs) or last."
    ),
]


def transfer(
    test: Annotated[list[Path], typer.Option("--test", help="Store or clips.csv to test on (repeat).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for scores and tables.")],
    train: Annotated[
        Path | None, typer.Option("--train", help="Store to train on, all its clips; or a clips.csv.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", "-c", help="Checkpoint folder or box, instead of --train.")
    ] = None,
    recipe: Annotated[str, typer.Option("--recipe", help="Model: grace, vision_only, … or a recipe.")] = "grace",
    front_end: FrontEndOption = None,
    encoder: EncoderOption = None,
    text_encoder: TextEncoderOption = None,
    select: _Select = None,
    face: FaceOption = None,
    labels: LabelsOption = None,
    views: ViewsOption = None,
    flip: FlipOption = False,
    seed: SeedOption = 0,
    settings: SettingsOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
) -> None:
    """Train on one data set and test on others, on the classes that both have.

    Classes are matched by name. Clips of other classes are left out and counted; nothing is merged. Of a clips.csv, the classes are those of its
    rows; where it marks rows train and test, each side is used for its purpose.
    """
    from dferkit.datasets.protocol import ProtocolConfig
    from dferkit.devices import choose_device
    from dferkit.errors import ConfigError
    from dferkit.evaluation.metrics import WARNINGS
    from dferkit.recipes.data import DataOptions
    from dferkit.recipes.folds import StoreRun
    from dferkit.recipes.transfer import transfer as run_transfer
    from dferkit.training.spec import TrainingSpec

    options = DataOptions(labels=named_labels(labels), face=face, workers=workers)
    model, is_list = None, train is not None and not train.is_dir()
    if checkpoint is not None:
        of_training = {
            "--recipe": recipe != "grace",
            "--encoder": encoder,
            "--text-encoder": text_encoder,
            "--select": select,
            "--seed": seed,
            "--set": settings,
        }
        if unread := [option for option, value in of_training.items() if value]:
            raise ConfigError(f"--checkpoint is trained already; leave out {', '.join(unread)}")
        # Landmarks are read only where every store has them.
        model = open_checkpoint(checkpoint, front_end, next((t for t in test if stored_landmarks(t) is False), test[0]))
        run = StoreRun(spec=TrainingSpec(device=choose_device(device)))
    else:
        if is_list and select not in (None, "last"):
            raise ConfigError(f"--select {select} is for a store; a training on a clips.csv keeps the last epoch")
        encoders = Encoders(front_end=front_end, encoder=encoder, text_encoder=text_encoder)
        run = open_run(recipe, train, encoders=encoders, settings=settings, seed=seed, device=device)
    rule = select or ("last" if is_list else run.select)
    run = replace(run, protocol=ProtocolConfig(select=rule, times=views or 1, with_flip=flip))
    with Stages() as report:
        found = run_transfer(test, out, run, train=train, checkpoint=model, options=options, report=report)
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
