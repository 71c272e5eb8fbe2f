"""Where phrases and words have their evidence and their mass on the face, as maps and as tables."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from dferkit.errors import DataError
from dferkit.faces import CROP_MARGIN
from dferkit.schema import Explanation, Phrase, PhraseEvidence

PHRASE_COLUMNS = (
    "input", "clip_id", "track_id", "window", "label", "phrase", "start_seconds", "end_seconds", "share", "evidence", "region", "region_share", "peak_seconds",
)  # fmt: skip
REMAINDER = "(not described)"

REGION_SOURCE = "crop fractions"
OUTSIDE = "outside"
WHOLE = "face"  # of an encoder with one token per frame
REST = "rest"

ALIGNMENT_COLUMNS = (
    "input", "clip_id", "track_id", "label", "word", "word_index", "phrase", "source", "frame", "timestamp", "region",
    "region_source", "row", "col", "weight", "rank", "method", "motion", "window",
)  # fmt: skip

# (region, top, bottom, left, right) as fractions of a square crop with a margin of .15 around the detector's box
# (``_read_off`` carries places over from ``faces.CROP_MARGIN``); the first
# that holds a point wins. Read off crops of real and rendered frontal faces: brows .30 to .37, eyes .38 to .45, tip of the
# nose .60 to .66, mouth .68 to .78. A turned head moves off these places; the fractions do not follow it.
_BOXES = (
    ("glabella", 0.29, 0.43, 0.43, 0.57),
    ("brow", 0.29, 0.375, 0.18, 0.82),
    ("nose", 0.43, 0.645, 0.39, 0.61),
    ("eyes", 0.375, 0.505, 0.18, 0.82),
    ("mouth", 0.645, 0.81, 0.30, 0.70),
    ("forehead", 0.10, 0.29, 0.20, 0.80),
    ("cheeks", 0.505, 0.81, 0.16, 0.84),
    ("chin", 0.81, 1.00, 0.27, 0.73),
)
_READ_AT_MARGIN = 0.15
REGIONS = ("forehead", "brow", "glabella", "eyes", "nose", "cheeks", "mouth", "chin", OUTSIDE, WHOLE)

_SAMPLES = 12
_LEAST_COVER = 0.25
MEASURED = "landmarks"
_WORD = re.compile(r"\w+(?:[.'’–-]\w+)*")


@functools.cache
def region_grid(rows: int, columns: int) -> tuple[tuple[str, ...], ...]:
    """Named region of each cell of a standard face crop: the one that covers most of the cell.

    The places are fixed fractions of the crop of a frontal face (``REGION_SOURCE``), not landmarks: close to a border
    a name can be one cell off. Hair, ears, neck and background are ``outside``.

    Raises:
        DataError: A side below 1.
    """
    if rows < 1 or columns < 1:
        raise DataError(f"a grid has at least 1 row and 1 column, got {rows} and {columns}")
    if rows == columns == 1:
        return ((WHOLE,),)
    return tuple(tuple(_region_of_cell(r, c, rows, columns) for c in range(columns)) for r in range(rows))


def _region_of_cell(row: int, column: int, rows: int, columns: int) -> str:
    inner = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    points = [(_read_off(y), _read_off(x)) for y in (row + inner) / rows for x in (column + inner) / columns]
    names = [_region_at(y, x) for y, x in points]
    return max(REGIONS, key=names.count)


def _read_off(fraction: float) -> float:
    """A place on a standard crop as a fraction of the crops that ``_BOXES`` was read off."""
    return 0.5 + (fraction - 0.5) * (1 + 2 * CROP_MARGIN) / (1 + 2 * _READ_AT_MARGIN)


def _region_at(y: float, x: float) -> str:
    for name, top, bottom, left, right in _BOXES:
        if top <= y < bottom and left <= x < right:
            return name
    return OUTSIDE


def find_words(text: str) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Whole words of a text without punctuation, and their (start, end) characters; a time such as ``0.8–1.9`` is one word."""
    spans = tuple(match.span() for match in _WORD.finditer(text))
    return tuple(text[a:b] for a, b in spans), spans


def merge_pieces(
    text: str, spans: Sequence[tuple[int, int]]
) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...], Int[np.ndarray, " pieces"]]:
    """Whole words of a caption, and the word each piece belongs to.

    Args:
        spans: (start, end) character of each piece.

    Returns:
        The words, their (start, end) characters, and per piece the number of its word: -1 for punctuation.
    """
    words, found = find_words(text)
    word_of_piece = np.full(len(spans), -1, dtype=np.int64)
    for piece, (start, end) in enumerate(spans):
        for word, (first, last) in enumerate(found):
            if start < last and end > first:
                word_of_piece[piece] = word
                break
    return words, found, word_of_piece


