"""``dferkit train``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dferkit.cli.inputs import refuse_options
from dferkit.cli.options import (
    DataOption,
    DeviceOption,
    EncoderOption,
    Encoders,
    FaceOption,
    FlipOption,
    FrontEndOption,
    GroupsOption,
    LabelsOption,
    SeedOption,
    SettingsOption,
    TextEncoderOption,
    ViewsOption,
    WorkersOption,
    named_labels,
    open_checkpoint,
    open_run,
)
from dferkit.cli.progress import Stages, note, plural
from dferkit.cli.scores import end_with, say_scores

if TYPE_CHECKING:
    from dferkit.models.checkpoint import Checkpoint
    from dferkit.recipes.data import DataOptions
    from dferkit.training.spec import TrainingSpec


_Fold = Annotated[
    str | None,
    typer.Option("--fold", help="For stores only: an official fold, or all (default); with --from one fold."),
]
_Select = Annotated[
    str | None,
    typer.Option(
        "--select", help="For stores only: epoch by val (default), last, or test-leaky (marked in every output)."
    ),
]


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="Model, such as grace, vision_only, a3lign or mean_pooled (an unknown name lists all); or a recipe for an official store: "
            "grace_dfew, grace_ferv39k, grace_mafw, grace_mafw_compound."
        ),
    ] = "grace",
    data: DataOption = Path("clips.csv"),
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for checkpoints and figures.")] = Path("runs/train"),
    start: Annotated[
        str | None,
        typer.Option("--from", help="Adapt box or a checkpoint folder to a few dozen clips, instead of training anew."),
    ] = None,
    front_end: FrontEndOption = None,
    encoder: EncoderOption = None,
    text_encoder: TextEncoderOption = None,
    face: FaceOption = None,
    labels: LabelsOption = None,
    fold: _Fold = None,
    select: _Select = None,
    views: ViewsOption = None,
    flip: FlipOption = False,
    groups: GroupsOption = None,
    votes: Annotated[bool, typer.Option("--votes", help="For stores only: train on DFEW's votes.")] = False,
    seed: SeedOption = 0,
    settings: SettingsOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
) -> None:
    """Train a model on your own labelled clips, or train and test on the folds of an official data set.

    Of clips.csv, rows with split train are used (all rows without that column); val rows are measured at the end. Of a store, every wanted fold is trained
    and tested by the protocol. With --from a checkpoint is adapted, after cross-validation over people. After an interruption the same command resumes.

    Exit code: 0 when every clip was read, 1 when some of clips.csv could not be read, 2 for wrong usage, 3 when too few clips or classes are left.
    """
    of_store = {"--select": select, "--views": views, "--flip": flip, "--votes": votes, "--groups": groups}
    refuse_options(data, of_store={"--fold": fold, **of_store}, of_manifest={"--face": face, "--labels": labels})
    from dferkit.datasets.protocol import ProtocolConfig
    from dferkit.errors import ConfigError
    from dferkit.recipes.data import DataOptions
    from dferkit.recipes.folds import run_store

    options = DataOptions(labels=named_labels(labels), face=face, fold=fold or "", workers=workers)
    if start is not None:
        if recipe != "grace" or any(given is not None for given in (encoder, text_encoder, labels)):
            raise ConfigError(
                "--from keeps the model, the encoders and the classes of its checkpoint; leave out the recipe, --encoder, --text-encoder and --labels"
            )
        if wrong := [option for option, value in of_store.items() if value]:
            raise ConfigError(f"--from adapts to one fold without a choice of the epoch; leave out {', '.join(wrong)}")
        spec = _start_spec(open_checkpoint(start, front_end, data), settings, seed, device)
        _adapt(data, out, spec, options)
        return
    encoders = Encoders(front_end=front_end, encoder=encoder, text_encoder=text_encoder)
    run = open_run(recipe, data, encoders=encoders, settings=settings, seed=seed, device=device)
    if not data.is_dir():
        if run.layout:
            raise ConfigError(
                f"the recipe {recipe} needs a store, a folder that dferkit prepare wrote; --data is {data.name}"
            )
        _train_on_list(data, out, run.spec, options)
        return
    run = replace(
        run,
        spec=replace(run.spec, use_votes=votes),
        protocol=ProtocolConfig(select=select or run.select, times=views or 1, with_flip=flip),
        fold=fold or "all",
        groups=groups,
    )
    with Stages() as report:
        figures, folder = run_store(data, out, run, workers=workers, report=report)
    say_scores(figures, folder)


def _start_spec(checkpoint: Checkpoint, settings: list[str] | None, seed: int, device: str) -> TrainingSpec:
    from dferkit.devices import choose_device
    from dferkit.training.spec import TrainingSpec

    return TrainingSpec(
        model=checkpoint.name,
        encoder=str(checkpoint.about["encoder"]),
        text_encoder=str(checkpoint.about["text_encoder"]),
        settings=tuple(settings or ()),
        seed=seed,
        start=checkpoint,
        device=choose_device(device),
    )


def _train_on_list(data: Path, out: Path, spec: TrainingSpec, options: DataOptions) -> None:
    """Train on a clips.csv and print what it gave."""
    from dferkit.recipes.data import ListedClips, open_clips
    from dferkit.recipes.train import train_list

    with Stages() as report:
        clips = open_clips(data, out / "cache", options)
        assert isinstance(clips, ListedClips)
        folder, figures = train_list(clips, out, spec, report)
    val = f", val UAR {figures['val']['uar']:.3f}" if "val" in figures else ""
    typer.echo(f"{plural(figures['train_clips'], 'clip')}{_unused(figures)}{val}: {folder}")
    end_with(figures["unused"], out / "train.json")


def _adapt(data: Path, out: Path, spec: TrainingSpec, options: DataOptions) -> None:
    """Adapt a checkpoint and print what it gave."""
    from dferkit.evaluation.metrics import WARNINGS
    from dferkit.recipes.adapt import adapt
    from dferkit.recipes.data import open_clips

    assert spec.start is not None
    with Stages() as report:
        clips = open_clips(data, out / "cache", options, model_labels=spec.start.labels)
        folder, figures = adapt(clips, out, spec, report)
    typer.echo(
        f"{plural(figures['train_clips'], 'clip')} of {figures['people']} people{_unused(figures)}; cross-validated over {figures['folds']} folds of people:"
    )
    _say_both(figures["cross_validation"])
    for split in ("val", "test"):
        if split in figures:
            typer.echo(f"rows with split {split}, which nothing was adapted on:")
            _say_both(figures[split])
    typer.echo(figures["verdict"])
    for warning in figures["cross_validation"]["adapted"]["warnings"]:
        note(f"{warning}: {WARNINGS[warning]}")
    typer.echo(str(folder))
    end_with(figures["unused"], out / "train.json")


def _unused(figures: Mapping[str, Any]) -> str:
    return f", {plural(len(figures['unused']), 'clip')} could not be used" if figures["unused"] else ""


def _say_both(figures: Mapping[str, Any]) -> None:
    for name in ("start", "adapted"):
        of = figures[name]
        scores = (
            f"{key.upper()} {of[key]:.3f} ({of[f'{key}_ci95'][0]:.3f}–{of[f'{key}_ci95'][1]:.3f})"
            for key in ("uar", "war")
        )
        typer.echo(f"  {name}: {', '.join(scores)}")
    difference = figures["difference"]["uar"]
    low, high = difference["ci95"]
    typer.echo(f"  adapted minus start: UAR {difference['value']:+.3f} (95 % interval {low:+.3f} to {high:+.3f})")
