"""One explained answer as a section of a report."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from dferkit.errors import ConfigError
from dferkit.explain import OUTSIDE, REGIONS, alignment_table, region_shares
from dferkit.facs import load_facs
from dferkit.reports import charts
from dferkit.reports.page import FACES, escape, image_uri, number, percent, table
from dferkit.reports.shown import frames_to_show, main_words
from dferkit.schema import PARAGRAPH, DeletionTest, Explanation, Prediction

_MAIN_WORDS = 3
_HARDLY = 0.01  # a mean difference in probability that nobody would see
_MAX_THUMBNAILS = 16
_STATUS = {
    "ok": "answered",
    "low_coverage": "the face is missing in more than half of the frames",
    "abstain": "not sure enough to name one",
    "no_face": "no face was found",
    "unreadable": "the file could not be read as a video",
    "truncated": "the file ends before its declared end",
    "too_short": "the video is too short",
    "error": "something went wrong",
}
_WARNINGS = {
    "W_FEW_FACE_FRAMES": "a face in fewer than half of the frames",
    "W_SMALL_FACE": "the face is small",
    "W_BLUR": "the picture is blurred",
    "W_DARK": "the picture is dark",
    "W_BRIGHT": "the picture is overexposed",
    "W_JITTER": "the face box is unsteady",
    "W_MULTIPLE_FACES": "several people are in the picture",
}


def clip_section(
    explanation: Explanation,
    *,
    faces: str = "show",
    windows: Sequence[Prediction] = (),
    truth: str | None = None,
    num_thumbnails: int = _MAX_THUMBNAILS,
    top_k: int = 5,
    quality: int = 80,
) -> str:
    """HTML of one explained answer.

    Args:
        faces: ``show``, ``blur`` (pixelated beyond recognition) or ``boxes`` (a drawing of the regions, no pixels).
        windows: Answers for all windows of the same person and input, for the time line; two or more are drawn.
        truth: Known class of the clip, if any.
        num_thumbnails: Frames shown, evenly picked.
        top_k: Cells per word in the table.
        quality: JPEG quality of the thumbnails.

    Raises:
        ConfigError: An unknown value of ``faces``.
    """
    if faces not in FACES:
        raise ConfigError(f"faces is {faces!r}; choose {', '.join(FACES)}")
    prediction = explanation.prediction
    shown = frames_to_show(explanation, main_words(explanation, _MAIN_WORDS), num_thumbnails)
    where = f"{prediction.start_seconds:.1f}–{prediction.end_seconds:.1f} s"
    parts = [
        f"<h2>{escape(prediction.input)} <small>{escape(where)}, person {prediction.track_id}</small></h2>",
        f'<p class="verdict">{_verdict(prediction)}</p>',
        f'<p class="sub">Labelled in the data: <b>{escape(truth)}</b>.</p>' if truth else "",
        _message(prediction),
        _probability_bars(prediction),
        _quality(explanation),
        _time_line(windows),
        _why(explanation, shown, faces, quality),
        _action_units(explanation),
        _pairs(explanation, top_k),
        deletion_section(explanation.deletion, prediction.label, cells=cells_of(explanation)),
    ]
    return f'<section class="clip">{"".join(parts)}{_maps_json(explanation, shown)}</section>'


def verdict_text(prediction: Prediction) -> str:
    """The answer in words; always the apparent expression, never what a person feels."""
    if prediction.probabilities is None:
        return f"No answer: {_STATUS.get(prediction.status, prediction.status)}."
    order = np.argsort(-prediction.probabilities, kind="stable")
    named = [f"{prediction.labels[i]} ({percent(float(prediction.probabilities[i]))})" for i in order]
    if prediction.label is None:
        reason = prediction.abstain_reason or _STATUS.get(prediction.status, prediction.status)
        return f"No label: {reason.rstrip('.')}. Most probable: {named[0]}, second: {named[1]}."
    own = f"{prediction.label} ({percent(float(prediction.probabilities[prediction.labels.index(prediction.label)]))})"
    second = next((name for name in named if name != own), "")
    return f"Apparent expression: {own}" + (f", second: {second}." if second else ".")


def _verdict(prediction: Prediction) -> str:
    text = escape(verdict_text(prediction)).replace(" %", "&nbsp;%")
    if prediction.label is None or prediction.probabilities is None:
        return text
    label = escape(prediction.label)
    return text.replace(f": {label} (", f": <strong>{label}</strong> (", 1)


def _message(prediction: Prediction) -> str:
    texts = [prediction.message]
    if prediction.status not in ("ok", "abstain") and prediction.probabilities is not None:
        texts.insert(0, _STATUS.get(prediction.status, prediction.status).capitalize() + ".")
    text = " ".join(text for text in texts if text)
    return f'<p class="warning">{escape(text)}</p>' if text else ""


def _probability_bars(prediction: Prediction) -> str:
    if prediction.probabilities is None:
        return ""
    order = np.argsort(-prediction.probabilities, kind="stable")
    values = [(prediction.labels[i], float(prediction.probabilities[i])) for i in order]
    return charts.bars([(label, p, percent(p)) for label, p in values])


def _quality(explanation: Explanation) -> str:
    clip = explanation.face_clip
    quality, found = clip.quality, clip.track.found
    cells = "".join(
        f'<rect class="{"found" if is_found else "missing"}" x="{10 * i + 0.5}" width="9" height="10"/>'
        for i, is_found in enumerate(found)
    )
    figures = (
        f"face in {int(found.sum())} of {len(found)} frames · {quality.median_height_pixels:.0f} pixels high · "
        f"sharpness {quality.sharpness:.0f} (below 20 is blurred) · brightness {quality.brightness:.0f} of 255 · "
        f"box jitter {100 * quality.jitter:.1f} % of the face · found by {clip.track.detector}"
    )
    warnings = [_WARNINGS.get(code, code) for code in quality.warnings]
    warning = f'<p class="warning">Check the video: {escape("; ".join(warnings))}.</p>' if warnings else ""
    return (
        f'<h3>Quality</h3><svg class="found-strip" viewBox="0 0 {10 * len(found)} 10" preserveAspectRatio="none" '
        f'role="img" aria-label="Frames with a face">{cells}</svg><p class="small">{escape(figures)}</p>{warning}'
    )


def _time_line(windows: Sequence[Prediction]) -> str:
    answered = sorted((w for w in windows if w.probabilities is not None), key=lambda w: (w.start_seconds, w.window))
    if len(answered) < 2:
        return ""
    times = np.array([(w.start_seconds + w.end_seconds) / 2 for w in answered])
    labels = answered[0].labels
    values = np.array([w.probabilities for w in answered if w.labels == labels])
    if len(values) != len(answered):
        return ""
    order = np.argsort(-values.max(0), kind="stable")
    rows = [(labels[i], values[:, i]) for i in order]
    missing = sum(w.probabilities is None for w in windows)
    note = f'<p class="small">{missing} of {len(windows)} windows have no answer.</p>' if missing else ""
    return f"<h3>Through the video</h3>{charts.curves(rows, times, unit='middle of the window')}{note}"


def _why(explanation: Explanation, shown: Sequence[int], faces: str, quality: int) -> str:
    times = explanation.face_clip.timestamps
    found = explanation.face_clip.track.found
    figures = []
    for position, frame in enumerate(shown):
        picture = image_uri(overlay(explanation.face_clip.images[frame], faces, explanation.regions), quality=quality)
        text = f"{times[frame]:.2f} s" + ("" if found[frame] else " (no face: nearest frame)")
        figures.append(
            f'<figure><div class="face" tabindex="0" data-frame="{position}" '
            f'aria-label="Frame at {times[frame]:.2f} s">'
            f'<img src="{picture}" alt="Face at {times[frame]:.2f} s" width="112" height="112">'
            f'<canvas width="112" height="112"></canvas></div><figcaption>{escape(text)}</figcaption></figure>'
        )
    cells = cells_of(explanation)
    hidden = {"show": "", "blur": " Faces are blurred.", "boxes": " Faces are left out; the drawing shows the regions."}
    return (
        f"<h3>Why: the words and {'when' if cells == 'frames' else 'where'} they met the face</h3>"
        '<p class="small">The stronger a word is shaded, the more the answer owes to it (its probability drops when '
        "the word is left out); a dashed word speaks against the answer. Point at a word, tap it or reach it with the "
        f"Tab key: its {cells} light up. Point at one of them: its words are framed.</p>"
        f'<p class="caption">{_caption(explanation)}</p>'
        f'<p class="small">{_origin(explanation)} '
        f"Method: {escape(explanation.method.replace('_', ' '))}.{hidden[faces]}</p>"
        '<div class="overlays" role="group" aria-label="What lights up"><button type="button" data-overlay="word" '
        'aria-pressed="true">words</button>'
        '<button type="button" data-overlay="evidence" aria-pressed="false">evidence</button>'
        '<button type="button" data-overlay="motion" aria-pressed="false">motion</button>'
        '<button type="button" data-overlay="none" aria-pressed="false">nothing</button></div>'
        f'<p class="readout" aria-live="polite"></p><div class="strip">{"".join(figures)}</div>'
    )


def _origin(explanation: Explanation) -> str:
    if explanation.caption.source == PARAGRAPH:
        return "These are the sentences that the model learned for its answer; they hold no words that could be read."
    return f"The description of the movements comes from: {escape(explanation.caption.source)}."


def _caption(explanation: Explanation) -> str:
    text, parts, at = explanation.caption.text, [], 0
    weights = explanation.word_weights
    for i, (start, end) in enumerate(explanation.word_spans):
        parts.append(escape(text[at:start]))
        level = round(5 * abs(float(weights[i])))
        kind = f"{'p' if weights[i] >= 0 else 'n'}{level}" if level else "p0"
        parts.append(
            f'<span role="button" tabindex="0" class="word {kind}" data-word="{i}" '
            f'title="weight {number(float(weights[i]))}">'
            f"{escape(text[start:end])}</span>"
        )
        at = end
    parts.append(escape(text[at:]))
    return "".join(parts)


def _action_units(explanation: Explanation) -> str:
    units = explanation.action_units
    if not units.intensity.size:
        return ""
    peaks = units.intensity.max(0)
    order = [i for i in np.argsort(-peaks, kind="stable")[:8] if peaks[i] >= 0.15]
    source = (
        f'<p class="small">Measured by: {escape(units.source)}; height 100 % is the strongest possible movement.</p>'
    )
    if not order:
        return f"<h3>Movements of the face</h3><p>No movement above the noise.</p>{source}"
    titles = load_facs().action_units
    rows = [
        (f"{titles[units.names[i]].title} ({units.names[i]})" if units.names[i] in titles else units.names[i],
         units.intensity[:, i])
        for i in order
    ]  # fmt: skip
    return f"<h3>Movements of the face</h3>{charts.curves(rows, units.timestamps)}{source}"


def cells_of(explanation: Explanation) -> str:
    """What the words met: ``patches`` of the face, or whole ``frames`` where the encoder has one token for each."""
    return "frames" if explanation.motion[0].size == 1 else "patches"


def _times(explanation: Explanation, top_k: int) -> str:
    """When each word met the face, for an encoder that sees a frame as one."""
    mass = np.asarray(explanation.transport, dtype=np.float64).sum((2, 3))
    owed, times = np.abs(explanation.word_weights), explanation.face_clip.timestamps
    rows = [
        f'<tr><td data-value="{i}">{escape(explanation.words[i])}</td>{_number_cell(float(explanation.word_weights[i]))}'
        f"{_number_cell(float(times[mass[i].argmax()]))}{_number_cell(float(mass[i].max() / mass[i].mean()), 1)}</tr>"
        for i in sorted(range(len(explanation.words)), key=lambda i: (-owed[i], i))
        if mass[i].sum() > 0
    ]
    table = _sortable(("word", "owed to it", "heaviest at (s)", "times even"), rows, "Each word's heaviest frame.")
    return f"<h3>Words and times</h3>{table}{_cell_table(explanation, top_k)}"


def _pairs(explanation: Explanation, top_k: int) -> str:
    if cells_of(explanation) == "frames":
        return _times(explanation, top_k)
    shares = region_shares(explanation)
    cells = np.asarray(explanation.regions)
    even = {name: float((cells == name).mean()) for name in REGIONS}
    names = [name for name in REGIONS if even[name] > 0]
    owed = np.abs(explanation.word_weights)
    rows = []
    for i in sorted(range(len(explanation.words)), key=lambda i: (-owed[i], i)):
        total = float(shares.loc[i].sum())
        if total <= 0:
            continue
        name = max(names, key=lambda n: float(shares.loc[i, n]) / even[n])
        share = float(shares.loc[i, name])
        rows.append(
            f'<tr><td data-value="{i}">{escape(explanation.words[i])}</td>'
            f"{_number_cell(float(explanation.word_weights[i]))}<td>{escape(name)}</td>{_number_cell(share, 3)}"
            f"{_number_cell(even[name], 3)}{_number_cell(share / even[name], 1)}</tr>"
        )
    head = ("word", "owed to it", "main region", "share of the word", "share of the area", "times even")
    summary = _sortable(
        head, rows, "Each word's main region: the one that holds most of its mass above an even spread."
    )
    return f"<h3>Words and regions</h3>{summary}{_cell_table(explanation, top_k)}"


def _cell_table(explanation: Explanation, top_k: int) -> str:
    listed = alignment_table(explanation, 20)
    listed = listed[(listed["rank"] <= top_k) & (listed["frame"] >= 0)]
    has_places = cells_of(explanation) != "frames"
    rows = [
        f'<tr><td data-value="{r.word_index}">{escape(r.word)}</td><td>{r.rank}</td><td>{r.frame}</td>{_number_cell(r.timestamp)}'
        + (f"<td>{escape(r.region)}</td><td>{r.row}</td><td>{r.col}</td>" if has_places else "")
        + f"{_number_cell(r.weight, 4)}{_number_cell(r.motion)}</tr>"
        for r in listed.itertuples()
    ]
    places = ("region", "row", "column") if has_places else ()
    head = ("word", "rank", "frame", "time (s)", *places, "weight", "motion")
    content = _sortable(head, rows, "The same numbers as in alignments.csv, seven digits when pointed at.")
    return f"<details><summary>The {top_k} heaviest {cells_of(explanation)} of every word</summary>{content}</details>"


def _number_cell(value: float, decimals: int = 2) -> str:
    exact, short = f"{value:.7g}", f"{value:.{decimals}f}".replace("-", "−")
    return f'<td class="n" data-value="{exact}" title="{exact}">{short}</td>'


def _sortable(head: Sequence[str], rows: Sequence[str], caption: str) -> str:
    top = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in head)
    return (
        f'<div class="scroll tall"><table class="sortable"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def deletion_verdict(test: DeletionTest, *, cells: str = "patches") -> str:
    """What a deletion test says of the picture, in one sentence."""
    if test.num_beaten >= 0.95 * len(test.random_probability) and test.drop < _HARDLY:
        return f"The evidence matters more than chance, but hardly: {test.drop:+.3f} of probability. Do not lean on it."
    if test.num_beaten >= 0.95 * len(test.random_probability):
        return "The evidence matters more than chance: it shows something that the model used."
    if test.drop > 0:
        return "The evidence matters little more than chance, within the spread of random orders: do not lean on it."
    return f"The evidence matters no more than random {cells}: take the picture as decoration, not as a reason."


def deletion_section(test: DeletionTest | None, label: str | None, *, cells: str = "patches") -> str:
    """The deletion test in words and as a chart; empty without one."""
    if test is None:
        return ""
    middle = int(np.abs(test.fractions - 0.3).argmin())
    random = float(test.random_probability[:, middle].mean())
    ranked, start = float(test.ranked_probability[middle]), float(test.ranked_probability[0])
    orders = len(test.random_probability)
    text = (
        "The evidence is where the words that speak for the answer met the face, times how much the answer owes to the movement there. "
        f"With the {percent(float(test.fractions[middle]))} of the {cells} with most evidence held still, the probability of "
        f"{label or 'the class'} goes from {percent(start)} to {percent(ranked)}; with as many random ones to "
        f"{percent(random)} (mean of {orders} orders). Mean difference over all steps: "
        f"{charts.signed(test.drop)}, beating {test.num_beaten} of {orders} random orders. {deletion_verdict(test, cells=cells)}"
    )
    return f"<h3>Check of the explanation</h3><p>{escape(text)}</p>{charts.deletion_chart(test, cells=cells)}"


def overlay(
    image: UInt8[np.ndarray, "height width 3"], faces: str, regions: Sequence[Sequence[str]]
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture as it may be shown."""
    if faces == "show":
        return image
    height, width = image.shape[:2]
    if faces == "blur":
        # Seven cells across a face keep nothing to recognise a person by; smoothing alone could be undone.
        tiny = cv2.resize(image, (7, 7), interpolation=cv2.INTER_AREA)
        return cv2.resize(tiny, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    shades = {name: 235 - 18 * i for i, name in enumerate(REGIONS)}
    cells = np.array(
        [[90 if name == "outside" else shades.get(name, 160) for name in row] for row in regions], np.uint8
    )
    plain = cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.repeat(plain[..., None], 3, axis=2)


def _maps_json(explanation: Explanation, shown: Sequence[int]) -> str:
    frames = list(shown)
    maps = np.asarray(explanation.transport, dtype=np.float64)
    names = [str(name) for name in REGIONS]
    grid = [names.index(name if name in names else OUTSIDE) for row in explanation.regions for name in row]
    data = {
        "rows": maps.shape[2],
        "columns": maps.shape[3],
        "frames": len(frames),
        "cells": cells_of(explanation),
        "words": list(explanation.words),
        "times": [round(float(explanation.face_clip.timestamps[f]), 3) for f in frames],
        "peaks": [float(f"{maps[i].max():.4g}") for i in range(len(maps))],
        "maps": _bytes(maps[:, frames], maps.max(axis=(1, 2, 3), keepdims=True)),
        "even": 1 / max(1, maps[0].size) if len(maps) else 0,
        "evidence": _bytes(explanation.evidence[frames], explanation.evidence.max()),
        "motion": _bytes(np.asarray(explanation.motion)[frames], np.asarray(explanation.motion).max()),
        "motionPeak": float(f"{float(np.asarray(explanation.motion).max()):.4g}"),
        "regions": names,
        "grid": grid,
        "start": int(np.argmax(explanation.word_weights)) if len(explanation.words) else -1,
    }
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    text = re.sub("[<>&]", lambda match: f"\\u{ord(match[0]):04x}", text)  # No word can end the script element.
    return f'<script type="application/json" class="maps">{text}</script>'


def _bytes(values: Float[np.ndarray, "*shape"], peak: np.ndarray | float) -> str:
    """Values as bytes, 255 for the peak, in base64."""
    scaled = np.divide(values, peak, out=np.zeros(values.shape), where=np.asarray(peak) > 0)
    return base64.b64encode(np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8).tobytes()).decode("ascii")


def answers_table(predictions: Sequence[Prediction]) -> str:
    """All answers of a run, also those without a face or label."""
    rows = []
    for prediction in predictions:
        confidence = percent(prediction.confidence)
        rows.append(
            (
                escape(prediction.input),
                f"{prediction.start_seconds:.1f}–{prediction.end_seconds:.1f}&nbsp;s",
                escape(prediction.label or "–"),
                escape(confidence if prediction.probabilities is not None else "–"),
                escape(_STATUS.get(prediction.status, prediction.status)),
                escape(prediction.message or prediction.abstain_reason),
            )
        )
    return table(("input", "window", "apparent expression", "probability", "status", "note"), rows)


def windows_of(explanation: Explanation, predictions: Sequence[Prediction]) -> list[Prediction]:
    """Answers for the same input and person."""
    own = explanation.prediction
    return [p for p in predictions if p.input == own.input and p.track_id == own.track_id]


def recall_bars(recall: Mapping[str, float]) -> str:
    """Recall per class as bars."""
    return charts.bars([(label, float(value), percent(float(value))) for label, value in recall.items()], first=-1)
