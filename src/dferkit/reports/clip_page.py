"""Values of one explained answer for ``templates/clip.html``."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from dferkit.explain import OUTSIDE, REGIONS, alignment_table, phrase_table, supporting_cells
from dferkit.facs import load_facs
from dferkit.reports import charts
from dferkit.reports.face_pictures import check_faces, image_uri, shown_face
from dferkit.reports.formatting import percent
from dferkit.reports.selection import frames_to_show, main_phrases
from dferkit.schema import PARAGRAPH, DeletionTest, Explanation, Prediction

_MAIN_PHRASES = 3
_LISTED_CELLS = 5  # per word
_LISTED_UNITS, _LEAST_PEAK = 8, 0.15
_LEAST_DROP = 0.05  # of the probability, on average over the steps of the deletion test
STATUS = {
    "ok": "answered",
    "low_coverage": "the face is missing in more than half of the frames",
    "abstain": "the model is not sure enough to give a label",
    "no_face": "no face was found",
    "unreadable": "the file cannot be read as a video",
    "truncated": "the file ends before its declared end",
    "too_short": "the video is too short",
    "error": "an error occurred",
}
WARNINGS = {
    "W_FEW_FACE_FRAMES": "a face in fewer than half of the frames",
    "W_SMALL_FACE": "the face is small",
    "W_BLUR": "the picture is blurred",
    "W_DARK": "the picture is dark",
    "W_BRIGHT": "the picture is overexposed",
    "W_JITTER": "the face box is unsteady",
    "W_MULTIPLE_FACES": "several people are in the picture",
}


def clip_view(
    explanation: Explanation,
    *,
    faces: str = "show",
    windows: Sequence[Prediction] = (),
    truth: str | None = None,
    num_thumbnails: int = 16,
    quality: int = 80,
) -> dict[str, Any]:
    """What the template shows of one explained answer.

    Args:
        faces: ``show``, ``blur`` (pixelated beyond recognition) or ``boxes`` (a drawing of the regions, no pixels).
        windows: Answers for all windows of the same person and input; two or more with an answer give curves over time.
        truth: Known class of the clip, if any.
        num_thumbnails: Frames shown.
        quality: JPEG quality of the thumbnails, 0 to 100.

    Raises:
        ConfigError: An unknown value of ``faces``.
    """
    check_faces(faces)
    prediction, clip, cells = explanation.prediction, explanation.face_clip, cells_of(explanation)
    main = main_phrases(explanation, _MAIN_PHRASES)
    shown = frames_to_show(explanation, main, num_thumbnails)
    frames = [
        {
            "time": clip.timestamps[frame],
            "has_face": clip.track.found[frame],
            "picture": image_uri(shown_face(clip.images[frame], faces, explanation.regions), quality=quality),
        }
        for frame in shown
    ]
    return {
        "explanation": explanation,
        "prediction": prediction,
        "verdict": verdict_parts(prediction),
        "truth": truth,
        "faces": faces,
        "cells": cells,
        "is_paragraph": explanation.caption.source == PARAGRAPH,
        "probabilities": _ranked(prediction),
        "windows": windows,
        "over_time": _over_time(windows),
        "frames": frames,
        "caption": _caption(explanation),
        "action_units": _action_units(explanation),
        "main": [explanation.phrases[i] for i in main],
        "phrases": phrase_table(explanation).to_dict("records"),
        "listed": _listed_cells(explanation),
        "num_listed": _LISTED_CELLS,
        "deletion": deletion_view(explanation.deletion, prediction.label, cells=cells),
        "maps": _maps(explanation, shown),
    }


def verdict_parts(prediction: Prediction) -> tuple[str, str, str]:
    """The answer in words: text before the label, the label (empty without one), text after it."""
    reason = STATUS.get(prediction.status, prediction.status)
    if prediction.probabilities is None:
        return f"No answer: {reason}.", "", ""
    ranked = [f"{label} ({percent(p)})" for label, p in _ranked(prediction)]
    if prediction.label is None:
        reason = (prediction.abstain_reason or reason).rstrip(".")
        return f"No label: {reason}. Most probable: {ranked[0]}, second: {ranked[1]}.", "", ""
    own = f"{prediction.label} ({percent(float(prediction.probabilities[prediction.labels.index(prediction.label)]))})"
    second = next((f", second: {name}" for name in ranked if name != own), "")
    return "Apparent expression: ", prediction.label, f"{own.removeprefix(prediction.label)}{second}."


def verdict_text(prediction: Prediction) -> str:
    """The answer as one text; always the apparent expression, never what a person feels."""
    return "".join(verdict_parts(prediction))


def _ranked(prediction: Prediction) -> list[tuple[str, float]]:
    if prediction.probabilities is None:
        return []
    order = np.argsort(-prediction.probabilities, kind="stable")
    return [(prediction.labels[i], float(prediction.probabilities[i])) for i in order]


def _over_time(windows: Sequence[Prediction]) -> dict[str, Any] | None:
    answered = sorted((w for w in windows if w.probabilities is not None), key=lambda w: (w.start_seconds, w.window))
    if len(answered) < 2 or any(w.labels != answered[0].labels for w in answered):
        return None
    times = np.array([(w.start_seconds + w.end_seconds) / 2 for w in answered])
    values = np.array([w.probabilities for w in answered])
    order = np.argsort(-values.max(0), kind="stable")
    return charts.curves([(answered[0].labels[i], values[:, i]) for i in order], times)


def _caption(explanation: Explanation) -> list[dict[str, Any]]:
    """The caption in pieces: each phrase after the text that separates it from the phrase before, the last piece without a phrase."""
    text, pieces, at = explanation.caption.text, [], 0
    largest = max((abs(phrase.share) for phrase in explanation.phrases), default=0.0) or 1.0
    for number, phrase in enumerate(explanation.phrases):
        start, end = phrase.span
        if end > start:
            level = round(5 * abs(phrase.share) / largest)
            shade = f"n{level}" if phrase.share < 0 and level else f"p{level}"
            piece = {"number": number, "before": text[at:start], "phrase": text[start:end], "share": phrase.share}
            pieces.append(piece | {"shade": shade})
            at = end
    return [*pieces, {"before": text[at:], "phrase": ""}]


def _action_units(explanation: Explanation) -> dict[str, Any] | None:
    """Curves of the strongest action units."""
    units, titles = explanation.action_units, load_facs().action_units
    if not units.intensity.size:
        return None
    peaks = units.intensity.max(0)
    order = [i for i in np.argsort(-peaks, kind="stable")[:_LISTED_UNITS] if peaks[i] >= _LEAST_PEAK]
    names = [f"{titles[n].title} ({n})" if n in titles else n for n in units.names]
    return charts.curves([(names[i], units.intensity[:, i]) for i in order], units.timestamps)


def cells_of(explanation: Explanation) -> str:
    """What words are aligned with: ``patches`` of the face, or whole ``frames`` where the encoder has one token for each."""
    return "frames" if explanation.motion[0].size == 1 else "patches"


def _listed_cells(explanation: Explanation) -> list[dict[Any, Any]]:
    listed = alignment_table(explanation, 20)
    return listed[(listed["rank"] <= _LISTED_CELLS) & (listed["frame"] >= 0)].to_dict("records")


def deletion_view(test: DeletionTest | None, label: str | None, *, cells: str) -> dict[str, Any] | None:
    """The deletion test as figures at the step nearest to 30 %, its verdict and its chart; None without one."""
    if test is None:
        return None
    middle = int(np.abs(test.fractions - 0.3).argmin())
    return {
        "label": label or "the class",
        "fraction": float(test.fractions[middle]),
        "start": float(test.ranked_probability[0]),
        "ranked": float(test.ranked_probability[middle]),
        "random": float(test.random_probability[:, middle].mean()),
        "orders": len(test.random_probability),
        "beaten": test.num_beaten,
        "drop": test.drop,
        "verdict": deletion_verdict(test, cells=cells),
        "chart": charts.deletion_chart(test),
    }


def deletion_verdict(test: DeletionTest, *, cells: str = "patches") -> str:
    """What a deletion test shows of the evidence, in one sentence."""
    orders = len(test.random_probability)
    found = f"Without the {cells} named as evidence the probability falls by {test.drop:+.3f} more than without random ones ({orders} orders)"
    if test.drop >= _LEAST_DROP and test.num_beaten == orders:
        return f"{found}, and more than in any of them: the answer rests on them."
    why = "that is too little" if test.drop < _LEAST_DROP else "some random orders lower it as much"
    return f"{found}; {why}: this picture does not show what the answer rests on."


def _maps(explanation: Explanation, shown: Sequence[int]) -> dict[str, Any]:
    """The maps of phrases, evidence and motion on the shown frames, for ``assets/report.js``."""
    frames, motion = list(shown), np.asarray(explanation.motion)
    maps = np.array([supporting_cells(p) for p in explanation.phrases]).reshape(-1, *motion.shape)
    names = list(REGIONS)
    return {
        "rows": maps.shape[2],
        "columns": maps.shape[3],
        "frames": len(frames),
        "cells": cells_of(explanation),
        "phrases": [phrase.text for phrase in explanation.phrases],
        "times": [round(float(explanation.face_clip.timestamps[f]), 3) for f in frames],
        "peaks": [float(f"{one.max():.4g}") for one in maps],
        "maps": _bytes(maps[:, frames], maps.max(axis=(1, 2, 3), keepdims=True)),
        "even": 1 / max(1, maps[0].size) if len(maps) else 0,
        "evidence": _bytes(explanation.evidence[frames], explanation.evidence.max()),
        "motion": _bytes(motion[frames], motion.max()),
        "motionPeak": float(f"{motion.max():.4g}"),
        "regions": names,
        "grid": [names.index(name if name in names else OUTSIDE) for row in explanation.regions for name in row],
        "start": next(iter(main_phrases(explanation, 1)), -1),
    }


def _bytes(values: Float[np.ndarray, "*shape"], peak: np.ndarray | float) -> str:
    """Values as bytes, 255 for the peak, in base64."""
    scaled = np.divide(values, peak, out=np.zeros(values.shape), where=np.asarray(peak) > 0)
    return base64.b64encode(np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8).tobytes()).decode("ascii")
