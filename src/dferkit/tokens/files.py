"""Token sets on disk, so that models can be trained in processes of their own and after an interruption."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dferkit.schema import ClipStatus, Record, TextTokens
from dferkit.storage import atomic_path
from dferkit.tokens.dataset import TokenDataset
from dferkit.tokens.rows import TokenRows


def save_texts(tokens: Sequence[TextTokens], path: Path | str) -> None:
    """Write text tokens; ``load_texts`` gives the same back."""
    lengths = torch.tensor([len(t.pieces) for t in tokens])
    words = [
        [list(t.pieces), [list(s) for s in t.spans], list(t.phrase_of_piece), list(t.phrase_seconds)] for t in tokens
    ]
    with atomic_path(path) as temporary:
        save_file(
            {
                "values": torch.cat([t.values for t in tokens]),
                "sentence": torch.stack([t.sentence for t in tokens]),
                "lengths": lengths,
            },
            temporary,
            metadata={"words": json.dumps(words), "encoder": tokens[0].encoder},
        )


def load_texts(path: Path | str) -> list[TextTokens]:
    """Text tokens of a file."""
    with safe_open(path, framework="pt") as handle:
        words, encoder = json.loads(handle.metadata()["words"]), handle.metadata()["encoder"]
        values, sentence, lengths = (handle.get_tensor(name) for name in ("values", "sentence", "lengths"))
    parts = values.split(lengths.tolist())
    return [
        TextTokens(
            values=part,
            sentence=whole,
            pieces=tuple(pieces),
            spans=tuple((a, b) for a, b in spans),
            encoder=encoder,
            phrase_of_piece=tuple(phrases),
            phrase_seconds=tuple((start, end) for start, end in seconds),
        )
        for part, whole, (pieces, spans, phrases, seconds) in zip(parts, sentence, words, strict=True)
    ]


_ARRAYS = ("target", "soft_target", "units", "timestamps", "boxes", "frame_sizes", "view")
_FACTS = ("labels", "au_names", "grid", "areas", "encoder", "encoder_digest", "describer")


def save_dataset(data: TokenDataset, path: Path | str) -> None:
    """Write a data set without its captions; ``load_dataset`` gives the same back."""
    records = [{**{n: getattr(r, n) for n in r.__slots__}, "video": str(r.video)} for r in data.records]
    about = {name: getattr(data, name) for name in _FACTS}
    tensors = {name: torch.from_numpy(getattr(data, name)) for name in _ARRAYS if getattr(data, name) is not None}
    for name in ("visual", "frames", "summary", "motion"):
        if (values := getattr(data, name)) is not None:
            tensors[name] = values.load() if isinstance(values, TokenRows) else values
    about |= {
        "records": records,
        "groups": data.groups.tolist(),
        "statuses": {clip_id: asdict(status) for clip_id, status in data.statuses.items()},
    }
    with atomic_path(path) as temporary:
        save_file(
            {name: value.contiguous() for name, value in tensors.items()},
            temporary,
            metadata={"about": json.dumps(about)},
        )


def load_dataset(path: Path | str) -> TokenDataset:
    """The data set of a file."""
    with safe_open(path, framework="pt") as handle:
        about = json.loads(handle.metadata()["about"])
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v := about[name], list) else v for name in _FACTS}
    fields |= {name: value.numpy() if name in _ARRAYS else value for name, value in tensors.items()}
    records = tuple(_record(row) for row in about["records"])
    statuses = {clip_id: ClipStatus(**status) for clip_id, status in about["statuses"].items()}
    return TokenDataset(records=records, groups=np.array(about["groups"]), statuses=statuses, **fields)


def _record(row: dict[str, Any]) -> Record:
    votes = None if row["votes"] is None else tuple(row["votes"])
    return Record(**{**row, "video": Path(row["video"]), "votes": votes})
