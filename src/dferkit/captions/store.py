"""Captions on disk with where they come from: one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dferkit.captions.prompts import TEMPLATE_VERSION
from dferkit.errors import DataError
from dferkit.schema import Caption, CoarsePrediction, Phrase
from dferkit.storage import write_text

_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCaption:
    """A caption and its provenance; source and guide stand in the caption itself.

    Attributes:
        version: Of the template or prompt, such as ``template-1``.
        units_source: Who measured the action units: ``truth``, a model's name, empty where there were none.
        settings: What else is needed to make it again (thresholds, top-k, seed of a language model); JSON values only.
    """

    clip_id: str
    caption: Caption
    version: str = TEMPLATE_VERSION
    units_source: str = ""
    settings: Mapping[str, Any] | None = None


def write_captions(path: Path | str, captions: Iterable[StoredCaption]) -> None:
    """Write all captions atomically, in the order given; a file that is there is replaced.

    Raises:
        DataError: Two captions for one clip, a phrase that does not stand where it says, or a value JSON cannot hold.
    """
    lines: dict[str, str] = {}
    for stored in captions:
        if stored.clip_id in lines:
            raise DataError(f"clip {stored.clip_id!r} has two captions; a caption file holds one per clip")
        for p in stored.caption.phrases:
            if stored.caption.text[p.start_character : p.end_character] != p.text:
                raise DataError(f"the caption of clip {stored.clip_id!r} does not hold {p.text!r} where its place says")
        try:
            lines[stored.clip_id] = json.dumps(_to_json(stored), ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise DataError(f"the caption of clip {stored.clip_id!r} cannot be stored: {error}") from error
    write_text(path, "".join(f"{line}\n" for line in lines.values()))


def read_captions(path: Path | str) -> dict[str, StoredCaption]:
    """Captions by clip id, in the order of the file; exactly what was written.

    Raises:
        DataError: No such file, a damaged line, or a clip that occurs twice; the message names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no caption file {path}; write one with write_captions or the caption command")
    captions: dict[str, StoredCaption] = {}
    # Not splitlines(): JSON may hold other line separators inside its strings.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            stored = _from_json(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}:{number}: not a stored caption ({type(error).__name__}: {error})") from error
        if stored.clip_id in captions:
            raise DataError(f"{path}:{number}: clip {stored.clip_id!r} already has a caption above")
        captions[stored.clip_id] = stored
    return captions


def _to_json(stored: StoredCaption) -> dict[str, Any]:
    caption, guide = stored.caption, stored.caption.guided_by
    return {
        "format": _FORMAT,
        "clip_id": stored.clip_id,
        "text": caption.text,
        "source": caption.source,
        "version": stored.version,
        "units_source": stored.units_source,
        "settings": None if stored.settings is None else dict(stored.settings),
        "guide": None
        if guide is None
        else {
            "labels": list(guide.labels),
            "probabilities": guide.probabilities.tolist(),
            "dtype": guide.probabilities.dtype.name,
            "model": guide.model,
            "fold": guide.fold,
            "is_out_of_fold": guide.is_out_of_fold,
        },
        # The text of a phrase is cut out of the caption's by its place.
        "phrases": [
            {
                "span": [p.start_character, p.end_character],
                "action_unit": p.action_unit,
                "regions": list(p.regions),
                "seconds": [float(p.start_seconds), float(p.end_seconds)],
                "intensity": float(p.intensity),
                "is_stressed": p.is_stressed,
            }
            for p in caption.phrases
        ],
    }


def _from_json(row: dict[str, Any]) -> StoredCaption:
    if row["format"] != _FORMAT:
        raise ValueError(f"format {row['format']}, this version reads {_FORMAT}")
    text, guide = row["text"], row["guide"]
    phrases = []
    for p in row["phrases"]:
        start, end = p["span"]
        if not 0 <= start <= end <= len(text):
            raise ValueError(f"phrase at {start}–{end} of a text of {len(text)} characters")
        phrases.append(
            Phrase(
                text=text[start:end],
                action_unit=p["action_unit"],
                regions=tuple(p["regions"]),
                start_seconds=p["seconds"][0],
                end_seconds=p["seconds"][1],
                intensity=p["intensity"],
                start_character=start,
                end_character=end,
                is_stressed=p["is_stressed"],
            )
        )
    caption = Caption(
        text=text,
        phrases=tuple(phrases),
        source=row["source"],
        guided_by=None
        if guide is None
        else CoarsePrediction(
            labels=tuple(guide["labels"]),
            probabilities=np.array(guide["probabilities"], dtype=guide["dtype"]),
            model=guide["model"],
            fold=guide["fold"],
            is_out_of_fold=guide["is_out_of_fold"],
        ),
    )
    return StoredCaption(
        clip_id=row["clip_id"],
        caption=caption,
        version=row["version"],
        units_source=row["units_source"],
        settings=row["settings"],
    )
