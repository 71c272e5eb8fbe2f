"""Adapting a trained model: from its weights, held by them, and nothing where nothing is asked."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from dferkit.training.adaptation import AdaptationConfig, adapt_grace
from safetensors.torch import save
from small_grace import SMALL, labelled_clips

from dferkit.errors import CheckpointError, ConfigError
from dferkit.models.grace import Grace
from dferkit.training.loop import TrainingConfig, predict_probabilities, train_grace

QUICK = AdaptationConfig(epochs=4, batch=14, save_every_epochs=2)


@cache
def trained() -> Grace:
    """A model that knows the classes of ``labelled_clips``; seed 0 gives the directions of the classes."""
    visual, texts, target = labelled_clips(84)
    config = TrainingConfig(epochs=30, batch=14, learning_rate=5e-3, weight_decay=0.01, token_noise=0.1)
    return train_grace(SMALL, visual[:42], texts[:42], target[:42], config=config)


def others() -> tuple[torch.Tensor, list, np.ndarray]:
    visual, texts, target = labelled_clips(84)
    return visual[42:], texts[42:], target[42:]


def weights(model: Grace) -> bytes:
    return save({key: value.contiguous() for key, value in model.state_dict().items()})


def share_right(model: Grace, chosen: np.ndarray | slice = slice(None), *, target: np.ndarray | None = None) -> float:
    visual, texts, known = others()
    truth = known if target is None else target
    return float((predict_probabilities(model, visual, texts).argmax(1) == truth)[chosen].mean())


def test_zero_epochs_change_no_weight() -> None:
    before = weights(trained())
    found = adapt_grace(trained(), *others(), config=AdaptationConfig(epochs=0))
    assert weights(found) == before
    assert found is not trained()


def test_an_infinite_pull_changes_no_weight() -> None:
    found = adapt_grace(trained(), *others(), config=replace(QUICK, pull=1e9))
    assert weights(found) == weights(trained())


def test_same_seed_same_bytes_and_the_start_stays() -> None:
    before = weights(trained())
    first = weights(adapt_grace(trained(), *others(), config=QUICK))
    torch.rand(5)
    assert weights(adapt_grace(trained(), *others(), config=QUICK)) == first
    assert weights(adapt_grace(trained(), *others(), config=replace(QUICK, seed=1))) != first
    assert weights(trained()) == before != first


def test_a_stronger_pull_stays_closer() -> None:
    def distance(pull: float) -> float:
        found = adapt_grace(trained(), *others(), config=replace(QUICK, pull=pull, learning_rate=3e-3)).state_dict()
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
        adapt_grace(trained(), *others(), config=QUICK, state=tmp_path, on_progress=stop)
    rest = adapt_grace(trained(), *others(), config=QUICK, state=tmp_path)
    assert weights(rest) == weights(adapt_grace(trained(), *others(), config=QUICK))
    with pytest.raises(CheckpointError, match="other settings"):
        adapt_grace(trained(), *others(), config=replace(QUICK, pull=1.0), state=tmp_path)


def test_planted_other_labels_are_learned_where_the_start_is_wrong() -> None:
    """The user calls class 0 what the start calls 1, and so on round: the start is never right, the adapted model is."""
    visual, texts, target = others()
    turned = (target + 1) % 7
    held = np.arange(42) >= 28
    config = AdaptationConfig(epochs=60, batch=14, learning_rate=5e-3, pull=0.1)
    found = adapt_grace(trained(), visual[:28], texts[:28], turned[:28], config=config)
    assert share_right(trained(), held, target=turned) < 0.1
    assert share_right(found, held, target=turned) > 0.8


def test_a_good_start_is_not_destroyed_and_absent_classes_keep_their_place() -> None:
    visual, texts, target = others()
    absent = target >= 5
    rows = np.flatnonzero(~absent)
    assert share_right(trained()) > 0.8
    found = adapt_grace(trained(), visual[rows], [texts[i] for i in rows], target[rows], config=AdaptationConfig())
    assert share_right(found, ~absent) >= share_right(trained(), ~absent) - 0.05
    assert share_right(found, absent) >= share_right(trained(), absent) - 0.1
    # The loss chooses among the classes that are shown: nothing moves the heads' rows of the others.
    for head in ("head", "visual_head"):
        for part in ("weight", "bias"):
            was, now = (getattr(getattr(model, head), part)[5:] for model in (trained(), found))
            assert torch.equal(was, now)
    assert not torch.equal(trained().head.weight[:5], found.head.weight[:5])


@pytest.mark.parametrize(("name", "value"), [("epochs", -1), ("batch", 1), ("learning_rate", 0.0), ("pull", -1.0)])
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        AdaptationConfig(**{name: value})
