"""Training by gradient steps, the same for every model: deterministic, and resumable after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dferkit.checks import check_counts, check_range
from dferkit.devices import device_facts
from dferkit.errors import ConfigError, DataError
from dferkit.schema import TokenBatch
from dferkit.storage import digest_arrays
from dferkit.tokens.batches import epoch_rows
from dferkit.tokens.dataset import TokenDataset
from dferkit.tokens.rows import not_finite
from dferkit.training.engine import EngineConfig, memory_advice
from dferkit.training.log import LOG, write_log
from dferkit.training.selection import EpochSelection
from dferkit.training.state import load_notes, load_state, save_state

_MOST_BAD_STEPS = 10
_STEPS_APART, _SEEDS_APART = 1009, 1_000_003


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """The budget, equal for every model of a table.

    Attributes:
        epochs: Passes over the clips; 0 only with ``train --from``, where it leaves the weights as they are.
        warmup_share: Share of the training in which the learning rate rises, 0 to below 1.
        token_noise: Standard deviation of Gaussian noise on the normalised visual tokens, in units of theirs.
        token_drop: Share of visual tokens replaced by the clip's mean.
        start_strength: With ``train --from``: after every step each weight goes back by learning rate · strength of its distance to its start (L2-SP of Li,
            Grandvalet and Davoine 2018, decoupled from the gradient as AdamW decouples its decay). 0 holds nothing.
    """

    epochs: int = 20
    batch: int = 32
    learning_rate: float = 7e-4
    weight_decay: float = 0.3
    warmup_share: float = 0.1
    seed: int = 0
    token_noise: float = 0.3
    token_drop: float = 0.1
    start_strength: float = 0.0
    save_every_epochs: int = 10

    def __post_init__(self) -> None:
        check_range(self, "epochs", "weight_decay", "token_noise", "start_strength", least=0)
        check_range(self, "batch", least=2)
        check_counts(self, "save_every_epochs")
        check_range(self, "learning_rate", above=0, below=1)
        check_range(self, "warmup_share", "token_drop", least=0, below=1)


ADAPTATION: Mapping[str, Any] = {
    "epochs": 10, "batch": 16, "learning_rate": 7e-4, "weight_decay": 0.0, "start_strength": 30.0, "save_every_epochs": 5,
}  # fmt: skip
"""Budget of ``train --from``; measured in ``docs/how-to/train-on-your-clips.md``."""


def train_steps(
    model: Any,
    data: TokenDataset,
    config: TrainingConfig,
    *,
    engine: EngineConfig | None = None,
    selection: EpochSelection | None = None,
    state: Path | None = None,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> Any:
    """Train a model in place, on its device and from the weights that it has; the last weights are returned, on the CPU.

    Every random draw is a function of (seed, epoch, step), so a run that is resumed from ``state`` ends with the same bytes.
    With a ``state``, ``training.csv`` beside it has a row per epoch.

    Args:
        selection: Scores the model after every epoch and keeps the best; it is part of the state.
        on_progress: Called with (epoch, epochs, mean loss).

    Raises:
        DataError: Too few clips, tokens that are not finite, or a loss that is not: ten times in a row, or for a whole epoch.
        CheckpointError: The state is damaged or of another run. BackendError: The memory is too small.
    """
    if len(data) < 2:
        raise DataError(f"{len(data)} training clips; give at least 2")
    if data.visual is not None and (bad := not_finite(data.visual)):
        raise DataError(
            f"the visual tokens of {len(bad)} clips are not finite, the first at row {bad[0]}; encode them again"
        )
    engine = engine or EngineConfig()
    run = _Run(model, data, config, engine)
    notes = load_notes(state) if state else {}
    best = {"best": selection.start(model, notes)} if selection else {}
    saved = None if state is None else _Saved(state, run, selection, best)
    first = saved.load(notes) if saved else 0
    for epoch in range(first // run.num_steps, config.epochs):
        mean_loss = run.epoch(epoch, from_step=first % run.num_steps, after_step=saved.after_step if saved else None)
        first = 0
        if selection:
            selection.update(run.learned)
        run.log_epoch(epoch, mean_loss, selection)
        if saved:
            saved.after_epoch(epoch)
        if on_progress:
            on_progress(epoch + 1, config.epochs, mean_loss)
    if run.average is not None:
        model.load_state_dict(run.average.state_dict())
    model.cpu().eval().finish()
    return model


class _Run:
    """One training: its optimiser, and what a step needs."""

    def __init__(self, model: Any, data: TokenDataset, config: TrainingConfig, engine: EngineConfig) -> None:
        self.model, self.data, self.config, self.engine = model, data, config, engine
        self.optimizer = build_optimizer(model, config)
        self.device = device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**10, enabled=engine.precision == "fp16")
        self.average = deepcopy(model).requires_grad_(False) if engine.average else None
        target = torch.from_numpy(data.target)
        self.counts = torch.bincount(target[data.first_rows], minlength=len(data.labels)).to(device)
        self.shown = target.unique().to(device) if engine.is_adaptation else None
        self.start = (
            {name: p.detach().clone() for name, p in model.named_parameters()}
            if engine.is_adaptation and config.start_strength
            else None
        )
        self.clips = data.clips
        self.steps_per_epoch = max(len(data.first_rows) // config.batch, 1)
        self.num_steps = len(list(epoch_rows(self.clips, batch=config.batch, seed=config.seed, epoch=0)))
        self.losses: list[float] = []
        self.bad_steps, self.updates = 0, 0
        self.log: list[dict[str, float]] = []

    @property
    def learned(self) -> Any:
        """The model that is tested and kept."""
        return self.model if self.average is None else self.average

    def notes(self) -> dict[str, Any]:
        """What the next step needs besides the weights and the optimiser."""
        counts = {"bad_steps": self.bad_steps, "updates": self.updates}
        return {**counts, "losses": self.losses, "log": self.log, "scaler": self.scaler.state_dict()}

    def resume(self, notes: Mapping[str, Any]) -> None:
        """Go on from the notes of an earlier run."""
        self.bad_steps, self.updates = notes["bad_steps"], notes["updates"]
        self.losses, self.log = notes["losses"], notes["log"]
        self.scaler.load_state_dict(notes["scaler"])

    def epoch(self, epoch: int, *, from_step: int = 0, after_step: Callable[[int, int], None] | None = None) -> float:
        """The steps of an epoch, from one of them on; the mean loss of all."""
        rows = epoch_rows(self.clips, batch=self.config.batch, seed=self.config.seed, epoch=epoch)
        for number, chosen in enumerate(rows):
            if number < from_step:
                continue
            self.model.train()
            torch.manual_seed(step_seed(self.config.seed, epoch, number))
            progress = (epoch + number / self.steps_per_epoch) / self.config.epochs
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.learning_rate * rate_of_cycle(min(progress, 1.0), self.config.warmup_share)
            loss = self.step(chosen, epoch)
            if loss is not None:
                self.losses.append(loss)
            if after_step:
                after_step(epoch, number + 1)
        if not self.losses:
            raise DataError(f"no step of epoch {epoch} had a finite loss; lower the learning rate")
        mean, self.losses = float(np.mean(self.losses)), []
        return mean

    def step(self, chosen: np.ndarray, epoch: int) -> float | None:
        """One step; None where loss or gradient was not finite and the weights stayed."""
        self.optimizer.zero_grad(set_to_none=True)
        parts = np.array_split(chosen, min(self.engine.parts, len(chosen)))
        loss = torch.zeros((), device=self.device)
        for rows in parts:
            with memory_advice(len(rows), self.device):
                part = self.loss(disturb(self.data.batch(rows), self.config).to(self.device))
                part = part if len(parts) == 1 else part * (len(rows) / len(chosen))
                self.scaler.scale(part).backward()
            loss = loss + part.detach()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.engine.clip_norm or math.inf)
        # A finite loss can have a gradient that is not: such a step would leave NaN in the weights for ever.
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            self.scaler.update()
            self.bad_steps += 1
            if self.bad_steps >= _MOST_BAD_STEPS:
                raise DataError(
                    f"the loss was not finite {self.bad_steps} times in a row in epoch {epoch}; lower the learning rate"
                )
            return None
        self.bad_steps = 0
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.hold_start()
        self.updates += 1
        if self.average is not None:
            # The first steps count less than they would in the average of a long training.
            move_average(self.average, self.model, min(self.engine.average, self.updates / (9 + self.updates)))
        return float(loss)

    def loss(self, batch: TokenBatch) -> Tensor:
        """What the step lowers, of some clips."""
        with self.engine.autocast(self.device):
            output = self.model(batch)
            target, counts = batch.target, self.counts
            assert target is not None
            if self.shown is not None:
                output, target, counts = (
                    output.among(self.shown),
                    torch.searchsorted(self.shown, target),
                    counts[self.shown],
                )
            loss: Tensor = self.model.loss(output, target, counts, soft_target=batch.soft_target)
        return loss

    def log_epoch(self, epoch: int, loss: float, selection: EpochSelection | None) -> None:
        """Add a row to the log: the rate is that of the epoch's last step."""
        row = {"epoch": epoch + 1, "loss": loss, "learning_rate": self.optimizer.param_groups[0]["lr"]}
        self.log.append(row if selection is None else {**row, "val_uar": selection.scores[-1]})

    @torch.no_grad()
    def hold_start(self) -> None:
        """The L2-SP step: move the weights towards their start."""
        if self.start is None:
            return
        share = min(self.optimizer.param_groups[0]["lr"] * self.config.start_strength, 1.0)
        for name, parameter in self.model.named_parameters():
            parameter.lerp_(self.start[name], share)