def transport_maps(
    plan: Float[np.ndarray, "pieces visual"],
    visual_index: Int[np.ndarray, " visual"],
    num_frames: int,
    num_tokens: int,
    word_of_piece: Int[np.ndarray, " pieces"],
    num_words: int,
) -> Float[np.ndarray, "words frames tokens"]:
    """Where the mass of each word is.

    Args:
        plan: Mass from each word piece to each visual token, of one clip.
        visual_index: Position (frame · tokens + token) of each visual token, -1 for padding.
        num_frames, num_tokens: Steps in time, and visual tokens of each.
        word_of_piece: Word of each piece, -1 for none (padding, punctuation).

    Returns:
        One map per word that sums to 1; all 0 for a word without mass (its pieces were cut off).

    Raises:
        DataError: Shapes or indices that do not fit, or mass that is negative or not finite.
    """
    plan = np.asarray(plan, dtype=np.float64)
    visual_index, word_of_piece = np.asarray(visual_index), np.asarray(word_of_piece)
    num_cells = num_frames * num_tokens
    if plan.shape != (len(word_of_piece), len(visual_index)):
        raise DataError(
            f"the plan is {plan.shape[0]} × {plan.shape[1]}, but there are {len(word_of_piece)} pieces and "
            f"{len(visual_index)} visual tokens"
        )
    if not np.isfinite(plan).all() or (plan < 0).any():
        raise DataError("a transport plan has finite values of 0 or more")
    if visual_index.max(initial=-1) >= num_cells or word_of_piece.max(initial=-1) >= num_words:
        raise DataError(f"an index lies outside {num_cells} tokens or {num_words} words; are these the encoder's?")
    live = visual_index >= 0
    by_word = np.zeros((num_words, int(live.sum())))
    pieces = word_of_piece >= 0
    np.add.at(by_word, word_of_piece[pieces], plan[pieces][:, live])
    maps = np.zeros((num_words, num_cells))
    for word in range(num_words):
        maps[word] = np.bincount(visual_index[live], weights=by_word[word], minlength=num_cells)
    total = maps.sum(1, keepdims=True)
    maps = np.divide(maps, total, out=np.zeros_like(maps), where=total > 0)
    return maps.reshape(num_words, num_frames, num_tokens)


def on_grid(
    weights: Float[np.ndarray, "*maps frames tokens"],
    grid: tuple[int, int],
    coverage: Float[np.ndarray, "frames areas cells"] | None,
    *,
    drawn: tuple[int, int] = (8, 8),
) -> Float[np.ndarray, "*maps frames rows columns"]:
    """Weights of visual tokens as maps over the face crop; sums stay the same.

    Args:
        grid: Rows and columns of the patches, (0, 0) for none. coverage: Where the areas lie, as shares of the cells of ``drawn``.

    Raises:
        DataError: Patches and areas are there, and their grids differ.
    """
    rows, columns = grid
    patches = weights[..., : rows * columns]
    if coverage is None:
        return patches.reshape(*weights.shape[:-1], rows, columns)
    of_areas = np.einsum("...fa,fac->...fc", weights[..., rows * columns :], coverage)
    if rows * columns and grid != drawn:
        raise DataError(
            f"patches on {rows} × {columns} cells and areas on {drawn[0]} × {drawn[1]} cannot be drawn as one"
        )
    total = of_areas + patches if rows * columns else of_areas
    return total.reshape(*total.shape[:-1], *drawn)


def measured_regions(
    coverage: Float[np.ndarray, "frames areas cells"], regions: Sequence[str], *, drawn: tuple[int, int] = (8, 8)
) -> tuple[tuple[str, ...], ...]:
    """Named region of each cell of a face crop, from where the areas were measured to lie.

    Args:
        coverage: Shares of the cells that each area covers. regions: Region name of each area.
    """
    full = coverage / np.maximum(coverage.max(-1, keepdims=True), 1e-9)  # of the cell that the area covers most of
    share = full.mean(0)
    best = share.argmax(0)
    names = [regions[a] if share[a, cell] >= _LEAST_COVER else OUTSIDE for cell, a in enumerate(best)]
    return tuple(tuple(names[row * drawn[1] : (row + 1) * drawn[1]]) for row in range(drawn[0]))


