"""The Bidirectional Alignment Training Paradigm (BAP) of A³lign-DFER: what is trained when, and what is computed once.

1. the class paragraphs and the text dynamic encoder are trained to match the mean of a clip's frames;
2. the image dynamic encoder is trained to match the paragraphs, which are fixed and computed once;
3. the joint module, which begins with the first layers of the image encoder, and the paragraphs learn together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dferkit.checks import check_counts, check_range
from dferkit.devices import device_facts
from dferkit.errors import ConfigError, DataError
from dferkit.models.a3lign import A3lign
from dferkit.storage import digest_arrays
from dferkit.tokens.batches import draw_views
from dferkit.tokens.dataset import TokenDataset
from dferkit.training.state import load_state, save_state

TextTower = Callable[[Float[Tensor, "sentences tokens width"]], Float[Tensor, "sentences dim"]]
_EPOCHS_APART, _STEPS_APART = 1000, 1_000_003


@dataclass(frozen=True, kw_only=True, slots=True)
class BapConfig:
    """How long and how fast.

    Attributes:
        epochs: Of the three steps; a step with 0 is left out, as is step 2 of a model without dynamic modules.
        is_staged: False trains everything together from the start, for as many epochs in all ("no BAP").
        token_rate, module_rate: Learning rates of the paragraphs' tokens and of the dynamic modules (DFER-CLIP's).
        falls: Shares of a step after which the rates fall to a tenth.
        use_bfloat16: Run the text tower in half the memory while it trains; an answer then differs in the third digit.
    """

    epochs: tuple[int, int, int] = (40, 30, 30)
    batch: int = 64
    token_rate: float = 2e-3
    module_rate: float = 1e-2
    momentum: float = 0.9
    weight_decay: float = 1e-4
    falls: tuple[float, ...] = (0.6, 0.8)
    use_bfloat16: bool = False
    is_staged: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if any(not isinstance(value, int | float) or not 0 < value < 1 for value in self.falls):
            raise ConfigError(f"falls are {self.falls}; give shares of a step, between 0 and 1")
        if any(type(value) is not int for value in self.epochs) or not (
            len(self.epochs) == 3 and min(self.epochs) >= 0 and self.epochs[2]
        ):
            raise ConfigError(
                f"epochs are {self.epochs}; give three numbers of 0 or more, the last (the finished model) at least 1"
            )
        check_counts(self, "batch")
        check_range(self, "token_rate", "module_rate", above=0, below=1)
        check_range(self, "momentum", "weight_decay", least=0, below=1)


def epochs_of(model: A3lign, config: BapConfig) -> tuple[int, int, int]:
    """Epochs of the three steps for this model: without dynamic modules step 2 has nothing to train."""
    first, second, third = config.epochs
    if model.config.joint_mode == "none":
        return 0, 0, first + third
    return (first, second, third) if config.is_staged else (0, 0, first + second + third)


def trainable(model: A3lign, step: int) -> dict[str, list[nn.Parameter]]:
    """Parameters that learn in a step: ``tokens`` and ``modules``."""
    if model.config.joint_mode == "none":
        return {"tokens": [model.mat], "modules": []}
    match step:
        case 1:
            return {"tokens": [model.mat], "modules": list(model.text_dynamic.parameters())}
        case 2:
            return {"tokens": [], "modules": list(model.image_dynamic.parameters())}
        case _:
            return {"tokens": [model.mat], "modules": list(model.joint.parameters())}


def paragraphs_of(model: A3lign, tower: TextTower) -> Float[Tensor, "classes sentences dim"]:
    """Text features of every sentence of every class."""
    return tower(model.mat.flatten(0, 1)).unflatten(0, model.mat.shape[:2])


def train_a3lign(
    model: A3lign,
    tower: TextTower,
    data: TokenDataset,
    config: BapConfig,
    *,
    state: Path | None = None,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> A3lign:
    """Train through the steps; the same call resumes from ``state`` after an interruption.

    Args:
        model: Is changed in place, on its device, and ends on the CPU; the same bytes are promised on the CPU only.
        tower: The frozen CLIP's (``ClipEncoder.encode_embeddings``), on that device; of a large CLIP it takes days on a CPU.
        data: With CLIP's features of frames; every epoch draws one view of each clip.
        state: Folder for the state from which an interrupted run resumes. on_progress: Called with (epochs done, of, mean loss).

    Returns:
        The model, in evaluation mode.
    """
    epochs = epochs_of(model, config)
    rows = _ClipRows(data.visual_in_memory()[:, :, 0].float(), torch.from_numpy(data.target).long(), data.clips)
    for step, count in zip((1, 2, 3), epochs, strict=True):
        if step == 3 and (epochs[0] or epochs[1]):
            model.joint.start_from(model.text_dynamic, model.image_dynamic)
        if count:
            before = sum(epochs[: step - 1])

            def report(done: int, loss: float, before: int = before) -> None:
                if on_progress:
                    on_progress(before + done, sum(epochs), loss)

            trained = _Step(model, tower, config, step, count)
            _train_step(trained, rows, state and state / f"step{step}", report)
    return model.cpu().eval()


@dataclass(frozen=True, slots=True)
class _ClipRows:
    """Features and class of every row, and the number of its clip."""

    frames: Tensor
    labels: Tensor
    clips: np.ndarray


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of the paradigm: what is trained, and for how long."""

    model: A3lign
    tower: TextTower
    config: BapConfig
    number: int
    epochs: int


