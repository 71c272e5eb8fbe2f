"""Tables that other programs read: ``predictions.csv``, ``frames.csv``, ``phrases.csv``, ``alignments.csv``, ``run.json``.

The columns are explained in ``SCHEMA.md``, which is written beside them. CSV is UTF-8 with ``.`` as decimal sign, no
index column and a stable order; an empty cell is a value that does not exist.
"""

from __future__ import annotations

import importlib.resources
import math
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from dferkit import storage
from dferkit.explain import ALIGNMENT_COLUMNS, PHRASE_COLUMNS, alignment_table, phrase_table
from dferkit.reports.notice import INTENDED_USE
from dferkit.schema import Explanation, FaceTrack, Prediction

FLOAT_FORMAT = "%.7g"

_BEFORE_LABELS = (
    "input", "clip_id", "track_id", "window", "t_start", "t_end", "label", "confidence", "margin",
)  # fmt: skip
_AFTER_LABELS = (
    "n_frames", "n_face_frames", "face_coverage", "status", "message", "model", "weights_sha256", "version",
    "detector", "front_end", "abstain_reason", "calibration", "trained_on",
)  # fmt: skip
FRAME_COLUMNS = (
    "input", "clip_id", "window", "frame", "timestamp", "track_id", "FaceRectX", "FaceRectY", "FaceRectWidth",
    "FaceRectHeight", "FaceScore", "success", "sampled", "clip_weight", "file_frame",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where the answers come from.

    Attributes:
        model: Name, such as ``grace``.
        front_end: What the model reads of a face: ``pixels``, ``landmarks``, ``both``, or a foreign backbone's name.
        weights_sha256: Digest of the weights.
        calibration: ``calibrated on …`` or ``UNCALIBRATED``.
        trained_on: The training data in words.
        version: Of dferkit; empty for the running one.
    """

    model: str
    front_end: str
    weights_sha256: str = ""
    calibration: str = "UNCALIBRATED"
    trained_on: str = ""
    version: str = ""

    @property
    def version_or_own(self) -> str:
        """``version``, or that of the running package."""
        return self.version or own_version()


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledFrames:
    """The sampled frames of one window, for ``frames.csv``.

    Attributes:
        timestamps: One per sampled frame.
        track: Boxes of the person; None where no face was found in the window.
        clip_weight: Weight of each frame in the answer (mean 1); None where unknown.
        file_frames: Number of each sample among the file's frames; None where unknown.
    """

    prediction: Prediction
    timestamps: Float[np.ndarray, " frames"]
    track: FaceTrack | None = None
    clip_weight: Float[np.ndarray, " frames"] | None = None
    file_frames: Int[np.ndarray, " frames"] | None = None


def own_version() -> str:
    """Version of the running package."""
    return metadata.version("dferkit")


def prediction_columns(labels: Sequence[str]) -> tuple[str, ...]:
    """Columns of ``predictions.csv`` for these classes."""
    return (*_BEFORE_LABELS, *labels, *_AFTER_LABELS)


def class_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """The classes among the columns of a ``predictions.csv``: those that ``prediction_columns`` puts between the fixed ones.

    Raises:
        KeyError: A fixed column beside them is missing.
    """
    for column in (_BEFORE_LABELS[-1], _AFTER_LABELS[0]):
        if column not in columns:
            raise KeyError(column)
    return tuple(columns[columns.index(_BEFORE_LABELS[-1]) + 1 : columns.index(_AFTER_LABELS[0])])


def prediction_table(
    predictions: Sequence[Prediction], provenance: Provenance, *, labels: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row per input, person and window, in the order given.

    Args:
        labels: Class columns; by default all labels of the predictions in order of appearance.
    """
    if labels is None:
        labels = tuple(dict.fromkeys(label for prediction in predictions for label in prediction.labels))
    columns = prediction_columns(labels)
    return pd.DataFrame([_prediction_row(p, provenance, labels) for p in predictions], columns=list(columns))


def _prediction_row(prediction: Prediction, provenance: Provenance, labels: Sequence[str]) -> dict[str, Any]:
    known: dict[str, float] = {}
    if prediction.probabilities is not None:
        known = dict(zip(prediction.labels, (float(p) for p in prediction.probabilities), strict=True))
    coverage = prediction.num_face_frames / prediction.num_frames if prediction.num_frames else float("nan")
    return {
        "input": prediction.input,
        "clip_id": prediction.clip_id,
        "track_id": prediction.track_id,
        "window": prediction.window,
        "t_start": prediction.start_seconds,
        "t_end": prediction.end_seconds,
        "label": prediction.label or "",
        "confidence": prediction.confidence,
        "margin": prediction.margin,
        **{label: known.get(label, float("nan")) for label in labels},
        "n_frames": prediction.num_frames,
        "n_face_frames": prediction.num_face_frames,
        "face_coverage": coverage,
        "status": prediction.status,
        "message": prediction.message,
        "model": provenance.model,
        "weights_sha256": provenance.weights_sha256,
        "version": provenance.version_or_own,
        "detector": prediction.detector,
        "front_end": prediction.front_end,
        "abstain_reason": prediction.abstain_reason,
        "calibration": provenance.calibration,
        "trained_on": provenance.trained_on,
    }


def frame_table(windows: Iterable[SampledFrames]) -> pd.DataFrame:
    """One row per sampled frame of each window; a frame without a face has an empty box and ``success`` 0."""
    rows: list[dict[str, Any]] = []
    for window in windows:
        prediction, track = window.prediction, window.track
        for frame, timestamp in enumerate(window.timestamps):
            box = np.full(4, np.nan) if track is None else track.boxes[frame]
            is_found = track is not None and bool(track.found[frame])
            if not is_found:
                box = np.full(4, np.nan)
            rows.append(
                {
                    "input": prediction.input,
                    "clip_id": prediction.clip_id,
                    "window": prediction.window,
                    "frame": frame,
                    "timestamp": float(timestamp),
                    "track_id": prediction.track_id,
                    **dict(zip(FRAME_COLUMNS[6:10], (float(value) for value in box), strict=True)),
                    "FaceScore": float(track.scores[frame]) if track is not None and is_found else float("nan"),
                    "success": int(is_found),
                    "sampled": 1,
                    "clip_weight": float("nan") if window.clip_weight is None else float(window.clip_weight[frame]),
                    "file_frame": -1 if window.file_frames is None else int(window.file_frames[frame]),
                }
            )
    return pd.DataFrame(rows, columns=list(FRAME_COLUMNS))


def phrases_table(explanations: Iterable[Explanation]) -> pd.DataFrame:
    """``explain.phrase_table`` of several explanations, one below the other."""
    tables = [phrase_table(explanation) for explanation in explanations]
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(PHRASE_COLUMNS))


