"""The epoch that is kept, soft labels, and tokens that stay on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from small_grace import SMALL, dataset, labelled, labelled_clips
from torch.nn import functional as F

from dferkit.errors import CheckpointError
from dferkit.losses import weighted_focal
from dferkit.models.grace import Grace
from dferkit.tokens.dataset import TokenDataset
from dferkit.tokens.rows import TokenRows, digest_rows, not_finite, take_rows
from dferkit.training.loop import TrainingConfig, train_steps
from dferkit.training.score import predict_probabilities
from dferkit.training.selection import EpochSelection

QUICK = TrainingConfig(epochs=6, batch=14, save_every_epochs=2, learning_rate=3e-3)


def train(data: TokenDataset, config: TrainingConfig, **more: Any) -> Grace:
    """A new model, trained."""
    torch.manual_seed(config.seed)
    return train_steps(Grace(SMALL), data, config, **more)


def weights(model: Grace) -> bytes:
    return save({key: value.contiguous() for key, value in model.state_dict().items()})


class Scripted(EpochSelection):
    """Scores that are known beforehand, in place of a look at clips."""

    def __init__(self, scores: list[float]) -> None:
        self.script, self.seen = scores, []
        super().__init__(self._answer, np.arange(4), 4)

    def _answer(self, model: Grace) -> np.ndarray:
        self.seen.append(weights(model))
        right = round(4 * self.script[len(self.scores)])
        return np.eye(4)[[i if i < right else (i + 1) % 4 for i in range(4)]]


def test_the_earliest_of_the_best_is_kept() -> None:
    chosen = Scripted([0.25, 0.75, 0.5, 0.75, 0.0, 0.25])
    last = train(labelled(), QUICK, selection=chosen)
    assert chosen.scores == chosen.script
    assert chosen.epoch == 2
    assert chosen.best is not None
    assert weights(chosen.best) == chosen.seen[1]
    assert weights(last) == chosen.seen[5]
    # Looking changes nothing: the same run without it ends with the same weights.
    assert weights(train(labelled(), QUICK)) == weights(last)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_selection_goes_on_after_an_interruption(tmp_path: Path, stop: int) -> None:
    script = [0.25, 0.75, 0.5, 1.0, 0.0, 0.25]

    class Stop(Exception):
        pass

    def end(done: int, of: int, loss: float) -> None:
        if done == stop:
            raise Stop

    whole = Scripted(script)
    train(labelled(), QUICK, selection=whole)
    with pytest.raises(Stop):
        train(labelled(), QUICK, selection=Scripted(script), state=tmp_path, on_progress=end)
    again = Scripted(script)
    train(labelled(), QUICK, selection=again, state=tmp_path)
    assert (again.scores, again.epoch) == (script, 4)
    assert again.best is not None
    assert whole.best is not None
    assert weights(again.best) == weights(whole.best)


def test_a_state_of_other_clips_is_not_continued(tmp_path: Path) -> None:
    """Other held-out clips or other captions of the same clips: another run."""
    visual, texts, target = labelled_clips()

    class Known(Scripted):
        def __init__(self, key: str) -> None:
            super().__init__([0.25] * 6)
            self.key = key

    train(dataset(visual, texts, target), QUICK, selection=Known("a"), state=tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        train(dataset(visual, texts, target), QUICK, selection=Known("b"), state=tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        train(dataset(visual, texts[::-1], target), QUICK, selection=Known("a"), state=tmp_path)
    train(dataset(visual, texts, target), QUICK, selection=Known("a"), state=tmp_path)


def test_shares_are_a_soft_target() -> None:
    """With gamma 0 it is torch's cross-entropy with probabilities; a share of 1 is the hard target."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 7, generator=generator)
    shares = torch.rand(5, 7, generator=generator).softmax(1)
    nothing = torch.zeros(5, dtype=torch.long)
    torch.testing.assert_close(
        weighted_focal(logits, nothing, gamma=0.0, shares=shares), F.cross_entropy(logits, shares)
    )
    target = torch.tensor([1, 4, 0, 6, 2])
    hard = weighted_focal(logits, target, gamma=2.0, label_smoothing=0.1)
    soft = weighted_focal(logits, nothing, gamma=2.0, label_smoothing=0.1, shares=F.one_hot(target, 7).float())
    torch.testing.assert_close(hard, soft)


def test_training_on_shares_moves_the_answers_towards_them() -> None:
    visual, texts, target = labelled_clips()
    num_classes = len(SMALL.labels)
    other = (target + 1) % num_classes
    shares = 0.5 * np.eye(num_classes)[target] + 0.5 * np.eye(num_classes)[other]
    config = TrainingConfig(epochs=40, batch=14, learning_rate=5e-3, weight_decay=0.01, token_noise=0.1)
    data = dataset(visual, texts, target)
    hard, soft = (predict_probabilities(train(replace(data, soft_target=s), config), data) for s in (None, shares))
    rows = np.arange(len(target))
    assert soft[rows, other].mean() > hard[rows, other].mean() + 0.1


def stored(folder: Path, values: torch.Tensor, per_shard: int) -> TokenRows:
    paths, places = [], []
    for number, part in enumerate(values.split(per_shard)):
        paths.append(folder / f"{number}.safetensors")
        save_file({"visual": part.contiguous()}, paths[-1])
        places += [(number, row) for row in range(len(part))]
    return TokenRows(
        tuple(paths), "visual", np.array(places), tuple(values.shape[1:]), values.dtype, tuple(map(str, range(len(paths))))
    )  # fmt: skip


def test_rows_on_disk_are_the_rows(tmp_path: Path) -> None:
    values = torch.randn(23, 2, 3, 4, generator=torch.Generator().manual_seed(1)).half()
    rows = stored(tmp_path, values, 5)
    assert rows.shape == tuple(values.shape)
    assert rows.num_bytes == values.numel() * 2
    index = torch.tensor([22, 0, 7, 7, 13])
    assert torch.equal(rows[index], values[index])
    assert torch.equal(rows[3:9], values[3:9])
    some = take_rows(rows, np.array([4, 20, 1]))
    assert isinstance(some, TokenRows)
    assert torch.equal(some.load(), values[[4, 20, 1]])
    assert digest_rows(rows) != digest_rows(some)
    assert not_finite(values) == []
    broken = values.clone()
    broken[6, 0, 0, 0] = float("nan")
    assert not_finite(broken) == [6]


def test_training_from_disk_gives_the_same_bytes(tmp_path: Path) -> None:
    visual, texts, target = labelled_clips()
    rows = stored(tmp_path, visual, 9)
    in_memory, on_disk = dataset(visual, texts, target), dataset(rows, texts, target)
    held, read = train(in_memory, QUICK), train(on_disk, QUICK)
    assert weights(held) == weights(read)
    np.testing.assert_array_equal(predict_probabilities(held, in_memory), predict_probabilities(read, on_disk))
    state = tmp_path / "state"
    train(on_disk, replace(QUICK, epochs=2), state=state)
    assert (state / "state.json").is_file()
