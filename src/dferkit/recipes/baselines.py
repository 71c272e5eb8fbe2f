"""Other tools' answers on the clips that a checkpoint is scored on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dferkit.errors import ConfigError
from dferkit.readings import ClassTables, OnnxFrames, open_classifier
from dferkit.schema import FaceClip, Record

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_FORM = "NAME=table.csv, NAME=folder or NAME=model.onnx,names.txt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """An outside classifier under a name; ``class_names`` is the file of an ONNX model's classes."""

    name: str
    path: Path
    class_names: Path | None = None


def parse_baselines(texts: Sequence[str]) -> tuple[Baseline, ...]:
    """``NAME=table.csv`` or ``NAME=model.onnx,names.txt``.

    Raises:
        ConfigError: Another form, or a name twice.
    """
    found: dict[str, Baseline] = {}
    for text in texts:
        name, _, value = text.partition("=")
        path, _, class_names = value.partition(",")
        if not _NAME.fullmatch(name) or not path:
            raise ConfigError(
                f"baseline {text!r}: expected {_FORM}; a name has letters, digits, '.', '-' and '_', and begins with a letter or a digit"
            )
        if name.lower() in {known.lower() for known in found}:
            raise ConfigError(f"two baselines are called {name!r}; give each a name of its own")
        found[name] = Baseline(name=name, path=Path(path), class_names=Path(class_names) if class_names else None)
    return tuple(found.values())


def open_baselines(
    baselines: Sequence[Baseline], records: Sequence[Record], labels: tuple[str, ...]
) -> dict[str, ClassTables | OnnxFrames]:
    """Each baseline's classifier, by name; wrong files are refused before any work. As ``open_classifier`` raises."""
    videos = [record.clip_id for record in records]
    return {b.name: open_classifier(b.path, b.class_names, labels=labels, videos=videos) for b in baselines}


def answer_baselines(
    sources: Mapping[str, ClassTables | OnnxFrames],
    records: Sequence[Record],
    *,
    read_clip: Callable[[Record], FaceClip | None],
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Class probabilities by baseline and clip id; a clip without an answer is left out.

    Args:
        read_clip: The faces of a clip, None without one; called only where a model asks for pictures.
    """
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in sources}
    if not sources:
        return found
    has_models = any(isinstance(source, OnnxFrames) for source in sources.values())
    for number, record in enumerate(records):
        clip = read_clip(record) if has_models else None
        for name, source in sources.items():
            if isinstance(source, ClassTables):
                answer = source.answer(record.clip_id)
            else:
                answer = None if clip is None else source.answer(clip)
            if answer is not None:
                found[name][record.clip_id] = answer
        if on_progress:
            on_progress(number + 1, len(records))
    return found