def _train_step(step: _Step, rows: _ClipRows, state: Path | None, report: Callable[[int, float], None]) -> None:
    """One step, with an optimizer of its own."""
    model, config, parts = step.model, step.config, trainable(step.model, step.number)
    optimizer = torch.optim.SGD(
        [
            {"params": parts[name], "lr": rate, "highest": rate}
            for name, rate in (("tokens", config.token_rate), ("modules", config.module_rate))
            if parts[name]
        ],
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    chosen = {id(parameter) for group in parts.values() for parameter in group}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    arrays = {"frames": rows.frames.numpy(), "target": rows.labels.numpy(), "clips": rows.clips}
    clips = digest_arrays(arrays) if state else ""
    settings = {**asdict(config), **asdict(model.config), "clips": clips, **device_facts(str(model.mat.device))}
    first = load_state(state, {"model": model}, optimizer, settings=settings) if state else 0
    fixed = None
    if not parts["tokens"]:
        with torch.no_grad():
            fixed = paragraphs_of(model, step.tower)
    for epoch in range(first, step.epochs):
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] * 0.1 ** sum(epoch >= fall * step.epochs for fall in config.falls)
        losses = []
        for batch in _batches(rows.clips, config, step.number, epoch):
            model.train()
            paragraphs = paragraphs_of(model, step.tower) if fixed is None else fixed
            frames, target = (values[batch].to(model.mat.device) for values in (rows.frames, rows.labels))
            loss = F.cross_entropy(model(frames, paragraphs, step=step.number), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        if not np.isfinite(losses).all():
            raise DataError(
                f"the loss of step {step.number} was not finite in epoch {epoch + 1}; lower token_rate or module_rate"
            )
        if state:
            save_state(state, {"model": model}, optimizer, step=epoch + 1, settings=settings)
        report(epoch + 1, float(np.mean(losses)))
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def dropout_seed(seed: int, step: int, epoch: int) -> int:
    """Seed of the dropout of one epoch, different for every (seed, step, epoch)."""
    if epoch < _EPOCHS_APART:
        return seed * _STEPS_APART + step * _EPOCHS_APART + epoch
    # Beyond this the sum would repeat itself; draws below it keep their numbers.
    return int(np.random.SeedSequence([seed, step, epoch]).generate_state(1, np.uint64)[0])


def _batches(clips: np.ndarray, config: BapConfig, step: int, epoch: int) -> Sequence[Tensor]:
    """One view of every clip, a pure function of (seed, step, epoch); dropout, too."""
    torch.manual_seed(dropout_seed(config.seed, step, epoch))
    order = torch.from_numpy(draw_views(clips, np.random.default_rng([config.seed, step, epoch])))
    return order.split(config.batch)
