"""One training loop for the box's networks: resumable, seeded, weights averaged over the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from dferkit.encoders.box_net import BoxOutput, box_loss
from dferkit.errors import ConfigError
from dferkit.evaluation.metrics import confusion_matrix, uar
from dferkit.facs import AU_NAMES
from dferkit.labels import BASIC
from dferkit.pretraining.face_shards import PROFILES, FaceShard
from dferkit.training.loop import rate_of_cycle
from dferkit.training.state import load_state, save_state

_STEPS_APART = 1_000_003

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkTrainingConfig:
    """How long and how fast.

    Attributes:
        use_bfloat16: None chooses by the processor (it trains about three times faster where there are AMX tiles).
        cycles: Last step and highest learning rate of each rise and fall of the learning rate, cut off at ``steps``.
        easy_steps: So long only posed clips are shown: weak displays teach nothing to a network that knows nothing.
        full_strength_step: From here on augmentation has its full strength.
    """

    steps: int
    cycles: tuple[tuple[int, float], ...]
    batch: int
    easy_steps: int = 0
    full_strength_step: int = 0
    weight_decay: float = 0.02
    warmup_share: float = 0.06
    seed: int = 0
    threads: int = 2
    save_every: int = 500
    use_bfloat16: bool | None = None
    average_decay: float = 0.998


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips of one step: what the network reads, and the truth."""

    inputs: tuple[Tensor, ...]
    units: Tensor
    labels: Tensor


def split_subjects(data: FaceShard) -> tuple[np.ndarray, np.ndarray]:
    """Clip numbers to train on and of held-out people (one in twelve)."""
    held = data.subject % 12 == 5
    return np.flatnonzero(~held), np.flatnonzero(held)


def chosen_clips(train: np.ndarray, config: NetworkTrainingConfig, step: int) -> np.ndarray:
    """Clips of one step: every clip once per epoch, in an order fixed by (seed, step)."""
    per_epoch = max(len(train) // config.batch, 1)
    order = np.random.default_rng([config.seed, step // per_epoch]).permutation(train)
    return order[(step % per_epoch) * config.batch :][: config.batch]


def join_outputs(parts: Sequence[BoxOutput]) -> BoxOutput:
    """Answers for several batches as one."""
    return BoxOutput(
        **{
            name: torch.cat([getattr(p, name) for p in parts])
            for name in ("tokens", "hidden", "action_units", "logits")
        }
    )


def score_network(output: BoxOutput, data: FaceShard) -> dict[str, float]:
    """UAR by profile and mean correlation of the action units that show."""
    truth, said = data.au.astype(np.float32).reshape(-1, len(AU_NAMES)), output.action_units.numpy()
    said = said.reshape(-1, len(AU_NAMES))
    shown = np.flatnonzero(truth.std(0) > 0.02)
    result = {"au_correlation": float(np.mean([np.corrcoef(truth[:, i], said[:, i])[0, 1] for i in shown]))}
    answer = output.logits.numpy().argmax(1)
    for name in PROFILES:
        chosen = data.of_profile(name)
        if chosen.any():
            result[f"uar_{name}"] = float(uar(confusion_matrix(data.label[chosen], answer[chosen], len(BASIC))))
    return result


def train_network(
    build: Callable[[], Network],
    make_batch: Callable[[int], Batch],
    score: Callable[[Network], dict[str, float]],
    folder: Path | str,
    *,
    config: NetworkTrainingConfig,
    start: Network | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Network:
    """Train, resuming from ``folder`` if a state of the same settings is there.

    The batch of a step is a pure function of the step, so an interrupted run goes on as if nothing had happened.

    Args:
        make_batch: Clips of a step; called ahead, in a thread of its own. score: Figures of the averaged network, told at every save.
        start: Weights to begin with.

    Returns:
        The network with averaged weights, in evaluation mode.
    """
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(config.seed)
    folder = Path(folder)
    use_bfloat16 = has_fast_bfloat16() if config.use_bfloat16 is None else config.use_bfloat16
    net, average = build(), build()
    if start is not None:
        net.load_state_dict(start.state_dict())
    average.load_state_dict(net.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.cycles[0][1], weight_decay=config.weight_decay)
    modules, settings = {"net": net, "average": average}, asdict(config)
    step = load_state(folder, modules, optimizer, settings=settings)
    with ThreadPoolExecutor(1) as ahead:
        following = ahead.submit(make_batch, step)
        while step < config.steps:
            batch = following.result()
            following = ahead.submit(make_batch, step + 1)
            for group in optimizer.param_groups:
                group["lr"] = _rate(step, config)
            net.train()
            torch.manual_seed(config.seed * _STEPS_APART + step)  # dropout, too, is a function of the step
            with torch.autocast("cpu", torch.bfloat16, enabled=use_bfloat16):
                output = net(*batch.inputs)
            full = replace(output, action_units=output.action_units.float(), logits=output.logits.float())
            loss = box_loss(full, batch.units, batch.labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            step += 1
            _follow(average, net, min(config.average_decay, 1 - 1 / (1 + step)))
            if step % config.save_every == 0 or step == config.steps:
                save_state(folder, modules, optimizer, step=step, settings=settings)
                figures = score(average)
                if on_progress:
                    on_progress(step, config.steps, ", ".join(f"{key} {value:.3f}" for key, value in figures.items()))
            elif on_progress and step % 20 == 0:
                on_progress(step, config.steps, f"loss {float(loss.detach()):.3f}")
    return average.eval()


@torch.no_grad()
def _follow(average: nn.Module, net: nn.Module, decay: float) -> None:
    for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)


def has_fast_bfloat16() -> bool:
    """The processor has AMX tiles."""
    check = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(check and check())


def _rate(step: int, config: NetworkTrainingConfig) -> float:
    """Learning rate: in each cycle a linear rise and a cosine fall. The last cycle is stretched or cut to end with the training."""
    start = 0
    for number, (end, highest) in enumerate(config.cycles):
        is_last = number == len(config.cycles) - 1 or end >= config.steps
        if is_last or step < end:
            last = config.steps if is_last else end
            return highest * rate_of_cycle((step - start) / (last - start), config.warmup_share)
        start = end
    raise ConfigError("give at least one cycle of the learning rate")
