"""Training: the same bytes for the same seed, also after a kill; and nothing that is not finite ends in the weights."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from small_grace import SMALL, labelled_clips
from torch import Tensor

from dferkit.errors import CheckpointError, ConfigError, DataError
from dferkit.models.build import variant
from dferkit.models.grace import Grace
from dferkit.tokens.batches import collate, epoch_batches, number_clips
from dferkit.training.loop import TrainingConfig, predict_probabilities, train_grace

QUICK = TrainingConfig(epochs=6, batch=14, save_every_epochs=2)


def weights(model: Grace) -> bytes:
    return save({key: value.contiguous() for key, value in model.state_dict().items()})


class Stop(Exception):
    """Ends a training from its progress call."""


def stop_after(epoch: int) -> object:
    def progress(done: int, of: int, loss: float) -> None:
        if done == epoch:
            raise Stop

    return progress


def test_same_seed_same_bytes() -> None:
    first = train_grace(SMALL, *labelled_clips(), config=QUICK)
    np.random.default_rng(5).random(9)
    torch.manual_seed(99)
    torch.rand(7)
    assert weights(train_grace(SMALL, *labelled_clips(), config=QUICK)) == weights(first)
    assert weights(train_grace(SMALL, *labelled_clips(), config=replace(QUICK, seed=1))) != weights(first)


@pytest.mark.parametrize("name", ["grace", "grace_cosine", "vision_only", "text_only"])
def test_it_learns(name: str) -> None:
    visual, texts, target = labelled_clips()
    losses: list[float] = []
    model = train_grace(
        variant(name, SMALL),
        visual,
        texts,
        target,
        config=TrainingConfig(epochs=40, batch=14, learning_rate=5e-3, weight_decay=0.01, token_noise=0.1),
        on_progress=lambda a, b, loss: losses.append(loss),
    )
    probabilities = predict_probabilities(model, visual, texts)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (probabilities.argmax(1) == target).mean() > 0.8
    assert losses[-1] < losses[0]
    assert not model.training


@pytest.mark.parametrize("epoch", [1, 2, 3, 5])
def test_stopped_and_continued_is_uninterrupted(epoch: int, tmp_path: Path) -> None:
    whole = train_grace(SMALL, *labelled_clips(), config=QUICK)
    with pytest.raises(Stop):
        train_grace(SMALL, *labelled_clips(), config=QUICK, state=tmp_path, on_progress=stop_after(epoch))
    seen: list[int] = []
    rest = train_grace(
        SMALL, *labelled_clips(), config=QUICK, state=tmp_path, on_progress=lambda done, of, loss: seen.append(done)
    )
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
        "from small_grace import SMALL, labelled_clips\n"
        "from dferkit.training.loop import TrainingConfig, train_grace\n"
        "config = TrainingConfig(epochs=6, batch=14, save_every_epochs=2)\n"
        f"state = Path({str(tmp_path / 'state')!r})\n"
        "train_grace(SMALL, *labelled_clips(), config=config, state=state, on_progress=lambda *a: time.sleep(0.3))\n"
    )
    child = subprocess.Popen([sys.executable, str(program)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (tmp_path / "state" / "state.json").is_file():
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    rest = train_grace(SMALL, *labelled_clips(), config=QUICK, state=tmp_path / "state")
    assert weights(rest) == weights(train_grace(SMALL, *labelled_clips(), config=QUICK))


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = train_grace(SMALL, *labelled_clips(), config=QUICK, state=tmp_path)
    again = train_grace(
        SMALL, *labelled_clips(), config=QUICK, state=tmp_path, on_progress=lambda *_: pytest.fail("trained")
    )
    assert weights(again) == weights(first)


@pytest.mark.parametrize("changed", [{"epochs": 7}, {"seed": 1}, {"token_noise": 0.0}])
def test_a_state_of_other_settings_is_refused(changed: dict[str, object], tmp_path: Path) -> None:
    train_grace(SMALL, *labelled_clips(), config=replace(QUICK, epochs=2), state=tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        train_grace(SMALL, *labelled_clips(), config=replace(QUICK, **{"epochs": 2, **changed}), state=tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        train_grace(replace(SMALL, text="sentence"), *labelled_clips(), config=replace(QUICK, epochs=2), state=tmp_path)


def test_a_state_of_other_clips_or_another_joint_space_is_refused(tmp_path: Path) -> None:
    visual, texts, target = labelled_clips()
    config, joint = replace(QUICK, epochs=2), Grace(SMALL).space.state_dict()
    train_grace(SMALL, visual, texts, target, config=config, joint=joint, state=tmp_path)
    changed = {name: value + (name == "mass.bias") for name, value in joint.items()}
    for clips, space in (((visual + 1, texts, target), joint), ((visual, texts, target[::-1]), joint)):
        with pytest.raises(CheckpointError, match="other settings"):
            train_grace(SMALL, *clips, config=config, joint=space, state=tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        train_grace(SMALL, visual, texts, target, config=config, joint=changed, state=tmp_path)


def poison(monkeypatch: pytest.MonkeyPatch, bad_steps: set[int], *, only_gradient: bool = False) -> list[int]:
    """Make the loss (or only its gradient) NaN at some steps."""
    original, calls = Grace.loss, [0]

    def loss(self: Grace, *arguments: object, **named: object) -> Tensor:
        value = original(self, *arguments)
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
    model = train_grace(SMALL, *labelled_clips(), config=QUICK)
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_ten_bad_steps_in_a_row_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, set(range(4, 99)))
    with pytest.raises(DataError, match=r"not finite|finite loss"):
        train_grace(SMALL, *labelled_clips(), config=replace(QUICK, batch=2))


def test_an_epoch_without_a_good_step_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few steps in all, ten in a row may never come: a model that was not trained must not be returned."""
    poison(monkeypatch, set(range(99)))
    with pytest.raises(DataError, match="no step of epoch 0"):
        train_grace(SMALL, *labelled_clips(), config=replace(QUICK, epochs=2))


