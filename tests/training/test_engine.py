"""How a step is computed: parts of a batch, precision, averages, clipping, and a memory that is too small."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_grace import SMALL, SMALL_FUSED, labelled

from dferkit.errors import BackendError, ConfigError
from dferkit.models.grace import Grace
from dferkit.models.grace_fused import GraceFused
from dferkit.training import loop
from dferkit.training.engine import EngineConfig
from dferkit.training.loop import TrainingConfig, move_average, train_steps
from dferkit.training.spec import TrainingSpec

TRAINING = TrainingConfig(epochs=2, batch=14, token_noise=0.0, token_drop=0.0, learning_rate=1e-3)


def train(training: TrainingConfig = TRAINING, **engine: object) -> Grace:
    torch.manual_seed(0)
    return train_steps(Grace(SMALL), labelled(), training, engine=EngineConfig(**engine))


def distance(one: torch.nn.Module, other: torch.nn.Module) -> float:
    return max(float((a - b).detach().abs().max()) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize(("model", "config"), [(Grace, SMALL), (GraceFused, SMALL_FUSED)])
def test_half_precision_learns_nearly_the_same(precision: str, model: type, config: object) -> None:
    trained = []
    for chosen in ("fp32", precision):
        torch.manual_seed(0)
        trained.append(train_steps(model(config), labelled(), TRAINING, engine=EngineConfig(precision=chosen)))
    assert 0 < distance(*trained) < 0.02
    assert all(p.dtype == torch.float32 for p in trained[1].parameters())


def test_parts_of_a_batch_make_the_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dropout, and with a loss that is a mean over clips."""
    found: list[list[torch.Tensor]] = []

    def keep(optimizer: torch.optim.AdamW, *arguments: object) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        found.append([p.grad.clone() for p in parameters])

    monkeypatch.setattr(torch.optim.AdamW, "step", keep)
    for parts in (1, 3):
        torch.manual_seed(0)
        model = Grace(replace(SMALL, dropout=0.0, weight_contrastive=0.0))
        train_steps(model, labelled(14), replace(TRAINING, epochs=1), engine=EngineConfig(parts=parts))
    whole, parts = found
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_average_is_the_mean_of_the_weights() -> None:
    mean, model = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    expected = 0.75 * mean.weight.detach() + 0.25 * model.weight.detach()
    move_average(mean, model, 0.75)
    torch.testing.assert_close(mean.weight.detach(), expected)


def test_averaged_weights_are_what_is_returned() -> None:
    plain, averaged = train(), train(average=0.9)
    torch.manual_seed(0)
    start = Grace(SMALL)
    assert 0 < distance(averaged, start) < distance(plain, start)


def test_clipping_limits_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[float] = []
    original = torch.optim.AdamW.step

    def step(optimizer: torch.optim.AdamW, *arguments: object) -> object:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        lengths.append(float(torch.stack([g.norm() for g in gradients]).norm()))
        return original(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    train(clip_norm=0.01)
    assert max(lengths) == pytest.approx(0.01, rel=1e-3)
    lengths.clear()
    train(clip_norm=0.0)
    assert max(lengths) > 0.05


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_full_memory_says_what_to_change(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Grace, batch: object) -> None:
        raise error

    monkeypatch.setattr(Grace, "forward", full)
    with pytest.raises(
        BackendError, match=r"too little memory for 7 clips .*engine\.parts=2.*bf16.*training\.batch=16"
    ):
        train(parts=2)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shape"), loop.memory_advice(3, torch.device("cpu")):
        raise RuntimeError("shape mismatch")


@pytest.mark.parametrize(
    "change", [{"precision": "int4"}, {"parts": 0}, {"clip_norm": -1.0}, {"average": 1.0}, {"save_every_steps": -1}]
)
def test_wrong_settings(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        EngineConfig(**change)


def test_settings_of_the_engine_are_given_like_others() -> None:
    spec = TrainingSpec(settings=("engine.precision=bf16", "engine.parts=4"))
    assert spec.plan().engine == EngineConfig(precision="bf16", parts=4)
    with pytest.raises(ConfigError, match="is_adaptation"):
        TrainingSpec(settings=("engine.is_adaptation=true",)).plan()
    with pytest.raises(ConfigError, match="not trained by the engine's steps"):
        TrainingSpec(model="mean_pooled", settings=("engine.parts=2",)).plan()
