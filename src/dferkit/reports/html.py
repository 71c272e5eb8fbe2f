"""The two reports: explained answers of videos, and a benchmark with its claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dferkit.reports.benchmark_page import benchmark_view
from dferkit.reports.clip_page import STATUS, WARNINGS, clip_view
from dferkit.reports.notice import is_calibrated
from dferkit.reports.page import MAX_BYTES, render, write_page
from dferkit.schema import Evaluation, Explanation, Prediction

# (thumbnails per clip, JPEG quality), tried in turn until the file is small enough.
_SIZES = ((16, 80), (12, 65), (8, 50))
_FIRST = ("model", "weights_sha256", "trained_on", "calibration", "detector", "front_end", "versions", "command")


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
        predictions: All answers of the run: the windows of each person over time, and the inputs without an explanation.
        truth: Class by ``clip_id`` where known.
        faces: ``show``, ``blur`` or ``boxes``.

    Raises:
        ConfigError: An unknown value of ``faces``.
        DataError: Larger than 5 MB even with few small pictures.
    """
    explained = {(e.prediction.input, e.prediction.track_id, e.prediction.window) for e in explanations}
    others = [p for p in predictions if (p.input, p.track_id, p.window) not in explained]
    calibration = str(about.get("calibration", ""))
    values = {"title": title, "others": others, "is_uncalibrated": calibration and not is_calibrated(calibration)}
    _write(path, "clip_report.html", explanations, values, about, predictions=predictions, truth=truth, faces=faces)


def write_benchmark_report(
    path: Path | str,
    results: Mapping[str, Any],
    evaluations: Mapping[str, Evaluation],
    explanations: Sequence[Explanation] = (),
    *,
    about: Mapping[str, Any],
    truth: Mapping[str, str] | None = None,
) -> None:
    """Write the report of a benchmark. Every number comes from ``results`` and ``evaluations``; what is missing is left
    out, and results of an unknown kind are shown as plain tables.

    Args:
        results: Nested results as in ``results.json``: ``models``, ``ceiling``, ``controls``, ``claims``,
            ``comparisons``, ``profiles`` and whatever else there is.
        evaluations: Scores by model name; the confusion matrix is that of the one whose name begins with ``grace``.
        explanations: Some explained clips.
        about, truth: As in ``write_clip_report``.

    Raises:
        DataError: Larger than 5 MB even with few small pictures.
    """
    values = {"title": "dferkit benchmark", **benchmark_view(results, evaluations)}
    _write(path, "benchmark_report.html", explanations, values, about, truth=truth)


def _write(
    path: Path | str,
    template: str,
    explanations: Sequence[Explanation],
    values: Mapping[str, Any],
    about: Mapping[str, Any],
    *,
    predictions: Sequence[Prediction] = (),
    truth: Mapping[str, str] | None = None,
    faces: str = "show",
) -> None:
    order = [*(key for key in _FIRST if key in about), *(key for key in about if key not in _FIRST)]
    values = {**values, "about": {key: about[key] for key in order}, "statuses": STATUS, "warnings": WARNINGS}
    text = ""
    for num_thumbnails, quality in _SIZES:
        clips = [
            clip_view(
                explanation,
                faces=faces,
                windows=[
                    p
                    for p in predictions
                    if (p.input, p.track_id) == (explanation.prediction.input, explanation.prediction.track_id)
                ],
                truth=(truth or {}).get(explanation.prediction.clip_id),
                num_thumbnails=num_thumbnails,
                quality=quality,
            )
            for explanation in explanations
        ]
        text = render(template, clips=clips, **values)
        if len(text.encode("utf-8")) <= MAX_BYTES:
            break
    write_page(path, text)
