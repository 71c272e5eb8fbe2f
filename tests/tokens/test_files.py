"""Data sets on disk, and what their digest covers."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_grace import labelled

from dferkit.schema import ClipStatus
from dferkit.tokens.dataset import TokenDataset
from dferkit.tokens.files import load_dataset, save_dataset

STATUS = ClipStatus(status="no_face", message="no face", coverage=0.0, detector="haar", end_seconds=2.0, num_people=0)


def same(a: object, b: object) -> bool:
    """Equal in value and kind."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and (np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b)


def data_sets() -> dict[str, TokenDataset]:
    """One with tokens and all else, and one with frames in their place."""
    data = replace(labelled(6), texts=None, statuses={"clip 0": STATUS}, soft_target=np.eye(7)[np.arange(6)])
    frames = torch.arange(6 * 2 * 4 * 4 * 3).reshape(6, 2, 4, 4, 3).to(torch.uint8)
    return {"tokens": data, "frames": replace(data, visual=None, frames=frames)}


@pytest.mark.parametrize("kind", data_sets())
def test_a_data_set_survives_a_file(kind: str, tmp_path: Path) -> None:
    data = data_sets()[kind]
    save_dataset(data, tmp_path / "data.safetensors")
    found = load_dataset(tmp_path / "data.safetensors")
    for field in fields(TokenDataset):
        assert same(getattr(data, field.name), getattr(found, field.name)), field.name


def test_the_digest_covers_all_that_a_model_reads_of_a_caption() -> None:
    data = labelled(6)
    assert data.texts is not None
    first = data.texts[0]
    changed = {
        "values": first.values + 1,
        "sentence": first.sentence + 1,
        "pieces": tuple(f"{piece}!" for piece in first.pieces),
        "phrase_of_piece": tuple(range(len(first.pieces))),
    }
    for name, value in changed.items():
        other = replace(data, texts=(replace(first, **{name: value}), *data.texts[1:]))  # type: ignore[arg-type]
        assert other.digest != data.digest, name