def test_tokens_that_are_not_finite_are_named() -> None:
    visual, texts, target = labelled_clips()
    visual[5, 0, 0, 0] = float("inf")
    with pytest.raises(DataError, match="1 clips are not finite, the first at place 5"):
        train_grace(SMALL, visual, texts, target, config=QUICK)


def test_too_few_clips() -> None:
    visual, texts, target = labelled_clips()
    with pytest.raises(DataError, match="at least 2"):
        train_grace(SMALL, visual[:1], texts[:1], target[:1], config=QUICK)


@pytest.mark.parametrize("change", [{"epochs": 0}, {"batch": 1}, {"learning_rate": 0.0}, {"learning_rate": 3.0}])
def test_wrong_settings(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        replace(QUICK, **change)


def test_batches_hold_every_clip_once() -> None:
    visual, texts, _ = labelled_clips(40)
    labels = torch.arange(40)
    seen = torch.cat([b.target for b in epoch_batches(visual, texts, labels, batch=16, seed=0, epoch=0)])
    assert sorted(seen.tolist()) == list(range(40))
    # A rest smaller than half a batch would give a step much weight for little; it is left out.
    seen = torch.cat([b.target for b in epoch_batches(visual[:37], texts[:37], labels[:37], batch=16, seed=0, epoch=0)])
    assert len(seen) == 32
    small = list(epoch_batches(visual[:3], texts[:3], labels[:3], batch=16, seed=0, epoch=0))
    assert [len(b.target) for b in small] == [3]


def test_batches_hold_one_view_of_every_clip() -> None:
    visual, texts, _ = labelled_clips(40)
    clips = number_clips([f"clip {i * 7 % 16}" for i in range(40)])
    assert [list(clips).index(number) for number in range(16)] == sorted(list(clips).index(n) for n in range(16))
    epochs = [
        torch.cat(
            [b.target for b in epoch_batches(visual, texts, torch.arange(40), batch=8, seed=0, epoch=e, clips=clips)]
        )
        for e in range(30)
    ]
    assert all(sorted(clips[rows]) == list(range(16)) for rows in epochs)
    drawn = torch.bincount(torch.cat(epochs), minlength=40).numpy()
    for number in range(16):
        own = drawn[clips == number]
        assert own.sum() == 30
        assert own.min() >= 3, "every view has its turn"


def test_views_of_one_clip_each_are_the_clips(tmp_path: Path) -> None:
    """Naming rows as clips of their own changes no byte; other groups are another training."""
    visual, texts, target = labelled_clips()
    plain = train_grace(SMALL, visual, texts, target, config=QUICK)
    config = replace(QUICK, epochs=2)
    named = train_grace(SMALL, visual, texts, target, config=QUICK, clips=np.arange(len(target)))
    assert weights(plain) == weights(named)
    train_grace(SMALL, visual, texts, target, config=config, state=tmp_path, clips=np.arange(len(target)))
    with pytest.raises(CheckpointError, match="other settings"):
        train_grace(SMALL, visual, texts, target, config=config, state=tmp_path, clips=np.arange(len(target)) // 2)


def test_views_that_look_alike_change_nothing() -> None:
    """Order, length of an epoch and the weights of classes follow the clips, not their views."""
    visual, texts, target = labelled_clips()
    chosen = np.concatenate(
        [np.flatnonzero(target == 0)[:4], np.flatnonzero(target > 0)]
    )  # unequal classes have weights
    visual, texts, target = visual[torch.from_numpy(chosen)], [texts[i] for i in chosen], target[chosen]
    plain = train_grace(SMALL, visual, texts, target, config=QUICK)
    number = np.where(target == 0, 3, 1)  # the rare class has more views
    rows = np.repeat(np.arange(len(target)), number)
    views = train_grace(
        SMALL, visual[torch.from_numpy(rows)], [texts[i] for i in rows], target[rows], config=QUICK, clips=rows
    )
    assert weights(views) == weights(plain)


def test_collate_pads_and_masks() -> None:
    visual, texts, target = labelled_clips(4)
    batch = collate(visual, texts, torch.from_numpy(target))
    assert batch.text.shape == (4, 6, 12)
    assert batch.text_mask.sum(1).tolist() == [3, 4, 5, 6]
    assert not batch.text[~batch.text_mask].any()
    torch.testing.assert_close(batch.text[1, :4], texts[1].values)
    assert batch.visual.dtype == torch.float32


def test_prediction_does_not_depend_on_the_batch() -> None:
    visual, texts, target = labelled_clips(10)
    model = train_grace(SMALL, visual, texts, target, config=replace(QUICK, epochs=1))
    np.testing.assert_allclose(
        predict_probabilities(model, visual, texts, batch=3), predict_probabilities(model, visual, texts), atol=1e-4
    )
