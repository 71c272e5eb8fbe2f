"""Token sets on disk, so that rows of a table can be trained in processes of their own and after an interruption."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dferkit.schema import TextTokens
from dferkit.storage import atomic_path
from dferkit.tokens.dataset import ClipSet


def save_texts(tokens: Sequence[TextTokens], path: Path | str) -> None:
    """Write text tokens; ``load_texts`` gives the same back."""
    lengths = torch.tensor([len(t.pieces) for t in tokens])
    words = [[list(t.pieces), [list(s) for s in t.spans], list(t.phrase_of_piece)] for t in tokens]
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
        )
        for part, whole, (pieces, spans, phrases) in zip(parts, sentence, words, strict=True)
    ]


def save_clips(clips: ClipSet, path: Path | str) -> None:
    """Write a clip set; ``load_clips`` gives the same back."""
    about = {
        "subjects": clips.subjects.tolist(),
        "au_names": clips.au_names,
        "grid": clips.grid,
        "areas": clips.areas,
        "labels": clips.labels,
        "clip_ids": clips.clip_ids,
    }
    tensors = {
        "visual": clips.visual_in_memory(),
        "summary": clips.summary,
        "units": torch.from_numpy(clips.units),
        "timestamps": torch.from_numpy(clips.timestamps),
        "target": torch.from_numpy(clips.target),
    }
    if clips.motion is not None:
        tensors["motion"] = clips.motion
    with atomic_path(path) as temporary:
        save_file(
            {name: value.contiguous() for name, value in tensors.items()},
            temporary,
            metadata={"about": json.dumps(about)},
        )


def load_clips(path: Path | str) -> ClipSet:
    """The clip set of a file."""
    with safe_open(path, framework="pt") as handle:
        about = json.loads(handle.metadata()["about"])
        visual, summary, units, timestamps, target = (
            handle.get_tensor(name) for name in ("visual", "summary", "units", "timestamps", "target")
        )
        motion = handle.get_tensor("motion") if "motion" in handle.keys() else None  # noqa: SIM118
    return ClipSet(
        visual=visual,
        summary=summary,
        units=units.numpy(),
        timestamps=timestamps.numpy(),
        target=target.numpy(),
        subjects=np.array(about["subjects"]),
        au_names=tuple(about["au_names"]),
        grid=tuple(about["grid"]),
        areas=tuple(about["areas"]),
        labels=tuple(about["labels"]),
        clip_ids=tuple(about["clip_ids"]),
        motion=motion,
    )
