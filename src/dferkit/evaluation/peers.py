"""Prediction files of other systems, and our own, as scored clips.

It reads CSV files (our ``predictions.csv``; one column per class; or one column with the predicted class) and the text
files of VideoMAE's family (MAE-DFER, SVFAP, HiCMAE, S2D). The same number means another class in every release, so the
caller names the order of classes; it is never guessed.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from dferkit.errors import ConfigError, ManifestError
from dferkit.evaluation.prediction_file import LEAKY_MARK, PredictionFile
from dferkit.labels import CLASS_ORDERS, MAFW_COMPOUND, class_order, parse_label
from dferkit.readings.scores import softmax
from dferkit.storage import unguard_cell

CLIP_COLUMNS = ("clip_id", "clip", "id", "video_id", "video", "video_name", "name", "path", "filename", "file", "input")
TRUE_COLUMNS = ("true_label", "true", "truth", "target", "y_true", "gt", "ground_truth")
PREDICTED_COLUMNS = ("predicted_label", "predicted", "prediction", "pred", "y_pred")
_EITHER = "label"  # the truth for some, the prediction for others
_ATTRIBUTE = "attr_"
_ALL_CLASSES = (*MAFW_COMPOUND, "calm")
_LINE = re.compile(r"^(?P<clip>.*\S)\s*\[(?P<values>[^\[\]]*)\]\s+(?P<true>\d+)\s+(?P<chunk>-?\d+)\s+(?P<split>-?\d+)$")
_MOST_FAULTS = 50
_ROUNDED = 0.02  # 7 to 11 probabilities with two or three decimals sum to 1 within this


def read_predictions(path: Path | str, *, order: str | None = None) -> PredictionFile:
    """Read a file of predictions: CSV, the text of VideoMAE's family, or a folder of either.

    A folder is read as its ``predictions.csv``, or as the files ``0.txt``, ``1.txt``, … that each process wrote.

    Args:
        order: How the file numbers its classes: a name of ``labels.CLASS_ORDERS`` or class names with commas. Needed
            unless the file names its classes.

    Raises:
        ConfigError: The order is needed but not given, or not known.
        ManifestError: No such file, or rows that cannot be used; each is named with file and line.
    """
    path = Path(path)
    if path.is_dir():
        if (path / "predictions.csv").is_file():
            return read_prediction_csv(path / "predictions.csv", order=order)
        parts = sorted((p for p in path.glob("*.txt") if p.stem.isdigit()), key=lambda p: int(p.stem))
        if parts:
            return read_videomae_text(parts, order=order)
        raise ManifestError(
            f"{path.name} holds neither predictions.csv nor 0.txt, 1.txt, …; give a file of predictions"
        )
    if path.suffix.lower() == ".txt":
        return read_videomae_text([path], order=order)
    if path.suffix.lower() == ".csv":
        return read_prediction_csv(path, order=order)
    _text(path)
    raise ManifestError(f"{path.name}: not a .csv file or a .txt file of VideoMAE's family; rename or convert it")


def read_prediction_csv(path: Path, *, order: str | None = None) -> PredictionFile:
    """Read a CSV with a clip column and the classes' probabilities or logits, or the predicted class.

    Class columns are named by class (``anger``, …) or by number (``p0``, ``p1``, … or ``0``, ``1``, …). Columns for the
    truth, the fold, the subject and ``attr_…`` are optional. Rows with empty class cells are clips without an answer.
    See ``read_predictions`` for errors.
    """
    header, rows = _table(path)
    columns = {name.lower(): i for i, name in reversed(list(enumerate(header)))}
    clip = next((name for name in CLIP_COLUMNS if name in columns), None)
    if clip is None:
        raise ManifestError(f"{path.name}: no column for the clip; name one of them {', '.join(CLIP_COLUMNS[:3])}")
    class_columns, labels = _class_columns(header, path.name, order)
    true, predicted = _truth_and_prediction(columns.keys(), bool(class_columns), path.name)
    if order is not None and not labels:
        labels = class_order(order)
    faults: list[str] = []
    read_class = _class_reader(labels, order, path.name)
    if not labels:
        # Only names: the classes are those that occur.
        labels = _named_classes(
            [(line, cells[columns[name]].strip()) for line, cells in rows for name in (true, predicted) if name],
            path.name,
        )
        read_class = _class_reader(labels, order, path.name)
    values = np.full((len(rows), len(labels)), np.nan)
    truths = np.full(len(rows), -1, dtype=np.int64)
    for row, (line, cells) in enumerate(rows):
        try:
            if class_columns:
                values[row] = _numbers([cells[i] for i in class_columns])
            elif predicted is not None and cells[columns[predicted]].strip() not in ("", "-1"):
                values[row] = np.eye(len(labels))[read_class(cells[columns[predicted]])]
            if true is not None and cells[columns[true]].strip():
                truths[row] = read_class(cells[columns[true]])
        except (ValueError, ManifestError) as error:
            if isinstance(error, ConfigError):
                raise
            faults.append(f"{path.name}:{line}: {error}")
    _refuse(faults)
    probabilities, notes = _probabilities(values, path.name) if class_columns else (values, ())
    if not class_columns:
        notes = (
            "only the predicted class is given: its probability is taken as 1, so scores of probabilities are meaningless",
        )

    def texts(column: int) -> tuple[str, ...]:
        return tuple(unguard_cell(cells[column]) for _, cells in rows)

    if "trained_on" in columns and any(LEAKY_MARK in text for text in texts(columns["trained_on"])):
        notes = (*notes, "its epoch was chosen on these test clips, so its score is too high by an unknown amount")
    subjects = texts(columns["subject"]) if "subject" in columns else None
    return PredictionFile(
        name=path.name,
        labels=labels,
        clip_ids=texts(columns[clip]),
        true=truths,
        probabilities=probabilities,
        folds=texts(columns["fold"]) if "fold" in columns else ("",) * len(rows),
        subjects=subjects if subjects is not None and "" not in subjects else None,
        attributes={
            name.removeprefix(_ATTRIBUTE): texts(i) for i, name in enumerate(header) if name.startswith(_ATTRIBUTE)
        },
        notes=notes,
    )


def read_videomae_text(paths: Sequence[Path], *, order: str | None = None) -> PredictionFile:
    """Read the text files that VideoMAE's family writes in its final test, one file per process.

    After a first line of figures, each line is one view: ``clip [v0, v1, …] label chunk split``. As in their code
    (``merge`` in ``engine_for_finetuning.py``): each view is softmaxed, a view that repeats (chunk and split) is left
    out, and a clip's probabilities are the mean over its views. See ``read_predictions`` for errors.
    """
    if order is None:
        raise _order_is_needed(paths[0].name)
    labels = class_order(order)
    views: dict[str, dict[tuple[str, str], list[float]]] = {}
    truths: dict[str, int] = {}
    faults: list[str] = []
    for path in paths:
        lines = _text(path).split("\n")
        if lines and _LINE.match(lines[0].strip()):
            faults.append(
                f"{path.name}:1: expected a line of figures before the clips, as their code writes; got a clip"
            )
        for number, line in enumerate(lines[1:], 2):
            if not line.strip():
                continue
            try:
                clip, true, view, values = _view(line.strip(), len(labels))
                if truths.setdefault(clip, true) != true:
                    raise ValueError(f"clip {clip!r} is class {true} here and {truths[clip]} before")
                views.setdefault(clip, {}).setdefault(view, values)
            except ValueError as error:
                faults.append(f"{path.name}:{number}: {error}")
    _refuse(faults)
    if not views:
        raise ManifestError(f"{paths[0].name} has no clips; expected a line of figures, then one line per view")
    stacked = np.array([values for of_clip in views.values() for values in of_clip.values()])
    probabilities, notes = _probabilities(stacked, paths[0].name, is_logits_if_unclear=True)
    sizes = np.array([len(of_clip) for of_clip in views.values()])
    ends = sizes.cumsum()
    means = np.stack([probabilities[end - size : end].mean(0) for size, end in zip(sizes, ends, strict=True)])
    if sizes.max() > 1:
        num_views = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
        notes = (*notes, f"probabilities are the mean over {num_views} views of a clip")
    return PredictionFile(
        name=paths[0].name,
        labels=labels,
        clip_ids=tuple(views),
        true=np.array([truths[clip] for clip in views], dtype=np.int64),
        probabilities=means,
        folds=("",) * len(views),
        notes=notes,
    )


def _view(line: str, num_classes: int) -> tuple[str, int, tuple[str, str], list[float]]:
    match = _LINE.match(line)
    if match is None:
        raise ValueError("expected clip [value, …] label chunk split")
    values = _numbers(match["values"].split(","))
    if len(values) != num_classes:
        raise ValueError(f"{len(values)} values, but the class order has {num_classes} classes")
    if np.isnan(values).any():
        raise ValueError("no values between the brackets")
    true = int(match["true"])
    if true >= num_classes:
        raise ValueError(f"class {true}, but classes run from 0 to {num_classes - 1}")
    return match["clip"], true, (match["chunk"], match["split"]), values


def _truth_and_prediction(columns: Collection[str], has_classes: bool, name: str) -> tuple[str | None, str | None]:
    """Columns of the true and of the predicted class; None for none."""
    true = next((column for column in TRUE_COLUMNS if column in columns), None)
    predicted = next((column for column in PREDICTED_COLUMNS if column in columns), None)
    is_ours = {"clip_id", "track_id", "window", "margin"} <= set(columns)
    if _EITHER in columns and not is_ours:
        if true is None and (predicted is not None or has_classes):
            true = _EITHER
        elif predicted is None and true is not None:
            predicted = _EITHER
        elif true is None:
            raise ManifestError(
                f"{name}: the column 'label' may be the truth or the prediction; rename it true_label or predicted_label"
            )
    if not has_classes and predicted is None:
        raise ManifestError(
            f"{name}: no column per class (named by class, or p0, p1, …) and none with the predicted class (predicted_label)"
        )
    return true, predicted


def _class_columns(header: list[str], name: str, order: str | None) -> tuple[list[int], tuple[str, ...]]:
    """Columns of the classes and what they are; empty when there are none."""
    numbered = {
        int(match[1]): i for i, column in enumerate(header) if (match := re.fullmatch(r"p?(\d+)", column.lower()))
    }
    if numbered:
        if order is None:
            raise _order_is_needed(name)
        labels = class_order(order)
        if sorted(numbered) != list(range(len(labels))):
            raise ManifestError(
                f"{name}: columns for the classes {', '.join(map(str, sorted(numbered)))}, but the order {order!r} has {len(labels)} (0 to {len(labels) - 1})"
            )
        return [numbered[i] for i in range(len(labels))], labels
    named: dict[str, int] = {}
    if "margin" in header and "n_frames" in header:  # our own table, with any names of classes
        named = {header[i]: i for i in range(header.index("margin") + 1, header.index("n_frames"))}
    else:
        for i, column in enumerate(header):
            try:
                label = parse_label(column.lower().removeprefix("p_"), _ALL_CLASSES)
            except ManifestError:
                continue
            if named.setdefault(label, i) != i:
                raise ManifestError(f"{name}: two columns for the class {label!r}; keep one")
    if not named:
        return [], ()
    labels = tuple(named)
    if order is not None:
        labels = class_order(order)
        if set(labels) != set(named):
            raise ConfigError(
                f"{name} has columns for {', '.join(named)}, but the order {order!r} is {', '.join(labels)}; leave the order out, the columns are named"
            )
    return [named[label] for label in labels], labels


def _class_reader(labels: tuple[str, ...], order: str | None, name: str) -> Callable[[str], int]:
    """Reads the class of a cell: a name, or a number in the named order."""

    def read(text: str) -> int:
        text = text.strip()
        if re.fullmatch(r"\d+", text):
            if order is None:
                raise _order_is_needed(name)
            if int(text) >= len(labels):
                raise ManifestError(f"class {text}, but classes run from 0 to {len(labels) - 1}")
            return int(text)
        return labels.index(text if text in labels else parse_label(text, labels))

    return read


def _named_classes(cells: list[tuple[int, str]], name: str) -> tuple[str, ...]:
    """The smallest known label set that holds every class that occurs in (line, cell)."""
    faults: list[str] = []
    found: set[str] = set()
    for line, cell in cells:
        if re.fullmatch(r"\d+", cell):
            raise _order_is_needed(name)
        try:
            if cell not in ("", "-1"):
                found.add(parse_label(cell, _ALL_CLASSES))
        except ManifestError as error:
            faults.append(f"{name}:{line}: {error}")
    _refuse(faults)
    for order in ("dferkit-7", "dferkit-11", "dferkit-43"):
        if found <= set(CLASS_ORDERS[order]):
            return CLASS_ORDERS[order]
    return tuple(label for label in _ALL_CLASSES if label in found)


def _numbers(cells: Sequence[str]) -> list[float]:
    """Numbers; all NaN when every cell is empty."""
    if not any(cell.strip() for cell in cells):
        return [float("nan")] * len(cells)
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        wrong = next(cell.strip() for cell in cells if not _is_number(cell))
        raise ValueError(f"{wrong!r} is not a number") from None
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite")
    return values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _probabilities(
    values: np.ndarray, name: str, *, is_logits_if_unclear: bool = False
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The values as probabilities, and what was done to them; decided from the whole file, since one row can fit several kinds."""
    known = values[~np.isnan(values).any(1)]
    distance = float(np.abs(known.sum(1) - 1).max()) if len(known) else 0.0
    is_share = bool(((known >= 0) & (known <= 1)).all())
    if is_share and distance <= 1e-6:
        return values, ()
    if is_share and distance <= _ROUNDED:
        return values / values.sum(1, keepdims=True), (
            f"probabilities were scaled to sum to 1 (off by up to {distance:.2g})",
        )
    if is_share and not is_logits_if_unclear:
        raise ManifestError(
            f"{name}: values from 0 to 1 that do not sum to 1 are neither probabilities nor logits; write probabilities of all classes, or logits"
        )
    return softmax(values), ("values are logits and were softmaxed",)


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header, and (line, cells) of each row."""
    reader = csv.reader(io.StringIO(_text(path), newline=""))
    try:
        lines = [(cells, reader.line_num) for cells in reader]
    except csv.Error as error:
        raise ManifestError(f"{path.name}:{reader.line_num}: {error}; check for a quote that is not closed") from error
    header = [name.strip() for name in (lines[0][0] if lines else [])]
    rows, faults = [], []
    start = lines[0][1] + 1 if lines else 1
    for cells, end in lines[1:]:
        line, start = start, end + 1
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            faults.append(f"{path.name}:{line}: {len(cells)} cells, but the header has {len(header)}")
            continue
        rows.append((line, cells))
    _refuse(faults)
    if not rows:
        raise ManifestError(f"{path.name} has no rows; give one line per clip")
    return header, rows


def _text(path: Path) -> str:
    if not path.is_file():
        raise ManifestError(f"{path.name}: not found; give a file of predictions")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path.name} is not UTF-8 text (byte {error.start})") from error
    if "\0" in text:
        raise ManifestError(f"{path.name} is not UTF-8 text (it holds NUL bytes)")
    return text


def _refuse(faults: list[str]) -> None:
    """Raise if there is a fault; each is ``file:line: what``, and equal ones are listed once."""
    if not faults:
        return
    if len(faults) > 1 and len({fault.partition(": ")[2] for fault in faults}) == 1:
        raise ManifestError(
            f"{faults[0]} (so are {len(faults) - 1} further lines, up to {faults[-1].partition(': ')[0]})"
        )
    more = f"\n… and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
    raise ManifestError("\n".join(faults[:_MOST_FAULTS]) + more)


def _order_is_needed(name: str) -> ConfigError:
    return ConfigError(
        f"{name} numbers its classes, and every release numbers them differently; name the order, one of {', '.join(CLASS_ORDERS)}, or class names with commas"
    )
