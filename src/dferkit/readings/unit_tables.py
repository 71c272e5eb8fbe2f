"""Action units that another tool measured: OpenFace, py-feat, Live Link Face and ARKit tables → ``ActionUnits`` at a clip's own times."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from dferkit.errors import DataError, ManifestError
from dferkit.facs import AU_NAMES
from dferkit.readings.blend_shapes import count_shapes, shape_name, units_of_blend_shapes
from dferkit.readings.video_tables import VideoTables, first_columns, numbers, one_person, row_seconds
from dferkit.schema import ActionUnits

OPENFACE, PYFEAT, LIVE_LINK, ARKIT = "OpenFace", "py-feat", "Live Link Face", "ARKit"
_OPENFACE_UNIT = re.compile(r"AU(\d\d)_r")
_PYFEAT_UNIT = re.compile(r"AU(\d{1,2})")
_FEWEST_SHAPES = 3
_OVER = 1.02  # a value may pass the end of its scale by so much; it is cut
_MAX_SECONDS_OFF = 0.5  # a clip with no good row this near was not measured
_RATES = (24, 25, 30, 48, 50, 60)
_TIMECODE = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})[:;](\d{1,3}(?:\.\d+)?)")


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitCurves:
    """The rows of one video, in the order of their times.

    Attributes:
        seconds: On the video's clock. intensity: 0 to 1, columns as ``facs.AU_NAMES``; 0 for those in ``missing``; NaN in bad rows.
        is_good: The tool reports a face in the row, and no value is missing.
        source: Such as ``OpenFace table au.csv``. missing: Action units that the tool does not measure.
    """

    seconds: Float[np.ndarray, " rows"]
    intensity: Float[np.ndarray, "rows aus"]
    is_good: Bool[np.ndarray, " rows"]
    source: str
    missing: tuple[str, ...]

    def at(self, timestamps: Float[np.ndarray, " frames"]) -> ActionUnits:
        """The curves at other times: bad rows take the values of the nearest good one, between rows runs a straight line, beyond the ends they stay.

        Raises:
            DataError: No good row within half a second of any of the times.
        """
        good = np.flatnonzero(self.is_good)
        if not len(good):
            raise DataError(
                f"{self.source}: none of its {len(self.is_good)} rows has usable values (success 1, no empty cell); measure the video again"
            )
        times = np.asarray(timestamps, np.float64)
        nearest = good[_nearest(self.seconds[good], times)]
        if np.abs(self.seconds[nearest] - times).min() > _MAX_SECONDS_OFF:
            raise DataError(
                f"{self.source}: no usable row between {timestamps[0]:.1f} and {timestamps[-1]:.1f} s (usable from {self.seconds[good[0]]:.1f} to {self.seconds[good[-1]]:.1f} s); give a table of the whole video"
            )
        filled = self.intensity[good[_nearest(self.seconds[good], self.seconds)]]
        curves = [np.interp(times, self.seconds, filled[:, column]) for column in range(len(AU_NAMES))]
        return ActionUnits(names=AU_NAMES, intensity=np.stack(curves, 1), timestamps=times, source=self.source)


def _nearest(known: Float[np.ndarray, " known"], wanted: Float[np.ndarray, " wanted"]) -> np.ndarray:
    """Index of the nearest known time for each wanted time; of two equally near ones the earlier. Known times rise."""
    after = np.searchsorted(known, wanted).clip(0, len(known) - 1)
    before = (after - 1).clip(0)
    return np.where(np.abs(known[before] - wanted) <= np.abs(known[after] - wanted), before, after)


class UnitTables:
    """Tables of action units, one for all videos or a folder with one each.

    Attributes:
        tables: Where they lie.

    Raises:
        ManifestError: As ``VideoTables``; or the one table is of an unknown kind.
    """

    def __init__(self, path: Path | str) -> None:
        self.tables = VideoTables(path)
        self._kind = "" if self.tables.whole is None else unit_table_kind(self.tables.whole, self.tables.path.name)

    @property
    def name(self) -> str:
        """Such as ``OpenFace table au.csv``; of a folder its name, since each table may be another tool's."""
        return f"{self._kind} table {self.tables.path.name}" if self._kind else f"tables in {self.tables.path.name}/"

    def for_video(self, video: str, frame_seconds: Float[np.ndarray, " frames"] | None = None) -> UnitCurves:
        """One video's curves.

        Args:
            video: Path or name. frame_seconds: Presentation time of each frame; needed where a table has frame numbers only.

        Raises:
            ManifestError: No table or row for the video, an unknown kind, or a value that cannot be used.
        """
        table, where = self.tables.rows(video)
        return unit_curves(table, where, frame_seconds)


def unit_table_kind(table: pd.DataFrame, where: str) -> str:
    """Who wrote a table of action units, by its header.

    Raises:
        ManifestError: An unknown kind; the message has the columns that were found and those expected.
    """
    columns = [str(name) for name in table.columns]
    lower = {name.lower() for name in columns}
    if any(_OPENFACE_UNIT.fullmatch(name) for name in columns):
        return OPENFACE
    if any(_PYFEAT_UNIT.fullmatch(name) for name in columns):
        return PYFEAT
    if count_shapes(columns) >= _FEWEST_SHAPES:
        return LIVE_LINK if {"timecode", "blendshapecount"} <= lower else ARKIT
    raise ManifestError(
        f"{where} is not a known kind of action-unit table: found columns {first_columns(table)}; expected AU01_r, … (OpenFace), AU01, … (py-feat), Timecode, BlendShapeCount, EyeBlinkLeft, … (Live Link Face) or browInnerUp, jawOpen, … (ARKit)"
    )


