"""Pictures as PNG files, for papers and slides. Matplotlib is imported when a picture is drawn."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dferkit import storage
from dferkit.evaluation.calibration import reliability_bins
from dferkit.evaluation.metrics import expected_calibration_error, negative_log_likelihood, wilson_interval
from dferkit.evaluation.summary import NUM_BINS
from dferkit.explain import supporting_cells
from dferkit.reports.clip_page import verdict_text
from dferkit.reports.face_pictures import check_faces, shown_face
from dferkit.reports.formatting import percent, signed
from dferkit.reports.selection import frames_to_show, main_phrases
from dferkit.schema import PARAGRAPH, Explanation, PhraseEvidence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CLIPS_PER_DOT = 8  # with fewer a dot is noise
_LEGEND = {  # colours as on the page
    "motion": ("#008cc8", "moves more than the mean"),
    "evidence": ("#b00096", "the score depends most on it (deletion test)"),
    "phrase": ("#e86a10", "the phrase raises the score here"),
}


def write_reliability(
    path: Path | str, before: np.ndarray, after: np.ndarray, true: np.ndarray, *, title: str = ""
) -> None:
    """Draw the share of right answers against confidence, before and after a calibration.

    A dot is a bin of equally many clips with its 95 % Wilson interval; on the diagonal the two are equal.

    Args:
        before, after: Probabilities (clips, classes) of the same clips. true: (clips,) class numbers.

    Raises:
        DataError: No clips, rows that are no probabilities, or class numbers out of range.
    """
    from matplotlib.figure import Figure

    num_bins = min(NUM_BINS, max(1, len(true) // _CLIPS_PER_DOT))
    figure = Figure(figsize=(8.4, 5.6), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(4, 1))
    for column, (name, p) in enumerate((("before", before), ("after, out of fold", after))):
        bins = reliability_bins(p, true, num_bins=num_bins)
        share = bins.num_right / bins.num_clips
        ends = wilson_interval(bins.num_right, bins.num_clips)
        axes, below = grid[:, column]
        axes.plot((0, 1), (0, 1), color="grey", linewidth=1, linestyle="--", label="confidence = share right")
        spread = np.maximum(np.stack([share - ends[:, 0], ends[:, 1] - share]), 0)
        axes.errorbar(
            bins.confidence, share, yerr=spread, fmt="o", color="#1f4e79", ecolor="#8fb0d0", capsize=2,
            label="a bin of clips, with its 95 % interval",
        )  # fmt: skip
        error = expected_calibration_error(p, true, num_bins=NUM_BINS)
        numbers = f"calibration error {error:.3f}, negative log likelihood {negative_log_likelihood(p, true):.3f}"
        axes.set_title(f"{name}\n{numbers}", fontsize=10)
        axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
        below.hist(p.max(1), bins=np.linspace(0, 1, 21).tolist(), color="#8fb0d0")
        below.set_xlabel("confidence of the answer")
    grid[0, 0].set_ylabel("share of right answers")
    grid[1, 0].set_ylabel("clips")
    grid[0, 0].legend(loc="upper left", fontsize=8, frameon=False)
    figure.suptitle(f"{title}; {num_bins} dots of {len(true) // num_bins} clips or more" if title else "", fontsize=10)
    _save(figure, path)


def write_explanation(
    path: Path | str, explanation: Explanation, *, faces: str = "show", num_phrases: int = 3, num_frames: int = 8
) -> None:
    """Draw an explanation as a strip: the frames, the motion weights, the evidence, and where the phrases with the largest shares have them.

    Args:
        faces: ``show``, ``blur`` or ``boxes``.
        num_phrases: At most so many phrases, one row each.

    Raises:
        ConfigError: An unknown value of ``faces``.
    """
    check_faces(faces)
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    main = main_phrases(explanation, num_phrases)
    shown = frames_to_show(explanation, main, num_frames)
    maps = [("motion", np.asarray(explanation.motion, dtype=np.float64), "motion")]
    maps += [("evidence", np.asarray(explanation.evidence, dtype=np.float64), "evidence")]
    chosen = [explanation.phrases[i] for i in main]
    maps += [(_row_name(explanation, phrase), supporting_cells(phrase), "phrase") for phrase in chosen]
    figure = Figure(figsize=(1.15 * len(shown) + 1.3, 1.2 * (len(maps) + 1) + 1.1), layout="constrained")
    grid = figure.subplots(len(maps) + 1, len(shown), squeeze=False)
    size = explanation.face_clip.images.shape[1]
    strongest = (
        0.8 if explanation.motion[0].size > 1 else 0.4
    )  # one cell covers the whole face, which must stay visible
    for column, frame in enumerate(shown):
        picture = shown_face(explanation.face_clip.images[frame], faces, explanation.regions)
        grid[0, column].set_title(f"{explanation.face_clip.timestamps[frame]:.2f} s", fontsize=8)
        for axes in grid[:, column]:
            axes.imshow(picture, extent=(0, size, size, 0))
            axes.set_xticks([])
            axes.set_yticks([])
        for axes, (_, values, kind) in zip(grid[1:, column], maps, strict=True):
            # Only cells above an even share are drawn, as on the page.
            above = np.clip((values[frame] - values.mean()) / max(float(values.max() - values.mean()), 1e-12), 0, 1)
            axes.imshow(
                above, cmap=ListedColormap([_LEGEND[kind][0]]), alpha=strongest * above**0.75, extent=(0, size, size, 0),
                interpolation="nearest",
            )  # fmt: skip
    for axes, name in zip(grid[:, 0], ["", *(name for name, _, _ in maps)], strict=True):
        axes.set_ylabel(name, fontsize=7, rotation="horizontal", ha="right", va="center")
    text = explanation.caption.text
    if explanation.caption.source == PARAGRAPH:
        text = f"{len(explanation.words)} learned sentences"
    text = text if len(text) <= 110 else text[:107] + "…"
    figure.suptitle(f"{verdict_text(explanation.prediction)}\n{text}", fontsize=9)
    keys = [Patch(color=colour, label=label) for colour, label in _LEGEND.values()]
    title = "Stronger colour: more. Cells below the mean of their row stay clear. Times are those of the video."
    figure.legend(
        handles=keys, title=title, loc="outside lower center", ncols=3, fontsize=7, title_fontsize=7, frameon=False
    )
    _save(figure, path)


def write_over_time(path: Path | str, explanation: Explanation) -> None:
    """Draw when each phrase's share of the score arises; below it motion, evidence and, where the model has it, attention to frames."""
    from matplotlib.figure import Figure

    phrases, times = explanation.phrases, explanation.face_clip.timestamps
    figure = Figure(figsize=(7.2, 2.8 + 0.4 * len(phrases)), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(max(len(phrases), 4), 4), sharex=True)
    places = np.arange(len(times))
    if phrases:
        shares = np.stack([np.asarray(phrase.evidence, dtype=np.float64).sum((1, 2)) for phrase in phrases])
        reach = float(np.abs(shares).max()) or 1.0
        image = above.imshow(shares, cmap="PuOr_r", aspect="auto", vmin=-reach, vmax=reach, interpolation="nearest")
        unit = "share of the score" if explanation.remainder is not None else "fall of the probability without it"
        figure.colorbar(image, ax=above, label=f"{unit}, per frame\n(orange raises, purple lowers)")
    above.set_yticks(range(len(phrases)), [_row_name(explanation, phrase) for phrase in phrases], fontsize=7)
    curves = {"motion": explanation.motion.sum((1, 2)), "evidence": explanation.evidence.sum((1, 2))}
    if explanation.attention is not None:
        curves["attention"] = explanation.attention
    for name, values in curves.items():
        curve = np.asarray(values, dtype=np.float64)
        total = curve.mean()
        below.plot(places, curve / total if total > 0 else curve, label=name)
    below.axhline(1, color="grey", linewidth=0.8, linestyle="--")
    below.set_xticks(places[:: max(len(places) // 8, 1)], [f"{t:.2f}" for t in times[:: max(len(places) // 8, 1)]])
    below.set(xlabel="seconds of the video", ylabel="× mean", ylim=(0, None))
    below.legend(fontsize=8, frameon=False)
    above.set_title(verdict_text(explanation.prediction), fontsize=9)
    _save(figure, path)


def _row_name(explanation: Explanation, phrase: PhraseEvidence) -> str:
    """The movement of a phrase in lines of about 18 characters, its times and its share."""
    lines = [textwrap.fill(phrase.text.split(",")[0], 18)]
    if not np.isnan(phrase.start_seconds):
        lines.append(f"{phrase.start_seconds:.1f}–{phrase.end_seconds:.1f} s")
    share = percent(phrase.share) if explanation.remainder is not None else signed(phrase.share)
    return "\n".join((*lines[:-1], f"{lines[-1]}: {share}"))


def _save(figure: Figure, path: Path | str) -> None:
    with storage.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png", metadata={"Software": "dferkit"})
