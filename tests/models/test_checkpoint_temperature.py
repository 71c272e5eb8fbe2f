"""The one way from a checkpoint's logits to probabilities."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dferkit.encoders.box import BOX_FOLDER
from dferkit.errors import CheckpointError
from dferkit.evaluation.calibration import at_temperature
from dferkit.models.checkpoint import load_checkpoint, save_checkpoint


def test_without_a_temperature_it_is_the_plain_softmax() -> None:
    box = load_checkpoint(BOX_FOLDER / "grace")
    box = replace(box, about={key: value for key, value in box.about.items() if key != "temperature"})
    logits = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)) * 4
    assert box.temperature == 1
    np.testing.assert_array_equal(box.probabilities(logits), logits.double().softmax(-1).numpy())


def test_it_agrees_with_the_fit_and_survives_a_file(tmp_path: Path) -> None:
    box = load_checkpoint(BOX_FOLDER / "grace")
    save_checkpoint(replace(box, about={**box.about, "temperature": 1.7}), tmp_path)
    read = load_checkpoint(tmp_path)
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(1)) * 4
    np.testing.assert_allclose(
        read.probabilities(logits), at_temperature(logits.double().numpy(), 1.7), rtol=0, atol=1e-15
    )
    assert read.digest == box.digest


@pytest.mark.parametrize("wrong", [0, -1, "Infinity", "warm"])
def test_a_temperature_that_is_none_is_refused(wrong: object, tmp_path: Path) -> None:
    box = load_checkpoint(BOX_FOLDER / "grace")
    save_checkpoint(box, tmp_path)
    settings = json.loads((tmp_path / "model.json").read_text())
    settings["about"]["temperature"] = wrong
    (tmp_path / "model.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path)
