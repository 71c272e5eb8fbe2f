"""Classes that another tool predicted, per frame or per clip: EmotiEffLib, FER, py-feat and DeepFace tables → probabilities in our labels."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from dferkit.errors import DataError, ManifestError
from dferkit.labels import ALIASES, BASIC
from dferkit.readings.classes import KNOWN, into_labels
from dferkit.readings.scores import as_probabilities
from dferkit.readings.video_tables import VideoTables, first_columns, numbers, one_person, row_seconds
from dferkit.schema import CoarsePrediction, FaceClip

_PREFIXES = ("emotion.", "emotion_", "p_", "prob_", "score_")
_CLASS = re.compile(r"([a-z]+?)_?(\d*)")
_SPELLINGS = {**ALIASES, **{name: name for name in KNOWN}}
_FEWEST = 3  # fewer class columns are a coincidence
# A tool fills the row of a frame without a face, too; these columns mark it.
_FACE_CONFIDENCE = ("face_confidence", "FaceScore", "success")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassRows:
    """Rows of one video.

    Attributes:
        probabilities: Sum to 1 over the labels; NaN in a row without a face.
        seconds: On the video's clock; None where the table has no times; then its rows are those of the whole video.
        source: Such as ``FER table fer.csv``. notes: How unclear values were read.
    """

    probabilities: Float[np.ndarray, "rows classes"]
    seconds: Float[np.ndarray, " rows"] | None
    source: str
    notes: tuple[str, ...]

    def mean(self, start_seconds: float = -np.inf, end_seconds: float = np.inf) -> Float[np.ndarray, " classes"] | None:
        """Mean over the rows with a face, of a stretch of the video where the table has times; None without any."""
        rows = self.probabilities
        if self.seconds is not None:
            rows = rows[(self.seconds >= start_seconds) & (self.seconds <= end_seconds)]
        rows = rows[~np.isnan(rows).any(1)]
        return rows.mean(0) if len(rows) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scored:
    """A table with its class columns read."""

    table: pd.DataFrame
    probabilities: np.ndarray
    kind: str
    notes: tuple[str, ...]


class ClassTables:
    """Tables of predicted classes, one for all videos or a folder with one each.

    Attributes:
        labels: Classes of the answers, in their order. notes: How unclear values were read; of a folder, in the tables read so far.

    Raises:
        ManifestError: As ``VideoTables``; or the one table has no class columns.
        DataError: Values that are neither probabilities nor scores.
    """

    def __init__(self, path: Path | str, *, labels: tuple[str, ...] = BASIC) -> None:
        self.tables, self.labels = VideoTables(path), labels
        whole = self.tables.whole
        # What the numbers are (probabilities, percent or scores) is read from the whole table, before the rows of a video are picked.
        self._whole = None if whole is None else _score(whole, self.tables.path.name, labels)
        self.notes = self._whole.notes if self._whole else ()

    @property
    def name(self) -> str:
        """Such as ``FER table fer.csv``."""
        where = self.tables.path.name
        return f"{self._whole.kind} table {where}" if self._whole else f"tables in {where}/"

    def rows(self, video: str, frame_seconds: Float[np.ndarray, " frames"] | None = None) -> ClassRows:
        """Rows of one video.

        Raises:
            ManifestError: No table or row for it, or a cell that cannot be used. DataError: As above.
        """
        table, where = self.tables.rows(video)
        scored = self._whole or _score(table, where, self.labels)
        self.notes = tuple(dict.fromkeys((*self.notes, *scored.notes)))
        picked = one_person(table, where)
        place = scored.table.index.get_indexer(picked.index)
        return ClassRows(
            probabilities=scored.probabilities[place],
            seconds=row_seconds(picked, where, frame_seconds, frames_from=None),
            source=f"{scored.kind} table {where}",
            notes=scored.notes,
        )

    def answer(self, video: str) -> Float[np.ndarray, " classes"] | None:
        """Mean over a whole video; None where the tables have no row with a face for it. Errors as in ``rows``."""
        return self.rows(video).mean() if self.tables.has(video) else None

    def for_video(
        self, video: str, frame_seconds: Float[np.ndarray, " frames"]
    ) -> Callable[[FaceClip], CoarsePrediction]:
        """Guides of one video's clips: the mean over the rows within the clip's window. Errors as in ``rows``; the guide raises a DataError for a window without a row."""
        rows = self.rows(video, frame_seconds)

        def guide(clip: FaceClip) -> CoarsePrediction:
            probabilities = rows.mean(clip.start_seconds, clip.end_seconds)
            if probabilities is None:
                raise DataError(
                    f"{rows.source}: no row with a face between {clip.start_seconds:.1f} and {clip.end_seconds:.1f} s; give a table of the whole video"
                )
            return guide_of(self.labels, probabilities, rows.source)

        return guide


def guide_of(labels: tuple[str, ...], probabilities: Float[np.ndarray, " classes"], source: str) -> CoarsePrediction:
    """Another tool's probabilities as a guide. Never for training: that classifier may have been trained on the clip."""
    return CoarsePrediction(labels=labels, probabilities=probabilities, model=source, fold=-1, is_out_of_fold=False)


def class_table_kind(table: pd.DataFrame, where: str) -> str:
    """Who wrote a table of classes, by its header; ``class`` where it could be anybody.

    Raises:
        ManifestError: Fewer than three columns are classes; names those that are there.
    """
    columns = [str(name) for name in table.columns]
    if len(_class_columns(table)) < _FEWEST:
        raise ManifestError(
            f"{where} is not a known kind of class table: found columns {first_columns(table)}; expected one column per class, such as anger, … neutral (py-feat), Anger, … (EmotiEffLib), angry0, … (FER) or emotion.angry, … (DeepFace)"
        )
    if "dominant_emotion" in columns or any(name.startswith("emotion.") for name in columns):
        return "DeepFace"
    if any(name in columns for name in ("box", "box0", "angry0")):
        return "FER"
    if any(name in columns for name in ("FaceScore", "FaceRectX", "AU01")):
        return "py-feat"
    return "EmotiEffLib" if {"Anger", "Happiness"} <= set(columns) else "class"


def _score(table: pd.DataFrame, where: str, labels: tuple[str, ...]) -> _Scored:
    kind = class_table_kind(table, where)
    columns = _class_columns(table)
    values = np.stack([numbers(table, column, where) for column in columns.values()], 1)
    for column in _FACE_CONFIDENCE:
        if column in table:
            has_face = numbers(table, column, where) > 0
            # No confidence in any row: the tool was run without face detection (DeepFace: skip).
            values[~has_face] = np.nan if has_face.any() or column == "success" else values[~has_face]
    probabilities, read_as = as_probabilities(values, where)
    ours, mapped = into_labels(probabilities, tuple(columns), labels)
    return _Scored(table=table, probabilities=ours, kind=kind, notes=(*read_as, *mapped))


def _class_columns(table: pd.DataFrame) -> dict[str, str]:
    """Column of each class. Of FER's numbered faces the one with the most filled cells; nothing but the classes is read."""
    faces: dict[str, dict[str, str]] = {}
    for column in map(str, table.columns):
        word = column.lower()
        for prefix in _PREFIXES:
            word = word.removeprefix(prefix)
        match = _CLASS.fullmatch(word)
        if match is not None and match[1] in _SPELLINGS:
            # Calm stays a class of its own here: a tool may have both calm and neutral.
            name = "calm" if match[1] == "calm" else _SPELLINGS[match[1]]
            faces.setdefault(match[2], {}).setdefault(name, column)
    return max(faces.values(), key=lambda face: int(table[list(face.values())].notna().sum().sum()), default={})
