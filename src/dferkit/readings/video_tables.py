"""CSV tables that other tools wrote about videos: one for all, or a folder with one per video. Cells stay text until a column is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from dferkit.errors import ConfigError, ManifestError
from dferkit.video import match_video, path_end

VIDEO_COLUMNS = ("video", "input", "file", "filename", "path", "clip_id", "clip")
_SECONDS = ("timestamp", "time", "seconds", "t")
_MILLISECONDS = ("timestamp_ms", "time_ms", "milliseconds")
# Numbers of a person within one table. A tool's guess of who somebody is (py-feat: Identity) is never read.
_PERSONS = ("face_id", "track_id", "person_id", "person")
_SIZES = (("FaceRectWidth", "FaceRectHeight"), ("region.w", "region.h"), ("width", "height"))
_SHOWN = 8  # columns that a message names
_FRAMES_TOO_MANY = 1.05  # decoders differ by some frames; a table with more than this is of another video


class VideoTables:
    """Rows by video.

    Attributes:
        path: A CSV file, or a folder of CSV files named like the videos (``a.csv`` for ``a.mp4``).

    Raises:
        ManifestError: No such file, an empty folder, or a file that is no CSV table.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.is_folder = self.path.is_dir()
        self._files = sorted(self.path.glob("*.csv")) if self.is_folder else []
        if self.is_folder and not self._files:
            raise ManifestError(
                f"{self.path.name}/ holds no CSV file; give one table per video, named like it (a.csv for a.mp4)"
            )
        self.whole = None if self.is_folder else read_table(self.path)

    def check_videos(self, videos: Sequence[str]) -> None:
        """Refuse tables in which two videos would get the same rows.

        Raises:
            ConfigError: One table without a column of videos for several videos. ManifestError: Two videos fit the same rows.
        """
        if self.whole is not None and _video_column(self.whole) is None:
            if len(videos) > 1:
                raise ConfigError(
                    f"{self.path.name} has no column that assigns its rows to the {len(videos)} videos; add a column video, or give a folder with one table per video"
                )
            return
        taken: dict[str, str] = {}
        for video in videos:
            place = self._place(video)
            if place is not None and taken.setdefault(place, video) != video:
                raise ManifestError(
                    f"{self.path.name}: {Path(place).name} matches both {path_end(taken[place])} and {path_end(video)}; give each video its own name"
                )

    def has(self, video: str) -> bool:
        """There is a table, or a row, for a video.

        Raises:
            ManifestError: Several fit equally well.
        """
        is_of_one = self.whole is not None and _video_column(self.whole) is None
        return is_of_one or self._place(video) is not None

    def rows(self, video: str) -> tuple[pd.DataFrame, str]:
        """Rows of a video, and the name of their file.

        Raises:
            ManifestError: No table or no row for it, or the file is no CSV table.
        """
        place = self._place(video)
        if self.whole is not None:
            column = _video_column(self.whole)
            if column is None:
                return self.whole, self.path.name
            if place is None:
                raise ManifestError(f"{self.path.name}: no row for {Path(video).name} in column {column!r}")
            return self.whole[self.whole[column] == place], self.path.name
        if place is None:
            raise ManifestError(
                f"{self.path.name}/ has no table for {Path(video).name}; expected {Path(video).stem}.csv"
            )
        return _of_one_video(read_table(Path(place)), Path(video), Path(place).name), Path(place).name

    def _place(self, video: str) -> str | None:
        """The file with the rows of a video, or the name of the video in the column of videos."""
        if self.is_folder:
            wanted = {Path(video).stem, Path(video).name}
            return next((str(file) for file in self._files if file.stem in wanted), None)
        assert self.whole is not None
        column = _video_column(self.whole)
        return None if column is None else match_video(self.whole[column].dropna().unique(), video, self.path.name)


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file as text cells; blanks around names and cells are removed, an empty cell is missing. Row ``i`` is line ``i + 2`` of the file.

    Raises:
        ManifestError: Missing, not readable, no rows, or rows longer than the header.
    """
    try:
        table = pd.read_csv(path, dtype=str, skipinitialspace=True, encoding="utf-8-sig", index_col=None)
    except FileNotFoundError as error:
        raise ManifestError(f"{path.name}: not found; give a CSV table") from error
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"{path.name} is not a CSV table that can be read: {str(error).splitlines()[0]}; save it as CSV in UTF-8"
        ) from error
    if not isinstance(table.index, pd.RangeIndex):
        raise ManifestError(f"{path.name}: the rows have more cells than the header; each cell needs a name")
    if table.empty:
        raise ManifestError(f"{path.name} has no rows; expected a header and one line per frame or clip")
    table.columns = [str(name).strip() for name in table.columns]
    return table


def first_columns(table: pd.DataFrame) -> str:
    """The first columns, for a message."""
    names = [str(name) for name in table.columns]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def numbers(table: pd.DataFrame, column: str, where: str) -> Float[np.ndarray, " rows"]:
    """A column as numbers; an empty cell is NaN.

    Raises:
        ManifestError: A cell is no number; names file and line.
    """
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
    bad = np.flatnonzero(np.isnan(values) & table[column].notna().to_numpy())
    if len(bad):
        cell = table[column].iloc[bad[0]]
        raise ManifestError(f"{where}:{table.index[bad[0]] + 2}: {column} is {cell!r}, expected a number")
    return np.where(np.isfinite(values), values, np.nan)


def one_person(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """One row per frame: of the person with the most rows (the first of equal ones) where the table numbers people, else the largest face."""
    column = next((name for name in _PERSONS if name in table), None)
    if column is not None and table[column].nunique() > 1:
        people = table[column].value_counts(sort=False)
        table = table[table[column] == people.index[int(people.to_numpy().argmax())]]
    moment = next((name for name in ("frame", *_SECONDS, *_MILLISECONDS) if name in table), None)
    if moment is None or not table[moment].duplicated().any():
        return table
    size = next((pair for pair in _SIZES if set(pair) <= set(table.columns)), None)
    area = np.zeros(len(table)) if size is None else numbers(table, size[0], where) * numbers(table, size[1], where)
    order = np.argsort(-np.nan_to_num(area), kind="stable")
    return table.iloc[order].drop_duplicates(moment).sort_index()


def row_seconds(
    table: pd.DataFrame, where: str, frame_seconds: Float[np.ndarray, " frames"] | None, *, frames_from: int | None = 0
) -> Float[np.ndarray, " rows"] | None:
    """Time of each row on the video's clock; None where the table has neither times nor frame numbers.

    Args:
        frame_seconds: Presentation time of each frame of the video; needed for frame numbers.
        frames_from: Number of the first frame; None: 1 where the smallest number is 1, else 0.

    Raises:
        ManifestError: A cell is no number or missing, or the table counts more frames than the video has.
    """
    for column, unit in (*((name, 1.0) for name in _SECONDS), *((name, 1e-3) for name in _MILLISECONDS)):
        if column in table:
            return _complete(numbers(table, column, where) * unit, table, column, where)
    if "frame" not in table or frame_seconds is None:
        return None
    frames = _complete(numbers(table, "frame", where), table, "frame", where)
    first = frames_from if frames_from is not None else int(frames.min() == 1)
    frames = frames - first
    if frames.min() < 0 or frames.max() > len(frame_seconds) * _FRAMES_TOO_MANY + 1:
        raise ManifestError(
            f"{where} has a row for frame {frames.max() + first:.0f}, but the video has {len(frame_seconds)} frames; give the table of this video"
        )
    return np.interp(frames, np.arange(len(frame_seconds)), frame_seconds)


def _complete(values: np.ndarray, table: pd.DataFrame, column: str, where: str) -> np.ndarray:
    missing = np.flatnonzero(np.isnan(values))
    if len(missing):
        raise ManifestError(f"{where}:{table.index[missing[0]] + 2}: {column} is empty, expected a number")
    return values


def _of_one_video(table: pd.DataFrame, video: Path, where: str) -> pd.DataFrame:
    """Of a table that is named like the video: all rows, or those of the video where the table has rows of several."""
    column = _video_column(table)
    if column is None or table[column].nunique() <= 1:
        return table
    name = match_video(table[column].dropna().unique(), str(video), where)
    if name is None:
        raise ManifestError(f"{where}: no row for {video.name} in column {column!r}")
    return table[table[column] == name]


def _video_column(table: pd.DataFrame) -> str | None:
    return next((name for name in VIDEO_COLUMNS if name in table), None)
