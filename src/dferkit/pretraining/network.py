"""Training of the video and the landmark network: what they have in common. The weights are averaged over the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from dferkit.checks import check_counts, check_range
from dferkit.encoders.box_net import BoxOutput, box_loss
from dferkit.errors import ConfigError
from dferkit.evaluation.metrics import confusion_matrix, uar
from dferkit.facs import AU_NAMES
from dferkit.labels import BASIC
from dferkit.pretraining.loop import (
    Progress,
    Resumable,
    Schedule,
    autocast,
    minimise,
    seed_step,
)
from dferkit.pretraining.rendered_faces import PROFILES, RenderedFaces
from dferkit.training.loop import rate_of_cycle

_REPORT_EVERY = 20

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkTrainingConfig:
    """Length and speed of the training.

    Attributes:
        cycles: Last step and highest learning rate of each rise and fall of the learning rate, cut off at ``steps``.
        easy_steps: Number of first steps with posed clips only; an untrained network learns nothing from weak displays.
        full_strength_step: From this step on augmentation has its full strength.
        warmup_share: Share of a cycle in which the learning rate rises.
        use_bfloat16: None uses it where it is fast (on a processor with AMX tiles it is about three times faster).
        average_decay: Weight of the past in the running average of the weights.
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

    def __post_init__(self) -> None:
        check_counts(self, "steps", "batch", "threads", "save_every")
        check_range(self, "weight_decay", "warmup_share", "average_decay", least=0, below=1)
        check_range(self, "easy_steps", "full_strength_step", "seed", least=0)
        ends = [0, *(end for end, _ in self.cycles)]
        if len(ends) == 1 or ends != sorted(set(ends)) or any(rate <= 0 for _, rate in self.cycles):
            raise ConfigError(f"cycles is {self.cycles}; give pairs of a rising last step and a learning rate above 0")

    def rate(self, step: int) -> float:
        """Learning rate: in each cycle a linear rise and a cosine fall. The last cycle is stretched or cut to end with the training."""
        start = 0
        for end, highest in self.cycles[:-1]:
            if end >= self.steps:
                break
            if step < end:
                return highest * rate_of_cycle((step - start) / (end - start), self.warmup_share)
            start = end
        else:
            highest = self.cycles[-1][1]
        return highest * rate_of_cycle((step - start) / (self.steps - start), self.warmup_share)


@dataclass(frozen=True, slots=True)
class NetworkBatch:
    """Clips of one step: what the network reads, the true action units (clips, frames, AUs) and classes (clips,)."""

    inputs: tuple[Tensor, ...]
    units: Tensor
    labels: Tensor

    def to(self, device: str) -> NetworkBatch:
        """The same batch on another device."""
        return NetworkBatch(tuple(x.to(device) for x in self.inputs), self.units.to(device), self.labels.to(device))


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkTask(Generic[Network]):
    """What is trained, on what, and how it is measured.

    Attributes:
        build: Makes a network. start: Weights to begin with; None keeps those of ``build``.
        batch: Clips of a step. It is called ahead, in a thread of its own.
        score: Figures of the averaged network, reported at every save.
    """

    build: Callable[[], Network]
    batch: Callable[[int], NetworkBatch]
    score: Callable[[Network], dict[str, float]]
    start: Network | None = None


def chosen_clips(train: np.ndarray, config: NetworkTrainingConfig, step: int) -> np.ndarray:
    """Clips of one step: every clip once per epoch, in an order fixed by (seed, step)."""
    per_epoch = max(len(train) // config.batch, 1)
    order = np.random.default_rng([config.seed, step // per_epoch]).permutation(train)
    return order[(step % per_epoch) * config.batch :][: config.batch]


def join_outputs(parts: Sequence[BoxOutput]) -> BoxOutput:
    """Outputs for several batches as one, on the CPU."""
    return BoxOutput(
        **{
            name: torch.cat([getattr(p, name).cpu() for p in parts])
            for name in ("tokens", "hidden", "action_units", "logits")
        }
    )


def score_network(output: BoxOutput, data: RenderedFaces) -> dict[str, float]:
    """UAR by profile, and the mean correlation of the action units that occur."""
    truth = data.au.astype(np.float32).reshape(-1, len(AU_NAMES))
    predicted = output.action_units.numpy().reshape(-1, len(AU_NAMES))
    occurring = np.flatnonzero(truth.std(0) > 0.02)
    correlations = [np.corrcoef(truth[:, i], predicted[:, i])[0, 1] for i in occurring]
    result = {"au_correlation": float(np.mean(correlations))}
    answer = output.logits.numpy().argmax(1)
    for name in PROFILES:
        chosen = data.of_profile(name)
        if chosen.any():
            result[f"uar_{name}"] = float(uar(confusion_matrix(data.label[chosen], answer[chosen], len(BASIC))))
    return result


def train_network(
    task: NetworkTask[Network],
    folder: Path | str,
    config: NetworkTrainingConfig,
    *,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> Network:
    """Train, resuming from ``folder`` if a state of the same settings is there.

    The batch of a step is a pure function of the step, so a resumed training ends with the same weights.

    Returns:
        The network with averaged weights, on the CPU and in evaluation mode.
    """
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(config.seed)
    net, average = task.build().to(device), task.build().to(device)
    if task.start is not None:
        net.load_state_dict(task.start.state_dict())
    average.load_state_dict(net.state_dict())
    ahead: dict[int, Future[NetworkBatch]] = {}

    def loss(step: int) -> Tensor:
        batch = (ahead.pop(step, None) or pool.submit(task.batch, step)).result().to(device)
        ahead[step + 1] = pool.submit(task.batch, step + 1)
        net.train()
        seed_step(config.seed, step)
        with autocast(device, use_bfloat16=config.use_bfloat16):
            output = net(*batch.inputs)
        full = replace(output, action_units=output.action_units.float(), logits=output.logits.float())
        return box_loss(full, batch.units, batch.labels)

    def report(done: int, of: int, note: str) -> None:
        if on_progress is None:
            return
        if done % config.save_every == 0 or done == of:
            note = ", ".join(f"{key} {value:.3f}" for key, value in task.score(average).items())
        on_progress(done, of, note)

    with ThreadPoolExecutor(1) as pool:
        minimise(
            loss,
            list(net.parameters()),
            Schedule(
                steps=config.steps, rate=config.rate, weight_decay=config.weight_decay, report_every=_REPORT_EVERY
            ),
            state=Resumable(
                folder=Path(folder),
                modules={"net": net, "average": average},
                settings=asdict(config),
                every=config.save_every,
            ),
            after_step=lambda step: _follow(average, net, min(config.average_decay, 1 - 1 / (1 + step))),
            on_progress=report,
        )
    return average.cpu().eval()


@torch.no_grad()
def _follow(average: nn.Module, net: nn.Module, decay: float) -> None:
    for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)
