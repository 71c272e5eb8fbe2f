"""The two reports: explained answers of videos, and a benchmark with its claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dferkit.reports.benchmark_page import benchmark_body
from dferkit.reports.clip_page import answers_table, clip_section, windows_of
from dferkit.reports.notice import is_calibrated
from dferkit.reports.page import MAX_BYTES, about_section, escape, limits_section, page, write_page
from dferkit.schema import Evaluation, Explanation, Prediction

__all__ = ["clip_section", "write_benchmark_report", "write_clip_report"]

# (thumbnails per clip, JPEG quality), tried in turn until the file is small enough.
_SIZES = ((16, 80), (12, 65), (8, 50))


def write_clip_report(
    path: Path | str,
    explanations: Sequence[Explanation],
    *,
    about: Mapping[str, Any],
    predictions: Sequence[Prediction] = (),
    truth: Mapping[str, str] | None = None,
    faces: str = "show",
    title: str = "Apparent expression",
) -> None:
    """Write the report of explained answers: one file that loads nothing from anywhere, at most 5 MB.

    Args:
        about: How it was made; keys in use are ``model``, ``weights_sha256``, ``trained_on``, ``calibration``,
            ``per_class_recall``, ``versions``, ``command``. Other keys are shown as they are. No absolute paths.
        predictions: All answers of the run; they give the time line of a person and the list of inputs without one.
        truth: Class by ``clip_id`` where known.
        faces: ``show``, ``blur`` or ``boxes``.

    Raises:
        ConfigError: An unknown value of ``faces``.
        DataError: Larger than 5 MB even with few small pictures.
    """
    explained = {(e.prediction.input, e.prediction.track_id, e.prediction.window) for e in explanations}
    others = [p for p in predictions if (p.input, p.track_id, p.window) not in explained]

    def body(thumbnails: int, quality: int) -> str:
        sections = _sections(explanations, predictions, truth, faces, thumbnails, quality)
        rest = f"<section><h2>Answers without a picture</h2>{answers_table(others)}</section>" if others else ""
        return f"<h1>{escape(title)}</h1>{_calibration(about)}{sections}{rest}{about_section(about)}{limits_section()}"

    write_page(path, _fit(title, body))


def write_benchmark_report(
    path: Path | str,
    results: Mapping[str, Any],
    evaluations: Mapping[str, Evaluation],
    explanations: Sequence[Explanation] = (),
    *,
    about: Mapping[str, Any],
    truth: Mapping[str, str] | None = None,
    faces: str = "show",
    title: str = "dferkit benchmark",
) -> None:
    """Write the report of a benchmark. Every number comes from ``results`` and ``evaluations``; what is missing is left
    out, what is unknown is shown as a plain table.

    Args:
        results: Nested results as in ``results.json``: ``models``, ``ceiling``, ``controls``, ``claims``,
            ``comparisons``, ``profiles`` and whatever else there is.
        evaluations: Scores by model name; the confusion matrix is that of the one whose name begins with ``grace``.
        explanations: Some explained clips.
        about, truth, faces: As in ``write_clip_report``.
    """

    def body(thumbnails: int, quality: int) -> str:
        sections = _sections(explanations, (), truth, faces, thumbnails, quality)
        clips = f"<h1>Explained clips</h1>{sections}" if sections else ""
        numbers = benchmark_body(results, evaluations)
        return f"<h1>{escape(title)}</h1>{numbers}{clips}{about_section(about)}{limits_section()}"

    write_page(path, _fit(title, body))


def _sections(
    explanations: Sequence[Explanation],
    predictions: Sequence[Prediction],
    truth: Mapping[str, str] | None,
    faces: str,
    thumbnails: int,
    quality: int,
) -> str:
    return "".join(
        clip_section(
            explanation,
            faces=faces,
            windows=windows_of(explanation, predictions),
            truth=(truth or {}).get(explanation.prediction.clip_id),
            num_thumbnails=thumbnails,
            quality=quality,
        )
        for explanation in explanations
    )


def _calibration(about: Mapping[str, Any]) -> str:
    calibration = str(about.get("calibration", ""))
    if not calibration or is_calibrated(calibration):
        return ""
    return '<p class="warning">The percentages are not calibrated: take them as scores, not as frequencies.</p>'


def _fit(title: str, body: Callable[[int, int], str]) -> str:
    text = ""
    for thumbnails, quality in _SIZES:
        text = page(title, body(thumbnails, quality))
        if len(text.encode("utf-8")) <= MAX_BYTES:
            break
    return text
