"""The three steps of BAP: what learns, what stands still, and what an interruption changes (nothing)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_grace import dataset

from dferkit.errors import CheckpointError, ConfigError, DataError
from dferkit.models.a3lign import A3lign, A3lignConfig
from dferkit.training.phases import BapConfig, dropout_seed, paragraphs_of, train_a3lign, trainable

CONFIG = A3lignConfig(
    dim=16, token_width=12, num_sentences=4, num_tokens=3, num_frames=4, heads=2, mlp_width=24, labels=tuple("abc"), temperature=0.1,
)  # fmt: skip
SHORT = BapConfig(epochs=(2, 2, 2), batch=16)


class Tower:
    """A frozen text tower that counts how often it is asked."""

    def __init__(self) -> None:
        self.weight = torch.randn(12, 16, generator=torch.Generator().manual_seed(5))
        self.asked = 0

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        return torch.tanh(tokens.mean(1) * 20) @ self.weight


def new(config: A3lignConfig = CONFIG) -> A3lign:
    torch.manual_seed(0)
    return A3lign(config)


def train(
    model: A3lign, tower: Tower, frames: torch.Tensor, target: np.ndarray, config: BapConfig, *, clips: np.ndarray | None = None, **more: Any
) -> A3lign:  # fmt: skip
    """Train on rows of frames, each a clip of its own or a view of one."""
    return train_a3lign(model, tower, dataset(frames[:, :, None], (), target, clips), config, **more)


def clips(*, is_ordered: bool = False, count: int = 48) -> tuple[torch.Tensor, np.ndarray]:
    """Clips of three classes: a direction each; with ``is_ordered`` all have the same frames, and the order alone tells."""
    generator = torch.Generator().manual_seed(3)
    target = np.arange(count) % 3
    if is_ordered:
        course = torch.randn(4, 16, generator=generator)
        orders = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
        frames = course[orders[torch.from_numpy(target)]]
    else:
        frames = torch.randn(3, 1, 16, generator=generator)[torch.from_numpy(target)].expand(-1, 4, -1)
    return (frames + 0.1 * torch.randn(count, 4, 16, generator=generator)), target


def weights(model: A3lign, part: str) -> torch.Tensor:
    value = getattr(model, part)
    return (
        value.detach().clone()
        if isinstance(value, torch.Tensor)
        else torch.cat([p.detach().flatten() for p in value.parameters()])
    )


@pytest.mark.parametrize(
    ("epochs", "learns"),
    [((1, 0, 1), {"mat", "text_dynamic", "joint"}), ((0, 1, 1), {"mat", "image_dynamic", "joint"}), ((0, 0, 1), {"mat", "joint"})],
)  # fmt: skip
def test_what_learns(epochs: tuple[int, int, int], learns: set[str]) -> None:
    model, (frames, target) = new(), clips()
    before = {part: weights(model, part) for part in ("mat", "text_dynamic", "image_dynamic", "joint")}
    train(model, Tower(), frames, target, replace(SHORT, epochs=epochs))
    assert {part for part, old in before.items() if not torch.equal(old, weights(model, part))} == learns


def test_only_its_own_parameters_get_gradients_in_each_step() -> None:
    model, (frames, target) = new(), clips()
    labels = torch.from_numpy(target)
    for step, names in ((1, ("mat", "text_dynamic")), (2, ("image_dynamic",)), (3, ("mat", "joint"))):
        chosen = {id(p) for group in trainable(model, step).values() for p in group}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in chosen)
            parameter.grad = None
        torch.nn.functional.cross_entropy(model(frames, paragraphs_of(model, Tower()), step=step), labels).backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == name.startswith(names), (step, name)


@pytest.mark.parametrize(("epochs", "is_handed_over"), [((1, 1, 1), True), ((0, 0, 1), False)])
def test_the_third_step_begins_where_the_second_ended(epochs: tuple[int, int, int], is_handed_over: bool) -> None:
    """The joint module's first layers are the image encoder's when step 3 begins; trained all together from the start they are its own."""
    found: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []

    class Watched(A3lign):
        def forward(self, *given: torch.Tensor, step: int) -> torch.Tensor:  # type: ignore[override]
            if step == 3 and not found:
                layers = self.joint.layers[: self.joint.shared_layers], self.image_dynamic.layers
                joint, image = ([p.detach().clone() for layer in some for p in layer.parameters()] for some in layers)
                found.append((joint, image))
            return super().forward(*given, step=step)

    frames, target = clips()
    torch.manual_seed(0)
    model = Watched(CONFIG)
    before = [
        p.detach().clone() for layer in model.joint.layers[: model.joint.shared_layers] for p in layer.parameters()
    ]
    train(model, Tower(), frames, target, replace(SHORT, epochs=epochs))
    ((joint, image),) = found
    assert len(joint) > 10
    expected = image if is_handed_over else before
    assert all(torch.equal(a, b) for a, b in zip(joint, expected, strict=False))
    assert not all(torch.equal(a, b) for a, b in zip(joint, before if is_handed_over else image, strict=False))


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    frames, target = clips()
    frames[5] = torch.nan
    with pytest.raises(DataError, match=r"loss of step 1 was not finite in epoch 1; lower"):
        train(new(), Tower(), frames, target, SHORT, state=tmp_path)
    assert not list(tmp_path.rglob("*.safetensors")), "nothing to go on from"


@pytest.mark.gpu
def test_a_gpu_learns_the_same() -> None:
    class OnGpu(Tower):
        def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
            return torch.tanh(tokens.mean(1) * 20) @ self.weight.to(tokens.device)

    (frames, target), config = clips(), replace(SHORT, epochs=(3, 3, 3))
    model, other = train(new(), Tower(), frames, target, config), new()
    train(other.cuda(), OnGpu(), frames, target, config)
    with torch.no_grad():
        answers = [m(frames, paragraphs_of(m, Tower()), step=3).softmax(1) for m in (model, other)]
    torch.testing.assert_close(*answers, atol=0.05, rtol=0)


def test_the_second_step_asks_the_text_tower_once() -> None:
    model, (frames, target), tower = new(), clips(), Tower()
    train(model, tower, frames, target, replace(SHORT, epochs=(0, 5, 1)))
    assert tower.asked == 1 + 3, "once for five epochs of step 2, and for each of the three batches of step 3"


def test_what_is_computed_once_changes_no_weight() -> None:
    """Step 2 on paragraphs that are computed anew for every batch."""
    from dferkit.training.phases import _batches

    (frames, target), config = clips(), replace(SHORT, epochs=(0, 3, 1))
    cached = new()
    train(cached, Tower(), frames, target, config)
    plain, labels = new(), torch.from_numpy(target)
    optimizer = torch.optim.SGD(
        plain.image_dynamic.parameters(), lr=config.module_rate, momentum=0.9, weight_decay=1e-4
    )
    for epoch in range(3):
        optimizer.param_groups[0]["lr"] = config.module_rate * 0.1 ** sum(epoch >= fall * 3 for fall in config.falls)
        for batch in _batches(np.arange(len(labels)), config, 2, epoch):
            loss = torch.nn.functional.cross_entropy(
                plain(frames[batch], paragraphs_of(plain, Tower()), step=2), labels[batch]
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    torch.testing.assert_close(weights(cached, "image_dynamic"), weights(plain, "image_dynamic"))


def test_views_that_look_alike_change_nothing() -> None:
    frames, target = clips()
    plain = train(new(), Tower(), frames, target, SHORT)
    twice = train(
        new(),
        Tower(),
        frames.repeat_interleave(2, 0),
        target.repeat(2),
        SHORT,
        clips=np.repeat(np.arange(len(target)), 2),
    )
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), twice.state_dict().values(), strict=True))


def test_an_epoch_shows_one_view_of_every_clip() -> None:
    frames, target = clips(count=12)
    seen: list[torch.Tensor] = []

    class Watched(A3lign):
        def forward(self, some: torch.Tensor, *rest: torch.Tensor, step: int) -> torch.Tensor:  # type: ignore[override]
            seen.append(some)
            return super().forward(some, *rest, step=step)

    views = torch.stack([frames, -frames], 1).flatten(0, 1)
    torch.manual_seed(0)
    model = Watched(CONFIG)
    train(model, Tower(), views, target.repeat(2), replace(SHORT, epochs=(4, 0, 1)), clips=np.repeat(np.arange(12), 2))
    assert [len(some) for some in seen] == [12] * 5, "an epoch is as long as without views"
    drawn = [[int((views == some).flatten(1).all(1).nonzero()) for some in epoch] for epoch in seen]
    assert all(sorted(row // 2 for row in rows) == list(range(12)) for rows in drawn)
    assert len({row for rows in drawn for row in rows}) > 20, "other views in other epochs"


@pytest.mark.parametrize("mode", ["shared", "concat", "none"])
def test_it_learns(mode: str) -> None:
    config = replace(CONFIG, joint_mode=mode)
    (frames, target), tower = clips(), Tower()
    model = train(new(config), tower, frames, target, BapConfig(epochs=(15, 8, 15), batch=16, token_rate=0.05))
    with torch.no_grad():
        answer = model(frames, paragraphs_of(model, tower)).argmax(1).numpy()
    assert (answer == target).mean() > 0.95


def test_order_is_learned_where_order_is_all_there_is() -> None:
    (frames, target), tower = clips(is_ordered=True, count=96), Tower()
    model = train(new(), tower, frames, target, BapConfig(epochs=(2, 30, 40), batch=16, token_rate=0.05))
    with torch.no_grad():
        paragraphs = paragraphs_of(model, tower)
        right = (model(frames, paragraphs).argmax(1).numpy() == target).mean()
        turned = (model(frames.flip(1), paragraphs).argmax(1).numpy() == target).mean()
    assert right > 0.9
    assert turned < 0.5


def test_the_same_seed_gives_the_same_bytes_and_an_interruption_changes_nothing(tmp_path: Path) -> None:
    frames, target = clips()
    whole = train(new(), Tower(), frames, target, SHORT)

    class Stop(Exception):
        pass

    for stop_at in (1, 3, 5):
        state = tmp_path / str(stop_at)

        def stop(done: int, of: int, loss: float, stop_at: int = stop_at) -> None:
            if done == stop_at:
                raise Stop

        with pytest.raises(Stop):
            train(new(), Tower(), frames, target, SHORT, state=state, on_progress=stop)
        resumed = train(new(), Tower(), frames, target, SHORT, state=state)
        for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
            assert torch.equal(a, b), (stop_at, name)
    with pytest.raises(CheckpointError, match="other settings"):
        train(new(), Tower(), frames + 1, target, SHORT, state=tmp_path / "5")
    with pytest.raises(CheckpointError, match="other settings"):  # another kind of device, in place of a GPU
        train(new().to("meta"), Tower(), frames, target, replace(SHORT, epochs=(2, 0, 2)), state=tmp_path / "5")


def test_epochs_have_dropout_of_their_own() -> None:
    """Also beyond 1,000 epochs a step, and in the next step and for the next seed."""
    seeds = {dropout_seed(seed, step, epoch) for seed in (0, 1) for step in (1, 2, 3) for epoch in range(2500)}
    assert len(seeds) == 2 * 3 * 2500
    assert dropout_seed(3, 2, 999) == 3 * 1_000_003 + 2 * 1000 + 999, "the draws of trainings so far"


def test_wrong_plans_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        BapConfig(epochs=(1, 1, 0))
    with pytest.raises(ConfigError, match="three numbers"):
        BapConfig(epochs=(True, 1, 1))
    with pytest.raises(ConfigError, match="batch"):
        BapConfig(batch=0)
    for wrong in (
        {"module_rate": -1.0},
        {"token_rate": 0.0},
        {"module_rate": float("nan")},
        {"momentum": 1.0},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            BapConfig(**wrong)  # type: ignore[arg-type]
