"""``dferkit explain``."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.inputs import (
    GuideLabelsOption,
    GuideOption,
    LandmarkerOption,
    NeutralOption,
    UnitsOption,
    open_tools,
)
from dferkit.cli.options import CheckpointOption, DetectorOption, DeviceOption, FrontEndOption
from dferkit.cli.progress import plural


def explain(
    video: Annotated[Path, typer.Argument(help="One video file, or a folder of its numbered pictures.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for report.html, explanation.png, over_time.png and the tables.")
    ] = Path("explanation"),
    checkpoint: CheckpointOption = "box",
    top: Annotated[int, typer.Option("--top", min=1, help="Cells listed per word in alignments.csv.")] = 5,
    windows: Annotated[int, typer.Option("--windows", min=1, help="Largest number of windows to explain.")] = 4,
    face: DetectorOption = "auto",
    front_end: FrontEndOption = None,
    landmarker: LandmarkerOption = "auto",
    neutral: NeutralOption = None,
    units: UnitsOption = None,
    guide: GuideOption = None,
    guide_labels: GuideLabelsOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Explain an answer: how much each phrase of the description adds to it, where and when in the face, and whether the answer depends on the movement there.

    The report shows the person's face; it stays on this machine.

    Exit code: 0 when the video was read (without a face there is nothing to explain, and no report is written), 2 for wrong usage, 3 when the video could not be read.
    """
    from dferkit.errors import VideoError
    from dferkit.pipeline import ReadingSettings, load
    from dferkit.recipes.prediction import write_explanation
    from dferkit.reports.clip_page import reasons
    from dferkit.reports.notice import confidence_note
    from dferkit.schema import PARAGRAPH

    started = time.monotonic()
    external = open_tools(units, guide, guide_labels, [str(video)])
    chosen = ReadingSettings(neutral=str(neutral) if neutral else None)
    with load(
        checkpoint, front_end=front_end, face=face, landmarker=landmarker, device=device, settings=chosen, external=external
    ) as model:  # fmt: skip
        explained = model.explain(video, top_k=top, max_windows=windows)
    first = explained.result.predictions[0]
    if not explained.explanations:
        if first.status == "unreadable":
            raise VideoError(first.message, code="E_UNREADABLE")
        typer.echo(f"{first.input}: {first.message}; there is nothing to explain")
        raise typer.Exit(0)
    settings = {**asdict(model.settings), **model.parts, "windows": windows, "top": top}
    write_explanation(explained, out, settings=settings, seconds=time.monotonic() - started)
    for shown in explained.explanations:
        p = shown.prediction
        typer.echo(
            f"{p.start_seconds:.1f}–{p.end_seconds:.1f} s: apparent expression {p.label or 'none (abstained)'} ({p.confidence:.2f})"
        )
        if shown.caption.source != PARAGRAPH:
            typer.echo(f"  movements seen: {shown.caption.text}")
        for line in reasons(shown):
            typer.echo(f"  {line}")
    left = len(explained.result.predictions) - len(explained.explanations)
    if left:
        typer.echo(f"{plural(left, 'further window')} in {out / 'predictions.csv'}, not explained")
    for part, source in model.external.names.items():
        typer.echo(f"{part.replace('_', ' ')} {source}")
    confidence = confidence_note(model.provenance.calibration, model.provenance.trained_on)
    typer.echo(f"{confidence} Open {out / 'report.html'}")
