"""``dferkit evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.inputs import open_checkpoint, refuse_options
from dferkit.cli.progress import Stages
from dferkit.cli.scores import say_scores


def evaluate(
    data: Annotated[
        Path, typer.Option("--data", help="clips.csv (video,label[,split,subject]), or a store of dferkit prepare.")
    ],
    checkpoint: Annotated[str, typer.Option("--checkpoint", "-c", help="Checkpoint folder, or box.")] = "box",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for metrics.json and predictions.csv.")] = Path(
        "runs/evaluate"
    ),
    face: Annotated[
        str | None,
        typer.Option(
            "--face", help="clips.csv: face detector haar (default), yunet, auto, cropped, or a CSV of boxes."
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option("--fold", help="Store: the fold whose test clips are scored; by default the checkpoint's own."),
    ] = None,
    views: Annotated[
        int | None, typer.Option("--views", min=1, help="Store: test views in time, 1 by default.")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Store: each test view also mirrored.")] = False,
    groups: Annotated[
        Path | None, typer.Option("--groups", help="Store: CSV of clip_id and attributes, for scores by group.")
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline",
            help="Another tool's answers, scored on the same clips: NAME=table.csv or NAME=model.onnx,names.txt; repeatable.",
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores by default.")] = None,
) -> None:
    """Score a checkpoint on labelled clips: UAR and WAR with intervals, recall per class, confusion, calibration, groups.

    Of clips.csv, rows with split test are used where there is that column, else all rows; of a store, the test clips of a fold. A clip that cannot be
    answered counts as wrong. Under torchrun a store's clips are shared out and scored once.
    """
    refuse_options(
        data,
        of_store={"--fold": fold, "--views": views, "--flip": flip, "--groups": groups},
        of_manifest={"--face": face},
    )
    from dferkit.recipes.baselines import parse_baselines

    baselines = parse_baselines(baseline or [])
    loaded = open_checkpoint(checkpoint)
    if data.is_dir():
        from dferkit.datasets.protocol import ProtocolConfig
        from dferkit.recipes.store_scoring import evaluate_store

        with Stages() as tell:
            figures = evaluate_store(
                data,
                loaded,
                out,
                fold=fold or "",
                groups=groups,
                protocol=ProtocolConfig(times=views or 1, with_flip=flip),
                baselines=baselines,
                workers=workers,
                tell=tell,
            )
        if figures is not None:
            say_scores(figures, out)
        return
    from dferkit.recipes.scoring import evaluate_manifest

    with Stages() as tell:
        figures, predictions = evaluate_manifest(
            data,
            loaded,
            out,
            face=face or "haar",
            workers=workers,
            baselines=baselines,
            on_progress=lambda a, b: tell("faces and tokens", a, b),
            on_baselines=lambda a, b: tell("baselines", a, b),
        )
    say_scores(figures, out)
    raise typer.Exit(1 if any(p.status == "unreadable" for p in predictions) else 0)
