"""Values of one explained answer for ``templates/clip.html``."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from dferkit.explain import OUTSIDE, REGIONS, alignment_table, phrase_of, phrase_places, phrase_table, supporting_cells
from dferkit.facs import load_facs
from dferkit.reports import charts
from dferkit.reports.face_pictures import check_faces, image_uri, shown_face
from dferkit.reports.formatting import percent
from dferkit.reports.selection import frames_to_show, main_phrases, other_parts
from dferkit.schema import PARAGRAPH, DeletionTest, Explanation, Prediction

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
    main = main_phrases(explanation)
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
        "answer": top_class(prediction),
        "unit": unit_of(explanation),
        "main": [explanation.phrases[i] for i in main],
        "others": [] if explanation.remainder is None else other_parts(explanation, main),
        "phrases": phrase_table(explanation).to_dict("records"),
        "listed": _listed_cells(explanation),
        "num_listed": _LISTED_CELLS,
        "deletion": deletion_view(explanation.deletion, top_class(prediction), cells=cells),
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


def reasons(explanation: Explanation) -> list[str]:
    """The explanation in a few lines: what the answer is made of, and what its deletion test found."""
    answer, main = top_class(explanation.prediction), main_phrases(explanation)
    named = [explanation.phrases[i] for i in main]
    if explanation.remainder is not None:
        parts = [(phrase.text, phrase.share) for phrase in named] + other_parts(explanation, main)
        lines = [
            f"the score of {answer} is made of: " + "; ".join(f"{name} ({percent(share)})" for name, share in parts)
        ]
    elif named:
        falls = "; ".join(f"{phrase.text} ({phrase.share:.3f})" for phrase in named)
        lines = [f"without the {unit_of(explanation)} the probability of {answer} falls by (estimates): {falls}"]
    else:
        lines = [f"without any one {unit_of(explanation)} the probability of {answer} does not fall"]
    if explanation.deletion is not None:
        test = explanation.deletion
        found = deletion_found(test, answer, cells=cells_of(explanation))
        lines.append(f"deletion test: {found} {deletion_verdict(test)}")
    return lines


def unit_of(explanation: Explanation) -> str:
    """What has a share: a phrase, or a sentence that a model learned for its class."""
    return "learned sentence" if explanation.caption.source == PARAGRAPH else "phrase"


def top_class(prediction: Prediction) -> str:
    """The most probable class, which an explanation is about also where the model abstains; empty without an answer."""
    return next((label for label, _ in _ranked(prediction)), "")


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
    """What phrases have their evidence in: ``patches`` of the face, or whole ``frames`` where the encoder has one token for each."""
    return "frames" if explanation.motion[0].size == 1 else "patches"


def _listed_cells(explanation: Explanation) -> list[dict[Any, Any]]:
    """The cells with the largest mass in ``alignments.csv``; words that share the mass of their phrase are listed as that phrase."""
    of_phrase: dict[str, list[int]] = {}
    for number, span in enumerate(explanation.word_spans):
        of_phrase.setdefault(phrase_of(explanation, span), []).append(number)
    texts = dict(enumerate(explanation.words))
    for phrase, numbers in of_phrase.items():
        first, *others = numbers
        if phrase and all(np.allclose(explanation.transport[first], explanation.transport[i]) for i in others):
            texts = {i: text for i, text in texts.items() if i not in others} | {first: phrase}
    table = alignment_table(explanation, _LISTED_CELLS)
    rows = table[table["frame"] >= 0].to_dict("records")
    return [row | {"text": texts[row["word_index"]]} for row in rows if row["word_index"] in texts]


def deletion_view(test: DeletionTest | None, label: str, *, cells: str) -> dict[str, Any] | None:
    """What a deletion test found, its verdict and its chart; None without one."""
    if test is None:
        return None
    return {
        "found": deletion_found(test, label, cells=cells),
        "verdict": deletion_verdict(test),
        "chart": charts.deletion_chart(test),
    }


def deletion_found(test: DeletionTest, label: str, *, cells: str = "patches") -> str:
    """How far the answer falls without the evidence and without random cells: at the step nearest to 30 %, and on average over all steps."""
    middle, orders = int(np.abs(test.fractions - 0.3).argmin()), len(test.random_probability)
    start, ranked = float(test.ranked_probability[0]), float(test.ranked_probability[middle])
    random = float(test.random_probability[:, middle].mean())
    beaten = {0: "none", orders: "each"}.get(test.num_beaten, str(test.num_beaten))
    beyond = f"{abs(test.drop):.3f} {'more' if test.drop >= 0 else 'less'}"
    return (
        f"With the {percent(float(test.fractions[middle]))} of the {cells} with the most evidence held still, the probability of {label} goes from {percent(start)} to {percent(ranked)}; "
        f"with as many random ones to {percent(random)} (mean of {orders} orders). Over all steps the evidence lowers it by {beyond} than random ones do, and by more than {beaten} of the {orders} random orders."
    )


def deletion_verdict(test: DeletionTest) -> str:
    """Whether the evidence is what the answer rests on, in one sentence."""
    if test.drop >= _LEAST_DROP and test.num_beaten == len(test.random_probability):
        return "The answer rests on this evidence."
    why = f"less than {_LEAST_DROP}" if test.drop < _LEAST_DROP else "no more than in some random order"
    return f"The fall beyond random is {why}: this explanation does not show what the answer rests on."


def _maps(explanation: Explanation, shown: Sequence[int]) -> dict[str, Any]:
    """The maps of phrases, evidence and motion on the shown frames, for ``assets/report.js``."""
    frames, motion, phrases = list(shown), np.asarray(explanation.motion), explanation.phrases
    maps = np.array([supporting_cells(p) for p in phrases]).reshape(-1, *motion.shape)
    names = list(REGIONS)
    return {
        "rows": maps.shape[2],
        "columns": maps.shape[3],
        "frames": len(frames),
        "cells": cells_of(explanation),
        "isExact": explanation.remainder is not None,
        "phrases": [phrase.text for phrase in phrases],
        "shares": [float(f"{phrase.share:.7g}") for phrase in phrases],
        "places": phrase_places(explanation),
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
