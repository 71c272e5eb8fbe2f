"""``dferkit pretrain``."""

from __future__ import annotations

import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.options import DeviceOption
from dferkit.cli.progress import Stages


class What(StrEnum):
    """What is trained."""

    BOX = "box"
    CLIP = "clip"


class Start(StrEnum):
    """Initial weights of the video network."""

    NONE = "none"
    BOX = "box"


def pretrain(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; DIR/box or DIR/clip contains the result.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of people, clips and weights.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=1,
            help="Training steps of the video network (by default 13700, with --start box 4500) or of the CLIP (9000).",
        ),
    ] = None,
    start: Annotated[
        Start,
        typer.Option(
            "--start", help="Initial weights of the video network: random ones, or those of the bundled model."
        ),
    ] = Start.NONE,
    what: Annotated[
        What,
        typer.Option(
            "--what", help="The bundled model, called box, or a small CLIP for models that read CLIP (dferkit bench)."
        ),
    ] = What.BOX,
    landmarker: Annotated[
        str,
        typer.Option(
            "--landmarker", help="Face landmarker, for --what box: a .task file, or auto for the one in DFERKIT_MODELS."
        ),
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes and threads; all cores by default.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train the bundled model again, or a small CLIP: render faces, train every part, measure it and write its card.

    The bundled model takes about four hours on two cores and 8 GB of disk, the CLIP about an hour and 4 GB. After an interruption the same
    command resumes.
    """
    from dferkit.devices import choose_device
    from dferkit.errors import ConfigError

    if what is What.BOX:
        _pretrain_box(out, seed, steps, start, landmarker, workers, choose_device(device))
        return
    if start is not Start.NONE:
        raise ConfigError(
            "--start needs --what box; the small CLIP always starts from the convolutions of the bundled model"
        )
    if landmarker != "auto":
        raise ConfigError("--landmarker needs --what box; the small CLIP reads no landmarks")
    _pretrain_clip(out, seed, steps, workers, choose_device(device))


def _pretrain_box(
    out: Path, seed: int, steps: int | None, start: Start, landmarker: str, workers: int | None, device: str
) -> None:
    from dferkit.faces import landmarker_file
    from dferkit.recipes.pretrain import DEFAULT_STEPS, PretrainConfig
    from dferkit.recipes.pretrain import pretrain as run

    config = PretrainConfig(seed=seed, visual_steps=steps or DEFAULT_STEPS[start.value], start=start.value)
    with Stages() as report:
        box = run(
            out, config, landmarker=landmarker_file(landmarker), workers=workers, device=device, on_progress=report
        )
    typer.echo(f"the model is in {box}; its scores are in {box / 'CARD.md'}")


def _pretrain_clip(out: Path, seed: int, steps: int | None, workers: int | None, device: str) -> None:
    from dferkit.pretraining.clip import ClipPretrainingConfig
    from dferkit.recipes.pretrain import PretrainConfig, pretrain_small_clip

    default = ClipPretrainingConfig()
    clip = replace(default, seed=seed, steps=steps or default.steps, threads=workers or os.cpu_count() or 1)
    with Stages() as report:
        folder, figures = pretrain_small_clip(
            out, PretrainConfig(seed=seed), clip, workers=workers, device=device, on_progress=report
        )
    scores = ", ".join(f"{name.removeprefix('probe_')} {value:.3f}" for name, value in figures.items())
    typer.echo(f"the small CLIP is in {folder}; UAR of a linear probe on its frame features: {scores}")
