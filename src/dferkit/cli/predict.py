"""``dferkit predict``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dferkit.cli.inputs import (
    GuideLabelsOption,
    GuideOption,
    LandmarkerOption,
    NeutralOption,
    UnitsOption,
    expand_inputs,
    open_tools,
)
from dferkit.cli.progress import Stages, note, plural

if TYPE_CHECKING:
    from dferkit.schema import Prediction


def predict(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Video files, folders of videos, or folders of numbered pictures (one video each).", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for predictions.csv, frames.csv, alignments.csv, run.json."),
    ] = None,
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", "-c", help="Checkpoint folder, or box (shipped with dferkit).")
    ] = "box",
    window: Annotated[float, typer.Option("--window", help="Seconds per answer.")] = 2.0,
    stride: Annotated[
        float | None, typer.Option("--stride", help="Seconds from one answer to the next; by default the window.")
    ] = None,
    people: Annotated[str, typer.Option("--people", help="largest, or all.")] = "largest",
    face: Annotated[
        str, typer.Option("--face", help="Face detector: auto, haar, yunet, cropped, or a CSV of boxes.")
    ] = "auto",
    landmarker: LandmarkerOption = "auto",
    neutral: NeutralOption = None,
    units: UnitsOption = None,
    guide: GuideOption = None,
    guide_labels: GuideLabelsOption = None,
    report: Annotated[bool, typer.Option("--report", help="Also write report.html, which shows faces.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress and no table on the screen; only what could not be read.")
    ] = False,
) -> None:
    """Name the apparent expression in videos, one answer per input and window.

    Ends with 0 when every input got its answer (no face and abstention are answers), 1 when some could not be read, 3 when none could.
    """
    from dferkit.errors import ConfigError
    from dferkit.pipeline import ReadingSettings, load
    from dferkit.readings import ClassTables
    from dferkit.recipes.prediction import predict_files
    from dferkit.reports.notice import confidence_note

    if report and out is None:
        raise ConfigError("--report writes report.html into the folder of --out; give --out DIR")

    settings = ReadingSettings(
        window_seconds=window,
        stride_seconds=stride,
        people=people,
        neutral=None if neutral is None else str(neutral),
    )
    files, empty = expand_inputs(inputs)
    videos = [str(path) for path, _ in files]
    external = open_tools(units, guide, guide_labels, videos)
    if people == "all" and (external.units is not None or isinstance(external.guide, ClassTables)):
        raise ConfigError("a table describes one person; use --people largest with --units and with a table as --guide")
    model = load(checkpoint, face=face, landmarker=landmarker, settings=settings, external=external)
    started = time.monotonic()
    for sentence in empty:
        note(sentence)
    if not files:
        raise typer.Exit(3)
    with model, Stages(quiet=quiet) as stages:
        run = predict_files(
            model,
            files,
            settings=settings,
            out=out,
            with_report=report,
            command="dferkit predict",
            on_progress=lambda a, b: stages("videos", a, b),
        )
    predictions = run.predictions
    if quiet:
        for p in predictions:
            if p.status == "unreadable":
                note(f"{p.input}: {p.message}")
    else:
        _show(predictions, model.parts, confidence_note(model.provenance.calibration, model.provenance.trained_on))
    unreadable = {p.input for p in predictions if p.status == "unreadable"}
    counts = Counter(result.status for result in run.results)
    summary = (
        f"{plural(len(files), 'file')}: "
        + ", ".join(f"{n} {status}" for status, n in counts.most_common())
        + f" · {time.monotonic() - started:.0f} s"
    )
    if not quiet:
        for part, source in model.external.names.items():
            note(f"{part.replace('_', ' ')} {source}")
        note(summary + (f" · {out}" if out else ""))
    if all(p.status == "unreadable" for p in predictions):
        raise typer.Exit(3)
    raise typer.Exit(1 if unreadable or empty else 0)


def _show(predictions: Sequence[Prediction], parts: Mapping[str, str], confidence: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dferkit.reports.notice import INTENDED_USE

    table = Table(box=None, pad_edge=False)
    for column in ("input", "time", "apparent expression", "status", "note"):
        table.add_column(column, overflow="fold")
    for p in predictions:
        span = f"{p.start_seconds:.1f}–{p.end_seconds:.1f} s" if p.end_seconds > p.start_seconds else ""
        shown = f"{p.label} {p.confidence:.2f}" if p.label else "–"
        table.add_row(Text(p.input), span, shown, p.status, Text(p.message))
    Console().print(table)
    note(f"Faces found by {parts['detector']}; front end: {parts['front_end']}. {confidence} {INTENDED_USE}")
