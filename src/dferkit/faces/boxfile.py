"""Face boxes from a CSV file of the user, in the columns of py-feat."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from dferkit.errors import ManifestError
from dferkit.faces.geometry import standard_from_tight
from dferkit.schema import FaceBox
from dferkit.video import match_video

_RECT = ("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight")
_INPUTS = ("input", "video")
# A box with a time is used for frames at most this far from it.
_MAX_SECONDS_OFF = 0.05


class BoxFile:
    """Boxes from a CSV with ``frame`` or ``timestamp`` and FaceRectX, FaceRectY, FaceRectWidth, FaceRectHeight.

    A column ``input`` or ``video`` names the video of each row. Boxes are in pixels of the upright frame. Square boxes are read as
    standard ones, others as tight ones, which is what py-feat writes.

    Raises:
        ManifestError: The file is missing, a column is missing, or a value is not a number.
    """

    name = "boxes"

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._table = _read(self.path)

    def for_video(self, video: Path | str) -> BoxFile:
        """The rows of one video, or all rows where the file has no column of videos.

        Raises:
            ManifestError: No row is of this video, or the names of several videos match it equally well.
        """
        column = next((name for name in _INPUTS if name in self._table), None)
        if column is None:
            return self
        names = self._table[column].astype(str)
        name = match_video(names.unique(), str(video), self.path.name)
        if name is None:
            raise ManifestError(f"{self.path.name}: no row for {Path(video).name} in column {column!r}")
        picked = object.__new__(BoxFile)
        picked.path, picked._table = self.path, self._table[names == name]
        return picked

    def boxes_at(self, frame: int, seconds: float) -> list[FaceBox]:
        """Standard boxes of a frame, found by its number where the file has frame numbers, otherwise by its time."""
        if "frame" in self._table:
            rows = self._table[self._table["frame"] == frame]
        else:
            off = (self._table["timestamp"] - seconds).abs()
            nearest = off.min()
            if not nearest <= _MAX_SECONDS_OFF:
                return []
            rows = self._table[off == nearest]
        return [self._box(values) for values in rows[[*_RECT, "FaceScore"]].itertuples(index=False)]

    def _box(self, values: Iterable[float]) -> FaceBox:
        x, y, width, height, score = (float(value) for value in values)
        box = FaceBox(x=x, y=y, width=width, height=height, score=score)
        return box if self._is_standard else standard_from_tight(box)

    @property
    def _is_standard(self) -> bool:
        # One decision for the whole file: row by row, a tight box that is nearly square would be read as a standard one.
        ratio = float((self._table["FaceRectWidth"] / self._table["FaceRectHeight"]).median())
        return math.isclose(ratio, 1.0, abs_tol=0.05)


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except FileNotFoundError as error:
        raise ManifestError(f"{path.name}: not found") from error
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path.name} is not a CSV table that can be read: {error}") from error
    missing = [column for column in _RECT if column not in table]
    moments = {"frame", "timestamp"} & set(table.columns)
    if missing or not moments:
        wanted = ", ".join([*missing, *([] if moments else ["frame or timestamp"])])
        raise ManifestError(f"{path.name}: missing column {wanted}; found {', '.join(map(str, table.columns))}")
    if "FaceScore" not in table:
        table["FaceScore"] = float("nan")
    for column in (*_RECT, "FaceScore", *sorted(moments)):
        numbers = pd.to_numeric(table[column], errors="coerce")
        bad = numbers.isna() & table[column].notna()
        if bad.any():
            line = int(np.flatnonzero(bad)[0]) + 2
            raise ManifestError(f"{path.name}:{line}: {column} is {table[column].iloc[line - 2]!r}, expected a number")
        table[column] = numbers
    # A row without a box means a frame without a face.
    table = table.dropna(subset=list(_RECT))
    return table[(table["FaceRectWidth"] > 0) & (table["FaceRectHeight"] > 0)]
