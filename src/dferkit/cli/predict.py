"""``dferkit predict``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
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
from dferkit.cli.options import CheckpointOption, DetectorOption, DeviceOption, FrontEndOption
from dferkit.cli.progress import Stages, note, plural

if TYPE_CHECKING:
    from dferkit.pipeline import Model, Results
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
        typer.Option(
            "--out", "-o", help="Folder for predictions.csv, frames.csv, phrases.csv, alignments.csv, run.json."
        ),
    ] = None,
    checkpoint: CheckpointOption = "box",
    window: Annotated[float, typer.Option("--window", help="Seconds per answer.")] = 2.0,
    stride: Annotated[
        float | None, typer.Option("--stride", help="Seconds from one answer to the next; by default the window.")
    ] = None,
    people: Annotated[str, typer.Option("--people", help="largest, or all.")] = "largest",
    face: DetectorOption = "auto",
    front_end: FrontEndOption = None,
    landmarker: LandmarkerOption = "auto",
    neutral: NeutralOption = None,
    units: UnitsOption = None,
    guide: GuideOption = None,
    guide_labels: GuideLabelsOption = None,
    device: DeviceOption = "auto",
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

    if report and out is None:
        raise ConfigError("--report writes report.html into the folder of --out; give --out DIR")

    settings = ReadingSettings(
        window_seconds=window, stride_seconds=stride, people=people, neutral=str(neutral) if neutral else None
    )
    files, empty = expand_inputs(inputs)
    videos = [str(path) for path, _ in files]
    external = open_tools(units, guide, guide_labels, videos)
    if people == "all" and (external.units is not None or isinstance(external.guide, ClassTables)):
        raise ConfigError("a table describes one person; use --people largest with --units and with a table as --guide")
    model = load(
        checkpoint, front_end=front_end, face=face, landmarker=landmarker, device=device, settings=settings, external=external
    )  # fmt: skip
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
    unreadable = [p for p in run.predictions if p.status == "unreadable"]
    if quiet:
        for p in unreadable:
            note(f"{p.input}: {p.message}")
    else:
        _show(run.predictions)
        _summarise(run, model, out, time.monotonic() - started)
    if len(unreadable) == len(run.predictions):
        raise typer.Exit(3)
    raise typer.Exit(1 if empty or unreadable else 0)


def _summarise(run: Results, model: Model, out: Path | None, seconds: float) -> None:
    """How faces were read, how far to trust the probabilities, and what became of the files."""
    from dferkit.reports.notice import INTENDED_USE, confidence_note

    confidence = confidence_note(model.provenance.calibration, model.provenance.trained_on)
    windows = [p.status for p in run.predictions]
    if set(windows) != {"unreadable"}:
        parts = model.parts
        note(f"Faces found by {parts['detector']}; front end: {parts['front_end']}. {confidence} {INTENDED_USE}")
        for part, tool in model.external.names.items():
            note(f"{part.replace('_', ' ')} {tool}")
    files = [result.status for result in run.results]
    found = _counted("file", files) + ("" if len(windows) == len(files) else f"; {_counted('window', windows)}")
    note(f"{found} · {seconds:.0f} s" + (f" · {out}" if out else ""))


def _counted(thing: str, statuses: Sequence[str]) -> str:
    """``6 windows: 4 ok, 2 abstain``."""
    counts = ", ".join(f"{n} {status}" for status, n in Counter(statuses).most_common())
    return f"{plural(len(statuses), thing)}: {counts}"


def _show(predictions: Sequence[Prediction]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("input", "time", "apparent expression", "status", "note"):
        table.add_column(column, overflow="fold")
    for p in predictions:
        span = f"{p.start_seconds:.1f}–{p.end_seconds:.1f} s" if p.end_seconds > p.start_seconds else ""
        shown = f"{p.label} {p.confidence:.2f}" if p.label else "–"
        table.add_row(Text(p.input), span, shown, p.status, Text(p.message))
    Console().print(table)
