"""Adapting a trained model: from its weights, held by them, and nothing where nothing is asked."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from small_grace import SMALL, dataset, labelled_clips

from dferkit.errors import CheckpointError, ConfigError
from dferkit.models.grace import Grace
from dferkit.tokens.dataset import TokenDataset
from dferkit.training.engine import EngineConfig
from dferkit.training.loop import ADAPTATION, TrainingConfig, train_steps
from dferkit.training.score import predict_probabilities

QUICK = TrainingConfig(**{**ADAPTATION, "epochs": 4, "batch": 14, "save_every_epochs": 2})


def adapt(start: Grace, data: TokenDataset, config: TrainingConfig, **more: Any) -> Grace:
    """A copy of the start, adapted."""
    return train_steps(deepcopy(start), data, config, engine=EngineConfig(is_adaptation=True), **more)


@cache
def trained() -> Grace:
    """A model that knows the classes of ``labelled_clips``; seed 0 gives the directions of the classes."""
    visual, texts, target = labelled_clips(84)
    config = TrainingConfig(epochs=30, batch=14, learning_rate=5e-3, weight_decay=0.01, token_noise=0.1)
    torch.manual_seed(config.seed)
    return train_steps(Grace(SMALL), dataset(visual[:42], texts[:42], target[:42]), config)


def others(target: np.ndarray | None = None) -> TokenDataset:
    """Other clips of the same classes, or of the classes that are given."""
    visual, texts, known = labelled_clips(84)
    return dataset(visual[42:], texts[42:], known[42:] if target is None else target)


def weights(model: Grace) -> bytes:
    return save({key: value.contiguous() for key, value in model.state_dict().items()})


def share_right(model: Grace, chosen: np.ndarray | slice = slice(None), *, target: np.ndarray | None = None) -> float:
    truth = others().target if target is None else target
    return float((predict_probabilities(model, others()).argmax(1) == truth)[chosen].mean())


def test_zero_epochs_change_no_weight() -> None:
    before = weights(trained())
    found = adapt(trained(), others(), replace(QUICK, epochs=0))
    assert weights(found) == before
    assert found is not trained()


def test_an_infinite_strength_changes_no_weight() -> None:
    found = adapt(trained(), others(), replace(QUICK, start_strength=1e9))
    assert weights(found) == weights(trained())


def test_same_seed_same_bytes_and_the_start_stays() -> None:
    before = weights(trained())
    first = weights(adapt(trained(), others(), QUICK))
    torch.rand(5)
    assert weights(adapt(trained(), others(), QUICK)) == first
    assert weights(adapt(trained(), others(), replace(QUICK, seed=1))) != first
    assert weights(trained()) == before != first


def test_a_stronger_start_stays_closer() -> None:
    def distance(strength: float) -> float:
        found = adapt(trained(), others(), replace(QUICK, start_strength=strength, learning_rate=3e-3)).state_dict()
        return sum(float((found[name] - value).square().sum()) for name, value in trained().state_dict().items())

    far, near, nearer = distance(0.0), distance(30.0), distance(300.0)
    assert far > near > nearer > 0


def test_stopped_and_continued_is_uninterrupted(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, of: int, loss: float) -> None:
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        adapt(trained(), others(), QUICK, state=tmp_path, on_progress=stop)
    rest = adapt(trained(), others(), QUICK, state=tmp_path)
    assert weights(rest) == weights(adapt(trained(), others(), QUICK))
    with pytest.raises(CheckpointError, match="other settings"):
        adapt(trained(), others(), replace(QUICK, start_strength=1.0), state=tmp_path)


def test_planted_other_labels_are_learned_where_the_start_is_wrong() -> None:
    """The user calls class 0 what the start calls 1, and so on round: the start is never right, the adapted model is."""
    turned = (others().target + 1) % 7
    held = np.arange(42) >= 28
    config = replace(QUICK, epochs=60, learning_rate=5e-3, start_strength=0.1)
    found = adapt(trained(), others(turned).take(np.arange(28)), config)
    assert share_right(trained(), held, target=turned) < 0.1
    assert share_right(found, held, target=turned) > 0.8


def test_a_good_start_is_not_destroyed_and_absent_classes_keep_their_place() -> None:
    absent = others().target >= 5
    rows = np.flatnonzero(~absent)
    assert share_right(trained()) > 0.8
    found = adapt(trained(), others().take(rows), TrainingConfig(**ADAPTATION))
    assert share_right(found, ~absent) >= share_right(trained(), ~absent) - 0.05
    assert share_right(found, absent) >= share_right(trained(), absent) - 0.1
    # The loss chooses among the classes that are shown: nothing moves the weights of the others.
    was, now = ((model.asked[-1].weight.unflatten(0, (7, -1)), model.bias) for model in (trained(), found))
    for part in (0, 1):
        assert torch.equal(was[part][5:], now[part][5:])
        assert not torch.equal(was[part][:5], now[part][:5])


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", -1), ("batch", 1), ("learning_rate", 0.0), ("start_strength", -1.0)]
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        TrainingConfig(**{name: value})
