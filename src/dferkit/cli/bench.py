"""``dferkit bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dferkit.cli.options import (
    DeviceOption,
    EncoderOption,
    FaceOption,
    FlipOption,
    FrontEndOption,
    LabelsOption,
    TextEncoderOption,
    ViewsOption,
    WorkersOption,
    named_labels,
    resolve_encoder,
)
from dferkit.cli.progress import Stages, note, plural
from dferkit.cli.scores import end_with

if TYPE_CHECKING:
    from dferkit.recipes.bench import Outcome

_DEFAULT = "class_prior,mean_pooled,text_only,vision_only,grace"


def bench(
    data: Annotated[
        Path, typer.Option("--data", help="clips.csv with a column split (train, test), or a store of dferkit prepare.")
    ],
    models: Annotated[
        str,
        typer.Option("--models", help="Names with commas between them, or all; an unknown one lists what there is."),
    ] = _DEFAULT,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for answers, figures and tables.")] = Path(
        "runs/bench"
    ),
    front_end: FrontEndOption = None,
    encoder: EncoderOption = None,
    text_encoder: TextEncoderOption = None,
    clip: Annotated[str | None, typer.Option("--clip", help="CLIP folder, for the models that read CLIP.")] = None,
    clip_size: Annotated[
        str,
        typer.Option(
            "--clip-size",
            help="How crops and CLIP are fitted: upsample enlarges the crops to CLIP's input size, interpolate resizes CLIP's position embeddings to the crops.",
        ),
    ] = "upsample",
    videomae: Annotated[
        str | None,
        typer.Option("--videomae", help="VideoMAE folder; by default a small one with random weights."),
    ] = None,
    fold: Annotated[str, typer.Option("--fold", help="For stores only: an official fold, or all.")] = "all",
    views: ViewsOption = None,
    flip: FlipOption = False,
    labels: LabelsOption = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="How often each model is trained, with the seeds 0, 1, 2, …")
    ] = 1,
    face: FaceOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a setting of a family of models: grace.training.epochs=5, a3lign.training.epochs=[4,3,3], baseline.training.epochs=10 (repeat).",
        ),
    ] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
) -> None:
    """Compare models on one data set: same clips, same protocol, one table with intervals, and scores with the frames in other orders.

    The last weights of each are scored; nothing is chosen on the test clips. After an interruption the same command resumes.

    Exit code: 0 when every clip was read, 1 when some could not be read, 2 for wrong usage.
    """
    from dferkit.devices import choose_device
    from dferkit.models.registry import MODELS
    from dferkit.recipes.bench import BenchRun, run_bench
    from dferkit.recipes.data import DataOptions

    chosen = tuple(MODELS) if models == "all" else tuple(name.strip() for name in models.split(","))
    run = BenchRun(
        models=chosen,
        encoder=resolve_encoder(front_end, encoder, data),
        text_encoder=text_encoder,
        device=choose_device(device),
        clip=clip,
        clip_size=clip_size,
        videomae=videomae,
        fold=fold,
        views=views or 1,
        with_flip=flip,
        seeds=seeds,
        settings=tuple(settings or ()),
        options=DataOptions(labels=named_labels(labels), face=face, workers=workers),
    )
    with Stages() as report:
        outcome = run_bench(data, out, run, report=report)
    _say(outcome, len(set(chosen)), out)


def _say(outcome: Outcome, num_models: int, out: Path) -> None:
    from dferkit.evaluation.metrics import WARNINGS

    typer.echo(outcome.table)
    for warning in outcome.warnings:
        note(f"{warning}: {WARNINGS[warning]}")
    if outcome.unused:
        note("Clips that cannot be used are left out of training; in a test they count as wrong.")
    typer.echo(f"{plural(num_models, 'model')}: {out / 'results.md'}, frame order {out / 'order.md'}")
    end_with(outcome.unused, out / "bench.json")
