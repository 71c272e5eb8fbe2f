"""A checkpoint comes back exactly, and nothing damaged is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_grace import small_model, tokens

from dferkit.errors import CheckpointError
from dferkit.models.checkpoint import COARSE, SETTINGS, WEIGHTS, Checkpoint, load_checkpoint, save_checkpoint
from dferkit.models.coarse import fit_coarse
from dferkit.schema import TokenBatch
from dferkit.storage import digest_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    coarse = fit_coarse(rng.normal(size=(40, 8)), np.arange(40) % 7)
    checkpoint = Checkpoint(
        name="grace", model=small_model(), coarse=coarse, about={"name": "grace", "encoder": "box", "seed": 0}
    )
    return save_checkpoint(checkpoint, tmp_path / "grace")


def record(folder: Path, name: str) -> None:
    """Make the recorded digest that of the present file."""
    settings = json.loads((folder / SETTINGS).read_text())
    settings["sha256"][name] = digest_file(folder / name)
    (folder / SETTINGS).write_text(json.dumps(settings))


def test_round_trip_is_exact(folder: Path) -> None:
    loaded = load_checkpoint(folder)
    for key, value in small_model().state_dict().items():
        assert torch.equal(value, loaded.model.state_dict()[key]), key
    assert torch.equal(small_model()(TokenBatch(**tokens())).logits, loaded.model(TokenBatch(**tokens())).logits)
    assert loaded.model.config == small_model().config
    assert not loaded.model.training
    assert loaded.about["encoder"] == "box"
    assert loaded.digest == digest_file(folder / WEIGHTS)
    assert loaded.labels == loaded.coarse.labels


def test_saving_twice_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = save_checkpoint(load_checkpoint(folder), tmp_path / "again")
    for name in (WEIGHTS, COARSE, SETTINGS):
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.parametrize("name", [WEIGHTS, COARSE])
def test_a_flipped_bit(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[-5] ^= 4
    (folder / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"{name} differs from its recorded digest"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", [WEIGHTS, COARSE])
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        load_checkpoint(folder)


def test_no_settings_and_no_folder(folder: Path, tmp_path: Path) -> None:
    (folder / SETTINGS).unlink()
    with pytest.raises(CheckpointError, match=f"has no {SETTINGS}"):
        load_checkpoint(folder)
    with pytest.raises(CheckpointError, match="is not a folder"):
        load_checkpoint(tmp_path / "nothing")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", [WEIGHTS, COARSE])
def test_weights_that_are_no_numbers(folder: Path, name: str, bad: float) -> None:
    """Even when the digest fits: a diverged training must not answer."""
    from safetensors import safe_open

    with safe_open(folder / name, framework="pt") as handle:
        meta = handle.metadata()
    weights = load_file(folder / name)
    weights[sorted(weights)[0]].view(-1)[0] = bad
    save_file(weights, folder / name, metadata=meta)
    record(folder, name)
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        load_checkpoint(folder)


def test_another_format(folder: Path) -> None:
    settings = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps({**settings, "format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        load_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format": 1}', "\x00\x01"])
def test_settings_that_are_no_settings(folder: Path, text: str) -> None:
    (folder / SETTINGS).write_text(text)
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)


@pytest.mark.parametrize("key", ["model", "config", "about", "sha256"])
def test_settings_with_a_part_missing(folder: Path, key: str) -> None:
    settings = json.loads((folder / SETTINGS).read_text())
    del settings[key]
    (folder / SETTINGS).write_text(json.dumps(settings))
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)


def test_digests_left_out(folder: Path) -> None:
    """Weights without a recorded digest are not verified, so they are not loaded."""
    settings = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps({**settings, "sha256": {}}))
    with pytest.raises(CheckpointError, match="digest"):
        load_checkpoint(folder)


@pytest.mark.parametrize("change", [{"dim": 32}, {"motion": "sideways"}, {"colour": "blue"}, {"grid": [9]}])
def test_settings_of_another_model(folder: Path, change: dict[str, object]) -> None:
    settings = json.loads((folder / SETTINGS).read_text())
    settings["config"] = {**settings["config"], **change}
    (folder / SETTINGS).write_text(json.dumps(settings))
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)


def test_a_pickle_is_not_opened(folder: Path, tmp_path: Path) -> None:
    """A file that would run code when unpickled is read as bytes only."""
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    (folder / WEIGHTS).write_bytes(pickle.dumps(Trap()))
    record(folder, WEIGHTS)
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)
    assert not (tmp_path / "ran").exists()


def test_truncated_weights(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    record(folder, WEIGHTS)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(folder)


def test_a_moved_folder_still_loads(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder, tmp_path / "elsewhere")
    assert load_checkpoint(tmp_path / "elsewhere").about["name"] == "grace"
