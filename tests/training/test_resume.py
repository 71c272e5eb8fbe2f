"""A training that is killed anywhere ends with the same bytes, and a damaged state is refused."""

from __future__ import annotations

import csv
import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_grace import SMALL, labelled

from dferkit.errors import CheckpointError
from dferkit.models.grace import Grace
from dferkit.storage import digest_file, read_json, write_json
from dferkit.tokens.features import one_thread
from dferkit.training import loop, state
from dferkit.training.engine import EngineConfig
from dferkit.training.loop import TrainingConfig, train_steps
from dferkit.training.score import predict_logits
from dferkit.training.selection import EpochSelection

TRAINING = TrainingConfig(epochs=2, batch=6, save_every_epochs=1, learning_rate=3e-3)
ENGINE = EngineConfig(save_every_steps=2, average=0.9, parts=2)


def train(folder: Path, engine: EngineConfig = ENGINE) -> Grace:
    held = labelled(14, seed=1)
    selection = EpochSelection(lambda model: predict_logits(model, held).numpy(), held.target, 7, key="held")
    torch.manual_seed(0)
    with one_thread():
        return train_steps(Grace(SMALL), labelled(28), TRAINING, engine=engine, selection=selection, state=folder)


def files(folder: Path) -> dict[str, str]:
    """SHA-256 of weights, optimiser, notes and metrics."""
    return {path.name: digest_file(path) for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a training that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "state"
    train(folder)
    return folder


def killed_at(limit: int, folder: Path) -> bool:
    """Train in a child that gets SIGKILL before its ``limit``-th step or operation on a file; whether it died."""
    child = os.fork()
    if child == 0:  # never returns into the tests
        seen = [0]

        def counted(function):
            def wrapped(*arguments, **named):
                seen[0] += 1
                if seen[0] == limit:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **named)

            return wrapped

        try:
            os.replace, os.fsync = counted(os.replace), counted(os.fsync)
            loop._Run.step = counted(loop._Run.step)
            train(folder)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("number", [0, 1, *(pytest.param(number, marks=pytest.mark.slow) for number in range(2, 10))])
def test_killed_anywhere_ends_with_the_same_bytes(number: int, whole: Path, tmp_path: Path) -> None:
    draw, folder = random.Random(number), tmp_path / "state"
    assert killed_at(draw.randrange(2, 30), folder)
    killed_at(draw.randrange(2, 30), folder)  # and once more while it resumes, where that is so far from the end
    train(folder)
    assert files(folder) == files(whole)


def test_a_state_in_the_middle_of_an_epoch_is_continued_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, steps = loop._Run.step, []

    def step(run: loop._Run, chosen: np.ndarray, epoch: int) -> float | None:
        if len(steps) == 3 and not (tmp_path / "again").exists():
            raise KeyboardInterrupt
        steps.append(epoch)
        return original(run, chosen, epoch)

    monkeypatch.setattr(loop._Run, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "state")
    (tmp_path / "again").touch()
    steps.clear()
    train(tmp_path / "state")
    assert steps.count(0) == 3, "an epoch has 5 steps, and the state was saved after 2 of them"


def test_the_log_has_a_row_per_epoch(whole: Path) -> None:
    rows = list(csv.DictReader((whole / "training.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert set(rows[0]) == {"epoch", "loss", "learning_rate", "val_uar"}
    assert float(rows[-1]["learning_rate"]) < float(rows[0]["learning_rate"])


@pytest.mark.parametrize("seed", range(6))
def test_a_flipped_bit_is_refused(seed: int, whole: Path, tmp_path: Path) -> None:
    """Of the weights, of the optimiser, and of the notes."""
    draw = random.Random(seed)
    for name in ("state.json", next(path.name for path in whole.glob("*.safetensors"))):
        folder = tmp_path / name
        folder.mkdir()
        for path in whole.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        damaged = bytearray((folder / name).read_bytes())
        place = draw.randrange(len(damaged) // 2, len(damaged) - 3)
        damaged[place] ^= 1 << draw.randrange(7)
        (folder / name).write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            train(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_state_that_is_not_finite_is_refused(value: float, whole: Path, tmp_path: Path) -> None:
    """Also with right digests: the values were wrong before they were written."""
    about = read_json(whole / "state.json")
    path = tmp_path / f"state-{about['step']:06d}.safetensors"
    tensors = load_file(whole / path.name)
    tensors["optimizer/0/exp_avg"].view(-1)[3] = value
    save_file(tensors, path)
    about = {**about, "sha256": digest_file(path)}
    del about["digest"]
    write_json(tmp_path / "state.json", {**about, "digest": state._digest(about)})
    with pytest.raises(CheckpointError, match="NaN or infinity in optimizer/0/exp_avg"):
        train(tmp_path)


def test_values_that_are_not_finite_do_not_replace_a_state(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state.save_state(tmp_path, {"model": model}, optimizer, step=1, settings={})
    before = files(tmp_path)
    with torch.no_grad():
        model.weight[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match="NaN or infinity in model/weight"):
        state.save_state(tmp_path, {"model": model}, optimizer, step=2, settings={})
    assert files(tmp_path) == before


def test_another_engine_is_another_run(whole: Path, tmp_path: Path) -> None:
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match="other settings"):
        train(tmp_path, replace(ENGINE, parts=1))
