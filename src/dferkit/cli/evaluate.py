"""``dferkit evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.progress import Stages, note, plural


def evaluate(
    data: Annotated[Path, typer.Option("--data", help="clips.csv with columns video,label[,split,subject].")],
    checkpoint: Annotated[str, typer.Option("--checkpoint", "-c", help="Checkpoint folder, or box.")] = "box",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for metrics.json and predictions.csv.")] = Path(
        "runs/evaluate"
    ),
    face: Annotated[
        str, typer.Option("--face", help="Face detector: haar, yunet, auto, cropped, or a CSV of boxes.")
    ] = "haar",
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores by default.")] = None,
) -> None:
    """Score a checkpoint on labelled clips: UAR and WAR with intervals, recall per class, confusion.

    Uses the rows with split test where there is that column, else all rows. A clip that cannot be answered counts as wrong.
    """
    from dferkit.encoders.box import BOX_FOLDER
    from dferkit.evaluation.metrics import WARNINGS
    from dferkit.models.checkpoint import load_checkpoint
    from dferkit.recipes.scoring import evaluate_manifest

    loaded = load_checkpoint(BOX_FOLDER / "grace" if checkpoint == "box" else Path(checkpoint))
    with Stages() as tell:
        scores, predictions = evaluate_manifest(
            data, loaded, out, face=face, workers=workers, on_progress=lambda a, b: tell("faces and tokens", a, b)
        )
    unreadable = sum(p.status == "unreadable" for p in predictions)
    low, high = scores["uar_ci95"]
    typer.echo(
        f"UAR {scores['uar']:.3f} (95 % interval {low:.3f}–{high:.3f}), WAR {scores['war']:.3f}, {plural(scores['num_clips'], 'clip')}, {scores['num_failed']} without answer: {out / 'metrics.json'}"
    )
    for warning in scores["warnings"]:
        note(f"{warning}: {WARNINGS[warning]}")
    raise typer.Exit(1 if unreadable else 0)
