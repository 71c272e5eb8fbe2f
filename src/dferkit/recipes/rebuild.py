"""Pages from tables alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dferkit.errors import DataError
from dferkit.reports.html import write_benchmark_report, write_clip_report
from dferkit.reports.tables import class_columns, read_table
from dferkit.schema import Prediction
from dferkit.storage import read_json


def rebuild_report(folder: Path | str, out: Path | str | None = None) -> Path:
    """Write a page from ``results.json`` or ``predictions.csv``; it holds no pictures.

    A ``report.html`` that is already there shows faces and is not overwritten: the page is then ``tables.html``.

    Raises:
        DataError: The folder holds neither.
    """
    folder = Path(folder)
    page = Path(out) if out else folder / ("tables.html" if (folder / "report.html").exists() else "report.html")
    if (folder / "results.json").is_file():
        results = read_json(folder / "results.json")
        write_benchmark_report(
            page,
            results,
            {},
            about={"name": "grace", "versions": results.get("versions", {}), "seed": results.get("seed")},
        )
        return page
    if (folder / "predictions.csv").is_file():
        predictions = read_predictions(folder / "predictions.csv")
        write_clip_report(page, (), about=_about(folder), predictions=predictions)
        return page
    raise DataError(
        f"{folder.name}/ has neither results.json nor predictions.csv; give the folder of a demo or of a prediction"
    )


def _about(folder: Path) -> dict[str, object]:
    return dict(read_json(folder / "run.json")) if (folder / "run.json").is_file() else {}


def read_predictions(path: Path | str) -> list[Prediction]:
    """The rows of a ``predictions.csv`` that dferkit wrote; the classes are the columns of its header, whatever the data set.

    Raises:
        DataError: The columns are not those of the table.
    """
    table = read_table(path)
    try:
        labels = class_columns(list(table.columns))
        return [_prediction(row, labels) for row in table.to_dict("records")]
    except LookupError as error:
        raise DataError(
            f"{Path(path).name} lacks the column {error}; give the folder of a prediction or an evaluation of this version of dferkit"
        ) from error


def _prediction(row: Mapping[Any, Any], labels: tuple[str, ...]) -> Prediction:
    values = np.array([row[label] for label in labels], dtype=float)
    text = {key: ("" if value != value else str(value)) for key, value in row.items()}
    return Prediction(
        input=text["input"],
        clip_id=text["clip_id"],
        track_id=int(row["track_id"]),
        window=int(row["window"]),
        start_seconds=float(row["t_start"]),
        end_seconds=float(row["t_end"]),
        labels=labels,
        label=text["label"] or None,
        probabilities=None if np.isnan(values).any() else values,
        status=text["status"],
        message=text["message"],
        num_frames=int(row["n_frames"]),
        num_face_frames=int(row["n_face_frames"]),
        detector=text["detector"],
        front_end=text["front_end"],
        abstain_reason=text["abstain_reason"],
    )
