"""Training: the same bytes for the same seed, also after a kill; and nothing that is not finite ends in the weights."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from small_grace import SMALL, SMALL_FUSED, dataset, labelled, labelled_clips
from torch import Tensor

from dferkit.errors import CheckpointError, ConfigError, DataError
from dferkit.models.grace import Grace, GraceConfig
from dferkit.models.grace_fused import GraceFused
from dferkit.models.registry import MODELS, variant
from dferkit.models.word_alignment import AlignedModel, AlignmentConfig
from dferkit.tokens.batches import epoch_rows, number_clips
from dferkit.tokens.dataset import TokenDataset
from dferkit.training.loop import TrainingConfig, step_seed, train_steps
from dferkit.training.score import predict_probabilities

QUICK = TrainingConfig(epochs=6, batch=14, save_every_epochs=2)


def train(config: AlignmentConfig, data: TokenDataset, training: TrainingConfig, **more: Any) -> AlignedModel:
    """A new model, trained."""
    torch.manual_seed(training.seed)
    model = Grace(config) if isinstance(config, GraceConfig) else GraceFused(config)
    return train_steps(model, data, training, **more)


def weights(model: AlignedModel) -> bytes:
    return save({key: value.contiguous() for key, value in model.state_dict().items()})


class Stop(Exception):
    """Ends a training from its progress call."""


def stop_after(epoch: int) -> object:
    def progress(done: int, of: int, loss: float) -> None:
        if done == epoch:
            raise Stop

    return progress


def test_same_seed_same_bytes() -> None:
    first = train(SMALL, labelled(), QUICK)
    np.random.default_rng(5).random(9)
    torch.manual_seed(99)
    torch.rand(7)
    assert weights(train(SMALL, labelled(), QUICK)) == weights(first)
    assert weights(train(SMALL, labelled(), replace(QUICK, seed=1))) != weights(first)


@pytest.mark.parametrize("name", ["grace", "grace_cosine", "grace_fused", "vision_only", "text_only"])
def test_it_learns(name: str) -> None:
    visual, texts, target = labelled_clips()
    losses: list[float] = []
    data = dataset(visual, texts, target)
    model = train(
        variant(name, SMALL if MODELS[name].config is GraceConfig else SMALL_FUSED),
        data,
        TrainingConfig(epochs=40, batch=14, learning_rate=5e-3, weight_decay=0.01, token_noise=0.1),
        on_progress=lambda a, b, loss: losses.append(loss),
    )
    probabilities = predict_probabilities(model, data)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (probabilities.argmax(1) == target).mean() > 0.8
    assert losses[-1] < losses[0]
    assert not model.training


@pytest.mark.parametrize("epoch", [1, 2, 3, 5])
def test_stopped_and_continued_is_uninterrupted(epoch: int, tmp_path: Path) -> None:
    whole = train(SMALL, labelled(), QUICK)
    with pytest.raises(Stop):
        train(SMALL, labelled(), QUICK, state=tmp_path, on_progress=stop_after(epoch))
    seen: list[int] = []
    rest = train(SMALL, labelled(), QUICK, state=tmp_path, on_progress=lambda done, of, loss: seen.append(done))
    assert weights(rest) == weights(whole)
    assert seen[0] == epoch // 2 * 2 + 1


def test_killed_and_continued_is_uninterrupted(tmp_path: Path) -> None:
    """SIGKILL in the middle of a real process."""
    program = tmp_path / "train.py"
    program.write_text(
        "import sys, time\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1] / 'models')!r})\n"
        "import torch\n"
        "torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from small_grace import SMALL\n"
        "from small_grace import labelled\n"
        "from dferkit.models.grace import Grace\n"
        "from dferkit.training.loop import TrainingConfig, train_steps\n"
        "config = TrainingConfig(epochs=6, batch=14, save_every_epochs=2)\n"
        f"state = Path({str(tmp_path / 'state')!r})\n"
        "torch.manual_seed(0)\n"
        "train_steps(Grace(SMALL), labelled(), config, state=state, on_progress=lambda *a: time.sleep(0.3))\n"
    )
    child = subprocess.Popen([sys.executable, str(program)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (tmp_path / "state" / "state.json").is_file():
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    rest = train(SMALL, labelled(), QUICK, state=tmp_path / "state")
    assert weights(rest) == weights(train(SMALL, labelled(), QUICK))


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = train(SMALL, labelled(), QUICK, state=tmp_path)
    again = train(SMALL, labelled(), QUICK, state=tmp_path, on_progress=lambda *_: pytest.fail("trained"))
    assert weights(again) == weights(first)


@pytest.mark.parametrize("changed", [{"epochs": 7}, {"seed": 1}, {"token_noise": 0.0}])
def test_a_state_of_other_settings_is_refused(changed: dict[str, object], tmp_path: Path) -> None:
    train(SMALL, labelled(), replace(QUICK, epochs=2), state=tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        train(SMALL, labelled(), replace(QUICK, **{"epochs": 2, **changed}), state=tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        train(replace(SMALL, text="sentence"), labelled(), replace(QUICK, epochs=2), state=tmp_path)


def test_a_state_of_other_clips_or_another_joint_space_is_refused(tmp_path: Path) -> None:
    visual, texts, target = labelled_clips()
    config = replace(QUICK, epochs=2)
    train(SMALL, dataset(visual, texts, target), config, state=tmp_path)
    for clips in ((visual + 1, texts, target), (visual, texts, target[::-1].copy())):
        with pytest.raises(CheckpointError, match="other settings"):
            train(SMALL, dataset(*clips), config, state=tmp_path)
    torch.manual_seed(config.seed)
    other = Grace(SMALL)
    with torch.no_grad():
        other.space.mass.bias += 1
    with pytest.raises(CheckpointError, match="other settings"):
        train_steps(other, dataset(visual, texts, target), config, state=tmp_path)


def poison(monkeypatch: pytest.MonkeyPatch, bad_steps: set[int], *, only_gradient: bool = False) -> list[int]:
    """Make the loss (or only its gradient) NaN at some steps."""
    original, calls = Grace.loss, [0]

    def loss(self: Grace, *arguments: object, **named: object) -> Tensor:
        value = original(self, *arguments, **named)
        calls[0] += 1
        if calls[0] not in bad_steps:
            return value
        if only_gradient:
            # The derivative of a root at 0 is infinite, times 0 it is NaN; the value stays finite.
            return value + 0 * (self.temperature * 0).sqrt()
        return value * float("nan")

    monkeypatch.setattr(Grace, "loss", loss)
    return calls


@pytest.mark.parametrize("only_gradient", [False, True])
def test_a_bad_step_is_left_out(monkeypatch: pytest.MonkeyPatch, only_gradient: bool) -> None:
    poison(monkeypatch, {2, 8, 9}, only_gradient=only_gradient)
    model = train(SMALL, labelled(), QUICK)
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_ten_bad_steps_in_a_row_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, set(range(4, 99)))
    with pytest.raises(DataError, match=r"not finite|finite loss"):
        train(SMALL, labelled(), replace(QUICK, batch=2))


def test_an_epoch_without_a_good_step_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few steps in all, ten in a row may never come: a model that was not trained must not be returned."""
    poison(monkeypatch, set(range(99)))
    with pytest.raises(DataError, match="no step of epoch 0"):
        train(SMALL, labelled(), replace(QUICK, epochs=2))