def alignment_table(explanation: Explanation, top_k: int = 20) -> pd.DataFrame:
    """Word–cell pairs of one explanation, in the order of words and ranks.

    Each word has its ``top_k`` heaviest cells (those above 0; the earlier cell first among equals), ranked from 1, and
    one row with region ``rest`` and frame, row and column -1 that holds what remains, where there are more. So the
    weights of a word sum to 1. ``motion`` is the motion weight of the cell (mean 1 over the clip); for ``rest`` the
    mean of the cells it holds. Words without mass have no rows.

    Raises:
        DataError: ``top_k`` below 1.
    """
    if top_k < 1:
        raise DataError(f"top_k is at least 1, got {top_k}")
    prediction = explanation.prediction
    motion = np.asarray(explanation.motion, dtype=np.float64)
    rows: list[dict[str, Any]] = []
    for number, (word, span) in enumerate(zip(explanation.words, explanation.word_spans, strict=True)):
        weights = np.asarray(explanation.transport[number], dtype=np.float64)
        if weights.sum() <= 0:
            continue
        flat = weights.ravel() / weights.sum()
        order = np.argsort(-flat, kind="stable")
        listed = [int(cell) for cell in order[:top_k] if flat[cell] > 0]
        common = {
            "input": prediction.input,
            "clip_id": prediction.clip_id,
            "track_id": prediction.track_id,
            "label": prediction.label or "",
            "word": word,
            "word_index": number,
            "phrase": phrase_of(explanation, span),
            "source": explanation.caption.source,
            "region_source": explanation.region_source,
            "method": explanation.method,
            "window": prediction.window,
        }
        for rank, cell in enumerate(listed, start=1):
            frame, row, column = (int(i) for i in np.unravel_index(cell, weights.shape))
            rows.append(
                {
                    **common,
                    "frame": frame,
                    "timestamp": float(explanation.face_clip.timestamps[frame]),
                    "region": explanation.regions[row][column],
                    "row": row,
                    "col": column,
                    "weight": float(flat[cell]),
                    "rank": rank,
                    "motion": float(motion[frame, row, column]),
                }
            )
        remaining = order[len(listed) :]
        if flat[remaining].sum() > 0:
            rows.append(
                {
                    **common,
                    "frame": -1,
                    "timestamp": float("nan"),
                    "region": REST,
                    "row": -1,
                    "col": -1,
                    "weight": 1.0 - float(flat[listed].sum()),
                    "rank": len(listed) + 1,
                    "motion": float(motion.ravel()[remaining].mean()),
                }
            )
    return pd.DataFrame(rows, columns=list(ALIGNMENT_COLUMNS))


def supporting_cells(phrase: PhraseEvidence) -> Float[np.ndarray, "frames rows columns"]:
    """Where the evidence lies that gives the phrase's share its sign; sums to 1, or all 0."""
    cells = np.maximum(np.sign(phrase.share) * np.asarray(phrase.evidence, dtype=np.float64), 0)
    total = float(cells.sum())
    return cells / total if total > 0 else cells


def region_shares(explanation: Explanation) -> pd.DataFrame:
    """Share of each phrase's supporting cells in each region: rows are phrases, columns ``REGIONS``; a row sums to 1, or is all 0."""
    cells = np.asarray(explanation.regions)
    maps = np.array([supporting_cells(phrase).sum(0) for phrase in explanation.phrases]).reshape(-1, *cells.shape)
    return pd.DataFrame({name: maps[:, cells == name].sum(1) for name in REGIONS})


def phrase_places(explanation: Explanation) -> list[tuple[str, float, float | None]]:
    """Per phrase its main region, that region's share of the phrase's supporting cells, and the time in the video at which they are most; ("", 0, None) where it has none."""
    regions, times = region_shares(explanation), explanation.face_clip.timestamps
    places: list[tuple[str, float, float | None]] = []
    for number, phrase in enumerate(explanation.phrases):
        over_time, of_regions = supporting_cells(phrase).sum((1, 2)), regions.loc[number]
        if over_time.any():
            places.append((str(of_regions.idxmax()), float(of_regions.max()), float(times[over_time.argmax()])))
        else:
            places.append(("", 0.0, None))
    return places


def phrase_table(explanation: Explanation) -> pd.DataFrame:
    """One row per phrase, the largest share first, and one for the remainder where the shares are exact; region and time as in ``phrase_places``."""
    prediction, is_exact = explanation.prediction, explanation.remainder is not None
    common = {
        "input": prediction.input, "clip_id": prediction.clip_id, "track_id": prediction.track_id, "window": prediction.window,
        "label": prediction.label or "", "evidence": "exact" if is_exact else "estimate",
    }  # fmt: skip
    rows: list[dict[str, Any]] = [
        {
            **common,
            "phrase": phrase.text,
            "start_seconds": phrase.start_seconds,
            "end_seconds": phrase.end_seconds,
            "share": phrase.share,
            "region": region,
            "region_share": of_region,
            "peak_seconds": np.nan if peak is None else peak,
        }
        for phrase, (region, of_region, peak) in zip(explanation.phrases, phrase_places(explanation), strict=True)
    ]
    rows.sort(key=lambda row: -row["share"])
    if is_exact:
        rows.append({**common, "phrase": REMAINDER, "share": explanation.remainder, "region": ""})
    return pd.DataFrame(rows, columns=list(PHRASE_COLUMNS))


def phrase_of(explanation: Explanation, span: tuple[int, int]) -> str:
    """Text of the phrase that a word belongs to; empty between phrases."""
    phrase = _phrase_at(explanation.caption.phrases, span)
    return phrase.text if phrase else ""


def _phrase_at(phrases: Sequence[Phrase], span: tuple[int, int]) -> Phrase | None:
    for phrase in phrases:
        if phrase.start_character <= span[0] < phrase.end_character:
            return phrase
    return None