def alignments_table(explanations: Iterable[Explanation], *, top_k: int = 20) -> pd.DataFrame:
    """``explain.alignment_table`` of several explanations, one below the other."""
    tables = [alignment_table(explanation, top_k) for explanation in explanations]
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(ALIGNMENT_COLUMNS))


def relative_input(path: Path | str) -> str:
    """How outputs name an input: with `/`; an absolute path by its last part only."""
    text = str(path)
    return re.split(r"[\\/]", text.rstrip("\\/"))[-1] if _is_absolute(text) else text.replace("\\", "/")


def _is_absolute(text: str) -> bool:
    return Path(text).is_absolute() or re.match(r"^(?:[A-Za-z]:[\\/]|\\\\|~)", text) is not None


def write_table(
    path: Path | str,
    table: pd.DataFrame,
    *,
    float_format: str | None = FLOAT_FORMAT,
) -> None:
    """Write CSV atomically; texts are guarded against formulas, inputs are not absolute.

    Args:
        float_format: None writes the shortest text that reads back as the same float64.
    """
    table = table.copy()
    for column in table.columns:
        if not _is_text(table[column]):
            continue
        cells = ["" if _is_missing(cell) else str(cell) for cell in table[column]]
        if column == "input":
            cells = [relative_input(cell) for cell in cells]
        table[column] = pd.Series([storage.guard_cell(cell) for cell in cells], index=table.index, dtype=object)
    text = table.to_csv(index=False, float_format=float_format, lineterminator="\n")
    storage.write_text(path, text)


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a table that ``write_table`` wrote; guards are taken off, empty texts stay empty."""
    table = pd.read_csv(path, encoding="utf-8", keep_default_na=False, na_values=[""])
    texts = {"input", "clip_id", "label", "status", "message", "abstain_reason", "word", "phrase", "region", "source",
             "model", "weights_sha256", "version", "detector", "front_end", "calibration", "trained_on", "method",
             "region_source"}  # fmt: skip
    for column in texts & set(table.columns):
        table[column] = [storage.unguard_cell("" if _is_missing(cell) else str(cell)) for cell in table[column]]
    return table


def _is_text(column: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def schema_text() -> str:
    """The data dictionary."""
    return importlib.resources.files("dferkit.reports").joinpath("SCHEMA.md").read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunDetails:
    """What ``run.json`` holds besides answers and provenance.

    Attributes:
        settings: What was set.
        seconds: Seconds per stage.
        has_media: The folder also holds pictures of faces (a report).
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    has_media: bool = False
    command: str = ""