def test_tokens_that_are_not_finite_are_named() -> None:
    visual, texts, target = labelled_clips()
    visual[5, 0, 0, 0] = float("inf")
    with pytest.raises(DataError, match="1 clips are not finite, the first at row 5"):
        train(SMALL, dataset(visual, texts, target), QUICK)


def test_too_few_clips() -> None:
    visual, texts, target = labelled_clips()
    with pytest.raises(DataError, match="at least 2"):
        train(SMALL, dataset(visual[:1], texts[:1], target[:1]), QUICK)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": -1}, {"batch": 1}, {"learning_rate": 0.0}, {"learning_rate": 3.0}, {"save_every_epochs": 0}, {"warmup_share": 1.0},
        {"warmup_share": 2.0}, {"token_drop": 7.0}, {"token_drop": -0.1}, {"token_noise": -1.0}, {"weight_decay": -1.0}, {"start_strength": float("nan")},
    ],
)  # fmt: skip
def test_wrong_settings(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        replace(QUICK, **change)


def test_steps_have_seeds_of_their_own() -> None:
    """Also beyond 1,009 steps an epoch, and in the next epoch and for the next seed."""
    seeds = {step_seed(seed, epoch, step) for seed in (0, 1) for epoch in (0, 1, 2, 991) for step in range(2500)}
    assert len(seeds) == 2 * 4 * 2500
    assert step_seed(3, 2, 5) == 3 * 1_000_003 + 2 * 1009 + 5, "the draws of trainings so far"


def rows_of(clips: np.ndarray, batch: int, epoch: int = 0) -> list[np.ndarray]:
    return list(epoch_rows(clips, batch=batch, seed=0, epoch=epoch))


def test_batches_hold_every_clip_once() -> None:
    assert sorted(np.concatenate(rows_of(np.arange(40), 16)).tolist()) == list(range(40))
    # A rest smaller than half a batch would give a step much weight for little; it is left out.
    assert len(np.concatenate(rows_of(np.arange(37), 16))) == 32
    assert [len(rows) for rows in rows_of(np.arange(3), 16)] == [3]


def test_batches_hold_one_view_of_every_clip() -> None:
    clips = number_clips([f"clip {i * 7 % 16}" for i in range(40)])
    assert [list(clips).index(number) for number in range(16)] == sorted(list(clips).index(n) for n in range(16))
    epochs = [np.concatenate(rows_of(clips, 8, epoch)) for epoch in range(30)]
    assert all(sorted(clips[rows]) == list(range(16)) for rows in epochs)
    drawn = np.bincount(np.concatenate(epochs), minlength=40)
    for number in range(16):
        own = drawn[clips == number]
        assert own.sum() == 30
        assert own.min() >= 3, "every view has its turn"


def test_a_state_of_other_views_is_refused(tmp_path: Path) -> None:
    visual, texts, target = labelled_clips()
    config = replace(QUICK, epochs=2)
    train(SMALL, dataset(visual, texts, target), config, state=tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        train(SMALL, dataset(visual, texts, target, clips=np.arange(len(target)) // 2), config, state=tmp_path)


def test_views_that_look_alike_change_nothing() -> None:
    """Order, length of an epoch and the weights of classes follow the clips, not their views."""
    visual, texts, target = labelled_clips()
    chosen = np.concatenate(
        [np.flatnonzero(target == 0)[:4], np.flatnonzero(target > 0)]
    )  # unequal classes have weights
    visual, texts, target = visual[torch.from_numpy(chosen)], [texts[i] for i in chosen], target[chosen]
    plain = train(SMALL, dataset(visual, texts, target), QUICK)
    number = np.where(target == 0, 3, 1)  # the rare class has more views
    rows = np.repeat(np.arange(len(target)), number)
    views = train(SMALL, dataset(visual[torch.from_numpy(rows)], [texts[i] for i in rows], target[rows], rows), QUICK)
    assert weights(views) == weights(plain)


def test_a_batch_pads_and_masks() -> None:
    visual, texts, target = labelled_clips(4)
    batch = dataset(visual, texts, target).batch(np.arange(4))
    assert batch.text.shape == (4, 6, 12)
    assert batch.text_mask.sum(1).tolist() == [3, 4, 5, 6]
    assert not batch.text[~batch.text_mask].any()
    torch.testing.assert_close(batch.text[1, :4], texts[1].values)
    assert batch.visual.dtype == torch.float32


def test_prediction_does_not_depend_on_the_batch() -> None:
    data = dataset(*labelled_clips(10))
    model = train(SMALL, data, replace(QUICK, epochs=1))
    np.testing.assert_allclose(
        predict_probabilities(model, data, batch=3), predict_probabilities(model, data), atol=1e-4
    )
