"""``dferkit train``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dferkit.cli.inputs import open_checkpoint, refuse_options
from dferkit.cli.progress import Stages, note, plural
from dferkit.cli.scores import say_scores


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="Model: grace, grace_cosine, grace_sentence, grace_no_motion, vision_only, text_only, …; or a recipe for an official store: "
            "grace_dfew, grace_ferv39k, grace_mafw, grace_mafw_compound."
        ),
    ] = "grace",
    data: Annotated[
        Path, typer.Option("--data", help="clips.csv (video,label[,split,subject]), or a store of dferkit prepare.")
    ] = Path("clips.csv"),
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for checkpoints and figures.")] = Path("runs/train"),
    start: Annotated[
        str | None,
        typer.Option(
            "--from", help="clips.csv: adapt box or a checkpoint folder to a few dozen clips, instead of training anew."
        ),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            help="Visual encoder: box, landmarks, box+landmarks, videomae (small, random), a VideoMAE folder, or clip:FOLDER.",
        ),
    ] = "box",
    face: Annotated[
        str | None,
        typer.Option(
            "--face", help="clips.csv: face detector haar (default), yunet, auto, cropped, or a CSV of boxes."
        ),
    ] = None,
    fold: Annotated[str | None, typer.Option("--fold", help="Store: an official fold, or all (default).")] = None,
    select: Annotated[
        str | None,
        typer.Option("--select", help="Store: epoch by val (default), last, or test-leaky (marked in every output)."),
    ] = None,
    views: Annotated[
        int | None, typer.Option("--views", min=1, help="Store: test views in time, 1 by default.")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Store: each test view also mirrored.")] = False,
    groups: Annotated[
        Path | None, typer.Option("--groups", help="Store: CSV of clip_id and attributes, for scores by group.")
    ] = None,
    votes: Annotated[bool, typer.Option("--votes", help="Store: train on DFEW's votes, as soft labels.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same weights.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting: training.epochs=50, model.aligner.epsilon=0.05 (repeat)."),
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores by default.")] = None,
) -> None:
    """Train a model on your own labelled clips, or train and test on the folds of an official data set.

    Of clips.csv, rows with split train are used (all rows without that column); val rows are measured at the end. Of a store, every wanted fold is
    trained and tested by the protocol. With --from a checkpoint is adapted, after cross-validation over the people of your clips. Interrupted, the same
    command goes on.
    """
    refuse_options(
        data,
        of_store={
            "--fold": fold,
            "--select": select,
            "--views": views,
            "--flip": flip,
            "--votes": votes,
            "--groups": groups,
        },
        of_manifest={"--face": face, "--from": start},
    )
    if data.is_dir():
        from dferkit.recipes.official import configure, run_official

        run = configure(
            recipe,
            encoder=encoder,
            select=select or "val",
            views=views or 1,
            flip=flip,
            seed=seed,
            use_votes=votes,
        )
        with Stages() as tell:
            figures, folder = run_official(
                data, out, run, fold=fold or "all", groups=groups, settings=settings or [], workers=workers, tell=tell
            )  # fmt: skip
        say_scores(figures, folder)
        return
    from dferkit.errors import ConfigError
    from dferkit.recipes.official import RECIPES
    from dferkit.recipes.training_run import train_manifest

    if start is not None:
        if recipe != "grace" or encoder != "box":
            raise ConfigError(
                "--from keeps the model and the encoder of its checkpoint; leave out the recipe and --encoder"
            )
        _adapt(data, start, out, face=face or "haar", seed=seed, settings=settings or [], workers=workers)
        return
    if recipe in RECIPES:
        raise ConfigError(
            f"the recipe {recipe} needs a store, a folder that dferkit prepare wrote; --data is {data.name}"
        )

    with Stages() as tell:
        folder, figures = train_manifest(
            data,
            out,
            model=recipe,
            encoder=encoder,
            face=face or "haar",
            seed=seed,
            settings=settings or [],
            workers=workers,
            on_progress=tell,
        )
    val = f", val UAR {figures['val']['uar']:.3f}" if "val" in figures else ""
    failed = f", {plural(figures['failed'], 'clip')} could not be used" if figures["failed"] else ""
    typer.echo(f"{plural(figures['train_clips'], 'clip')}{failed}{val}: {folder}")


def _adapt(
    data: Path, start: str, out: Path, *, face: str, seed: int, settings: Sequence[str], workers: int | None
) -> None:
    from dferkit.evaluation.metrics import WARNINGS
    from dferkit.recipes.adaptation_run import adapt_manifest

    checkpoint = open_checkpoint(start)
    with Stages() as tell:
        folder, figures = adapt_manifest(
            data, checkpoint, out, face=face, seed=seed, settings=settings, workers=workers, on_progress=tell
        )
    failed = f", {plural(figures['failed'], 'clip')} could not be used" if figures["failed"] else ""
    typer.echo(
        f"{plural(figures['train_clips'], 'clip')} of {figures['people']} people{failed}; cross-validated over {figures['folds']} folds of people:"
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