def write_tables(
    folder: Path | str,
    predictions: Sequence[Prediction],
    provenance: Provenance,
    *,
    frames: Iterable[SampledFrames] | None = None,
    explanations: Sequence[Explanation] | None = None,
    details: RunDetails | None = None,
    top_k: int = 20,
) -> list[Path]:
    """Write all tables of a run into ``folder``, with ``run.json`` and ``SCHEMA.md``; those not given are left out.

    Returns:
        The files that were written.
    """
    folder = Path(folder)
    tables = {"predictions.csv": prediction_table(predictions, provenance)}
    if frames is not None:
        tables["frames.csv"] = frame_table(frames)
    if explanations is not None:
        explanations = list(explanations)
        tables["phrases.csv"] = phrases_table(explanations)
        tables["alignments.csv"] = alignments_table(explanations, top_k=top_k)
    for name, table in tables.items():
        write_table(folder / name, table)
    storage.write_text(folder / "SCHEMA.md", schema_text())
    storage.write_json(folder / "run.json", run_info(predictions, provenance, details or RunDetails()))
    return [folder / name for name in (*tables, "SCHEMA.md", "run.json")]


def run_info(predictions: Sequence[Prediction], provenance: Provenance, details: RunDetails) -> dict[str, Any]:
    """Content of ``run.json``, as ``clean_json`` makes it."""
    info = {
        "intended_use": INTENDED_USE,
        "model": provenance.model,
        "weights_sha256": provenance.weights_sha256,
        "trained_on": provenance.trained_on,
        "calibration": provenance.calibration,
        "versions": {"dferkit": provenance.version_or_own, "python": platform.python_version(), **_versions()},
        "command": details.command,
        "settings": details.settings,
        "seconds": {name: round(float(value), 3) for name, value in details.seconds.items()},
        "counts": {
            "inputs": len({prediction.input for prediction in predictions}),
            "rows": len(predictions),
            "status": dict(sorted(Counter(prediction.status for prediction in predictions).items())),
            "label": dict(sorted(Counter(p.label for p in predictions if p.label).items())),
        },
        "has_media": details.has_media,
    }
    cleaned = clean_json(info)
    assert isinstance(cleaned, dict)
    return cleaned


def _versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "numpy", "av", "opencv-python-headless", "transformers"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def clean_json(value: Any) -> Any:
    """The value as JSON can hold it: arrays become lists, NaN and infinity null, absolute paths their last part."""
    if isinstance(value, Mapping):
        return {str(key): clean_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean_json(item) for item in value]
    if isinstance(value, np.ndarray):
        return clean_json(value.tolist())
    if isinstance(value, np.generic):
        return clean_json(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bool | int) or value is None:
        return value
    text = str(value)
    # A command or sentence may hold paths among its words.
    return " ".join(relative_input(part) if _is_absolute(part) else part for part in text.split(" "))