class _Saved:
    """The state of a training on disk."""

    def __init__(
        self, folder: Path, run: _Run, selection: EpochSelection | None, best: Mapping[str, nn.Module]
    ) -> None:
        self.folder, self.run, self.selection = folder, run, selection
        model = run.model
        self.settings = {
            "model": asdict(model.config),
            "training": asdict(run.config),
            "engine": asdict(run.engine),
            "data": run.data.digest,
            "start": digest_arrays({name: value.cpu().numpy() for name, value in model.state_dict().items()}),
            "selection": None if selection is None else selection.key,
            **device_facts(str(run.device)),
        }
        self.modules: dict[str, nn.Module] = {"model": model, **best}
        if run.average is not None:
            self.modules["average"] = run.average

    def load(self, notes: Mapping[str, Any]) -> int:
        """Resume; the number of steps done."""
        steps = load_state(self.folder, self.modules, self.run.optimizer, settings=self.settings)
        if steps:
            self.run.resume(notes)
        return steps

    def after_step(self, epoch: int, done: int) -> None:
        """Save in the middle of an epoch."""
        every = self.run.engine.save_every_steps
        if every and done % every == 0 and done < self.run.num_steps:
            self.save(epoch * self.run.num_steps + done)

    def after_epoch(self, epoch: int) -> None:
        """Save at the end of an epoch, and write the log."""
        config = self.run.config
        if (epoch + 1) % config.save_every_epochs == 0 or epoch + 1 == config.epochs:
            self.save((epoch + 1) * self.run.num_steps)
        write_log(self.folder / LOG, self.run.log)

    def save(self, steps: int) -> None:
        """Write the state after so many steps."""
        notes = {**self.run.notes(), **(self.selection.notes() if self.selection else {})}
        save_state(self.folder, self.modules, self.run.optimizer, step=steps, settings=self.settings, notes=notes)


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW; vectors and scalars do not decay.

    Raises:
        ConfigError: The model has no weights to train.
    """
    parameters = list(model.parameters())
    if not parameters:
        raise ConfigError("this model has no weights that steps could train")
    decay, rest = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average of the weights towards them; what is no floating-point number is copied."""
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def rate_of_cycle(progress: float, warmup: float) -> float:
    """Share of the highest learning rate: a linear rise, then a cosine to a hundredth. ``progress`` and ``warmup`` are shares of the cycle."""
    if progress < warmup:
        return max(progress / warmup, 0.02)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def step_seed(seed: int, epoch: int, step: int) -> int:
    """Seed of the random draws of one step, different for every (seed, epoch, step)."""
    if step < _STEPS_APART and (epoch + 1) * _STEPS_APART < _SEEDS_APART:
        return seed * _SEEDS_APART + epoch * _STEPS_APART + step
    # Beyond these sizes the sum above would repeat itself; draws within them keep their numbers.
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0])


def disturb(batch: TokenBatch, config: TrainingConfig) -> TokenBatch:
    """Noise and dropped tokens, so that a model does not memorise a few hundred clips."""
    summary = None if batch.summary is None else _add_noise(batch.summary, (1,), config.token_noise)
    visual = batch.visual
    if visual is not None and config.token_noise:
        visual = _add_noise(visual, (1, 2), config.token_noise)
    if visual is not None and config.token_drop:
        dropped = torch.rand(visual.shape[:3]) < config.token_drop
        visual = torch.where(dropped[..., None], visual.mean((1, 2), keepdim=True), visual)
    return replace(batch, visual=visual, summary=summary)


def _add_noise(values: Tensor, axes: tuple[int, ...], strength: float) -> Tensor:
    return values + torch.randn_like(values) * values.std(axes, keepdim=True) * strength
