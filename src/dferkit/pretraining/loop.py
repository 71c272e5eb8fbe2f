"""The loop that every training of this package runs: AdamW, a learning rate per step, a state on disk to resume from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dferkit.training.state import load_state, save_state

Progress = Callable[[int, int, str], None]  # steps done, steps in all, a note
_SEEDS_APART = 1_000_003


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Length and speed of a training.

    Attributes:
        rate: Learning rate of a step, counted from 0.
        report_every: Steps between two reports; a report gives the mean loss of these steps.
    """

    steps: int
    rate: Callable[[int], float]
    weight_decay: float
    report_every: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumable:
    """The state of a training on disk.

    Attributes:
        modules: What is saved, by name. settings: A state of other settings is refused. every: Steps between two saves.
    """

    folder: Path
    modules: Mapping[str, nn.Module]
    settings: Mapping[str, Any]
    every: int


def minimise(
    loss: Callable[[int], Tensor],
    parameters: Sequence[Tensor],
    schedule: Schedule,
    *,
    state: Resumable | None = None,
    after_step: Callable[[int], None] | None = None,
    on_progress: Progress | None = None,
) -> list[float]:
    """Train ``parameters`` in place.

    Args:
        loss: Loss of a step, counted from 0. With a ``state`` it must be a function of the step alone, so that a resumed training ends with the
            same weights.
        after_step: Called with the number of finished steps before the state is saved.
        on_progress: Called every ``report_every`` steps and after every save.

    Returns:
        The losses of the steps of this call.

    Raises:
        CheckpointError: The state on disk is damaged or belongs to other settings.
    """
    optimizer = torch.optim.AdamW(parameters, lr=schedule.rate(0), weight_decay=schedule.weight_decay)
    step = load_state(state.folder, state.modules, optimizer, settings=state.settings) if state else 0
    losses: list[float] = []
    while step < schedule.steps:
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        value = loss(step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(float(value.detach()))
        step += 1
        if after_step:
            after_step(step)
        is_saved = state is not None and (step % state.every == 0 or step == schedule.steps)
        if state and is_saved:
            save_state(state.folder, state.modules, optimizer, step=step, settings=state.settings)
        if on_progress and (is_saved or step % schedule.report_every == 0):
            on_progress(step, schedule.steps, f"loss {np.mean(losses[-schedule.report_every :]):.3f}")
    return losses


def seed_step(seed: int, step: int) -> None:
    """Make dropout and noise a function of the step, so that a resumed training draws the same."""
    torch.manual_seed(seed * _SEEDS_APART + step)


def has_fast_bfloat16(device: str) -> bool:
    """Whether the graphics card computes in bfloat16, or the processor has AMX tiles."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported()
    check = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(check and check())


def autocast(device: str, *, use_bfloat16: bool | None = None) -> torch.autocast:
    """Computation in bfloat16; None uses it where it is fast."""
    enabled = has_fast_bfloat16(device) if use_bfloat16 is None else use_bfloat16
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=enabled)