def unit_curves(
    table: pd.DataFrame, where: str, frame_seconds: Float[np.ndarray, " frames"] | None = None
) -> UnitCurves:
    """The rows of one video as curves of one person. See ``UnitTables.for_video`` for errors."""
    kind = unit_table_kind(table, where)
    table = one_person(table, where)
    seconds = _seconds(table, kind, where, frame_seconds)
    units = _READERS[kind](table, where)
    if not units:
        raise ManifestError(
            f"{where}: none of its action units is one of {AU_NAMES[0]} to {AU_NAMES[-1]} that are used"
        )
    intensity = np.stack([units.get(name, np.zeros(len(table))) for name in AU_NAMES], 1)
    is_good = np.isfinite(intensity).all(1)
    if "success" in table:
        is_good &= numbers(table, "success", where) == 1
    # Equal times: the first row counts; curves between times need them to rise.
    seconds, first = np.unique(seconds, return_index=True)
    return UnitCurves(
        seconds=seconds,
        intensity=intensity[first],
        is_good=is_good[first],
        source=f"{kind} table {where}",
        missing=tuple(name for name in AU_NAMES if name not in units),
    )


def _seconds(table: pd.DataFrame, kind: str, where: str, frame_seconds: np.ndarray | None) -> np.ndarray:
    if kind == LIVE_LINK:
        column = next(name for name in table.columns if str(name).lower() == "timecode")
        return timecode_seconds([str(cell) for cell in table[column]], where)
    # OpenFace counts frames from 1, py-feat from 0; exporters of ARKit do either.
    first = {OPENFACE: 1, PYFEAT: 0}.get(kind)
    seconds = row_seconds(table, where, frame_seconds, frames_from=first)
    if seconds is None:
        raise ManifestError(
            f"{where} has no column of times: found {first_columns(table)}; expected timestamp (seconds), timestamp_ms or frame"
        )
    return seconds


def timecode_seconds(cells: Sequence[str], where: str) -> Float[np.ndarray, " rows"]:
    """Seconds since the first row of timecodes ``HH:MM:SS:FF.fff``, whose last part counts frames.

    The frame rate is the smallest usual one above every frame number (24, 25, 30, 48, 50, 60), where the rows cover at least two different seconds;
    else the app's own default, 60. A timecode that falls has passed midnight.

    Raises:
        ManifestError: Another form; names file and row.
    """
    parts = []
    for number, cell in enumerate(cells):
        match = _TIMECODE.fullmatch(cell.strip())
        if match is None:
            raise ManifestError(
                f"{where}: row {number + 1}: Timecode is {cell!r}, expected HH:MM:SS:FF.fff such as 14:03:52:28.207"
            )
        parts.append([float(part) for part in match.groups()])
    values = np.array(parts)
    whole = values[:, :3] @ np.array([3600.0, 60.0, 1.0])
    highest = values[:, 3].max()
    rate = next((rate for rate in _RATES if rate > np.floor(highest)), 0) if len(np.unique(whole)) > 1 else 60
    if not rate or highest >= rate:
        raise ManifestError(
            f"{where}: Timecode counts {highest:.0f} frames within a second; expected at most {_RATES[-1]}"
        )
    seconds = whole + values[:, 3] / rate
    days = np.concatenate(([0.0], np.cumsum(np.diff(seconds) < -43200)))
    seconds = seconds + 86400 * days
    return seconds - seconds[0]


def _scaled(table: pd.DataFrame, column: str, where: str, top: float) -> np.ndarray:
    """A column as 0 to 1."""
    values = numbers(table, column, where)
    known = values[np.isfinite(values)]
    if len(known) and (known.max() > top * _OVER or known.min() < top * (1 - _OVER)):
        raise ManifestError(
            f"{where}: {column} runs from {known.min():g} to {known.max():g}, expected 0 to {top:g}; is it another tool's table, or in percent?"
        )
    return np.clip(values / top, 0, 1)


def _read_openface(table: pd.DataFrame, where: str) -> Mapping[str, np.ndarray]:
    """Intensities ``AUxx_r``, 0 to 5. Presences ``AUxx_c`` are not used: they have no strength, and OpenFace finds them on its own."""
    return _read_units(table, where, _OPENFACE_UNIT, top=5.0)


def _read_pyfeat(table: pd.DataFrame, where: str) -> Mapping[str, np.ndarray]:
    """``AUxx``, 0 to 1: how sure py-feat is of each action unit, taken as its intensity."""
    return _read_units(table, where, _PYFEAT_UNIT, top=1.0)


def _read_units(table: pd.DataFrame, where: str, pattern: re.Pattern[str], *, top: float) -> dict[str, np.ndarray]:
    units = {}
    for column in table.columns:
        match = pattern.fullmatch(str(column))
        if match is not None and f"AU{int(match[1])}" in AU_NAMES:
            units[f"AU{int(match[1])}"] = _scaled(table, str(column), where, top)
    return units


def _read_shapes(table: pd.DataFrame, where: str) -> Mapping[str, np.ndarray]:
    columns = [str(name) for name in table.columns if shape_name(str(name)) is not None]
    return units_of_blend_shapes({column: _scaled(table, column, where, 1.0) for column in columns})


_READERS: Mapping[str, Callable[[pd.DataFrame, str], Mapping[str, np.ndarray]]] = {
    OPENFACE: _read_openface,
    PYFEAT: _read_pyfeat,
    LIVE_LINK: _read_shapes,
    ARKIT: _read_shapes,
}
