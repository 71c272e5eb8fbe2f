"""Answers for files on disk, written as tables and, on request, as a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dferkit.pipeline import Answer, ExplanationResult, Model, ReadingSettings, Results, explain_answer
from dferkit.reports.html import write_clip_report
from dferkit.reports.tables import RunDetails, write_tables
from dferkit.schema import Explanation

_REPORT_WINDOWS = 12  # a page with more explained windows would pass its size limit


def predict_files(
    model: Model,
    files: Sequence[tuple[Path, str]],
    *,
    settings: ReadingSettings,
    out: Path | None = None,
    with_report: bool = False,
    command: str = "",
    on_progress: Callable[[int, int], None] | None = None,
) -> Results:
    """Answer every file in turn; one that cannot be read becomes a row.

    Args:
        files: Paths with the names that outputs use.
        out: Gets ``predictions.csv``, ``frames.csv``, ``phrases.csv``, ``alignments.csv``, ``run.json`` and, with ``with_report``, ``report.html``.
    """
    started = time.monotonic()
    answers: list[Answer] = []
    explanations: list[Explanation] = []
    shown: list[Explanation] = []
    for number, (path, name) in enumerate(files):
        for answer in model.answers(path, settings=settings, name=name):
            if out is not None and answer.reading is not None and model.can_explain:
                in_report = with_report and len(shown) < _REPORT_WINDOWS
                explanation = explain_answer(answer, with_deletion=in_report)
                explanations.append(explanation)
                if in_report:
                    shown.append(explanation)
            answers.append(answer)
        if on_progress:
            on_progress(number + 1, len(files))
    results = Results(answers=tuple(answers), provenance=model.provenance, labels=model.labels)
    if out is not None:
        seconds = {"predict": round(time.monotonic() - started, 2)}
        about = {**asdict(settings), **model.parts}
        write_tables(
            out,
            results.predictions,
            model.provenance,
            frames=results.sampled_frames,
            explanations=explanations,
            details=RunDetails(settings=about, seconds=seconds, has_media=with_report, command=command),
            top_k=5,
        )
        if with_report:
            write_clip_report(out / "report.html", shown, about=model.about(), predictions=results.predictions)
    return results


def write_explanation(
    explained: ExplanationResult, out: Path | str, *, settings: Mapping[str, Any], seconds: float
) -> None:
    """The explained windows of one video: page, picture and tables. ``settings`` and ``seconds`` go into ``run.json``."""
    from dferkit.reports.figures import write_explanation as write_picture
    from dferkit.reports.figures import write_over_time

    out = Path(out)
    result = explained.result
    write_clip_report(
        out / "report.html", explained.explanations, about=explained.about, predictions=result.predictions
    )
    write_picture(out / "explanation.png", explained.explanations[0])
    write_over_time(out / "over_time.png", explained.explanations[0])
    write_tables(
        out,
        result.predictions,
        result.provenance,
        frames=result.sampled_frames,
        explanations=explained.explanations,
        details=RunDetails(settings=settings, seconds={"explain": seconds}, has_media=True, command="dferkit explain"),
        top_k=explained.top_k,
    )
