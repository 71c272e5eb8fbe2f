"""``dferkit evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.inputs import refuse_options
from dferkit.cli.options import (
    CheckpointOption,
    DataOption,
    DeviceOption,
    FaceOption,
    FlipOption,
    FrontEndOption,
    GroupsOption,
    ViewsOption,
    WorkersOption,
    open_checkpoint,
)
from dferkit.cli.progress import Stages
from dferkit.cli.scores import say_scores


def evaluate(
    data: DataOption,
    checkpoint: CheckpointOption = "box",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for metrics.json and predictions.csv.")] = Path(
        "runs/evaluate"
    ),
    front_end: FrontEndOption = None,
    face: FaceOption = None,
    fold: Annotated[
        str | None,
        typer.Option(
            "--fold", help="For stores only: the fold whose test clips are scored; by default the checkpoint's own."
        ),
    ] = None,
    views: ViewsOption = None,
    flip: FlipOption = False,
    groups: GroupsOption = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline",
            help="Another tool's answers, scored on the same clips: NAME=table.csv or NAME=model.onnx,names.txt; repeatable.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
) -> None:
    """Score a checkpoint on labelled clips: UAR and WAR with intervals, recall per class, confusion, calibration, groups.

    Of clips.csv, rows with split test are used where there is that column, else all rows; of a store, the test clips of a fold. A clip that cannot be
    answered counts as wrong; with landmarks that includes a clip in which the landmarker finds no face, of which predict with box reads the pixels. Under
    torchrun a store's clips are shared out and scored once.
    """
    refuse_options(
        data,
        of_store={"--fold": fold, "--views": views, "--flip": flip, "--groups": groups},
        of_manifest={"--face": face},
    )
    from dferkit.datasets.protocol import ProtocolConfig
    from dferkit.devices import choose_device
    from dferkit.recipes.baselines import parse_baselines
    from dferkit.recipes.data import DataOptions
    from dferkit.recipes.evaluate import EvaluationRun
    from dferkit.recipes.evaluate import evaluate as run_evaluation

    run = EvaluationRun(
        fold=fold or "",
        protocol=ProtocolConfig(times=views or 1, with_flip=flip),
        baselines=parse_baselines(baseline or []),
        options=DataOptions(face=face, groups=groups, workers=workers),
        device=choose_device(device),
    )
    with Stages() as report:
        found = run_evaluation(data, open_checkpoint(checkpoint, front_end, data), out, run, report)
    if found is None:
        return
    say_scores(found.figures, out)
    is_list = not data.is_dir()
    raise typer.Exit(1 if is_list and any(s.status == "unreadable" for s in found.statuses.values()) else 0)
