"""Training the box's video network on rendered faces: resumable, seeded, one clear loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from dferkit.encoders.box_net import BoxNet, BoxOutput, box_loss
from dferkit.errors import ConfigError
from dferkit.evaluation.metrics import confusion_matrix, uar
from dferkit.labels import BASIC
from dferkit.training.face_shards import CROP_SIZE, NETWORK_SIZE, USED_SIZE, FaceShard
from dferkit.training.state import load_state, save_state


@dataclass(frozen=True, kw_only=True, slots=True)
class VisualPretrainingConfig:
    """How long and how fast.

    Attributes:
        use_bfloat16: None chooses by the processor (it trains about three times faster where there are AMX tiles).
        cycles: Last step and highest learning rate of each rise and fall of the learning rate, cut off at ``steps``.
        easy_steps: So long only posed clips are shown: weak displays teach nothing to a network that knows nothing.
        full_strength_step: From here on augmentation has its full strength.
    """

    steps: int = 13700
    cycles: tuple[tuple[int, float], ...] = ((5500, 2e-3), (8700, 1.2e-3), (13700, 1.2e-3))
    batch: int = 20
    weight_decay: float = 0.02
    warmup_share: float = 0.06
    seed: int = 0
    threads: int = 2
    save_every: int = 500
    use_bfloat16: bool | None = None
    average_decay: float = 0.998
    easy_steps: int = 700
    full_strength_step: int = 2500


def augment(crops: np.ndarray, rng: np.random.Generator, *, strength: float = 1.0) -> np.ndarray:
    """One clip's crops as the network may meet them: the same shift, scale, roll, light and blur in every frame.

    Args:
        crops: uint8 (frames, 80, 80, 3).
        strength: 0 is mirroring only, 1 everything.

    Returns:
        float32 (frames, 3, 64, 64) in [-0.5, 0.5].
    """
    angle, scale = math.radians(strength * rng.uniform(-8, 8)), math.exp(strength * rng.uniform(-0.10, 0.10))
    out = _resample(crops, angle, scale, strength * rng.uniform(-4.0, 4.0, 2), is_mirrored=bool(rng.random() < 0.5))
    if rng.random() < 0.2 * strength:
        low = int(rng.integers(28, NETWORK_SIZE))
        out = np.stack(
            [
                cv2.resize(cv2.resize(x, (low, low), interpolation=cv2.INTER_AREA), (NETWORK_SIZE, NETWORK_SIZE))
                for x in out
            ]
        )
    if rng.random() < 0.15 * strength:
        sigma = float(rng.uniform(0.3, 1.2))
        out = np.stack([cv2.GaussianBlur(x, (0, 0), sigma) for x in out])
    gain = (1 + strength * rng.uniform(-0.4, 0.4)) / 255
    offset = strength * (rng.uniform(-0.12, 0.12) + rng.uniform(-0.06, 0.06, 3)) - 0.5
    is_grey = bool(rng.random() < 0.2 * strength)
    video = np.ascontiguousarray(out.transpose(0, 3, 1, 2), np.float32)
    if is_grey:
        video[:] = video.mean(1, keepdims=True)
    video *= np.float32(gain)
    video += offset.astype(np.float32)[None, :, None, None]
    if rng.random() < 0.2 * strength:
        # An object before the face hides a corner of it through the whole clip.
        height, width = rng.integers(8, 24, 2)
        top, left = rng.integers(0, NETWORK_SIZE - height), rng.integers(0, NETWORK_SIZE - width)
        video[:, :, top : top + height, left : left + width] = rng.uniform(-0.5, 0.5, (3, 1, 1))
    return np.clip(video, -0.5, 0.5, out=video)


def _resample(crops: np.ndarray, angle: float, scale: float, shift: np.ndarray, *, is_mirrored: bool) -> np.ndarray:
    """The used middle of stored crops at the network's size, turned, scaled, moved and mirrored alike; uint8."""
    step = USED_SIZE / NETWORK_SIZE * scale
    cosine, sine = step * math.cos(angle), step * math.sin(angle)
    mirror = -1.0 if is_mirrored else 1.0
    matrix = np.array([[mirror * cosine, -sine, 0.0], [mirror * sine, cosine, 0.0]])
    middle = (NETWORK_SIZE - 1) / 2
    matrix[:, 2] = (CROP_SIZE - 1) / 2 + shift - matrix[:, :2] @ (middle, middle)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.stack(
        [
            cv2.warpAffine(crop, matrix, (NETWORK_SIZE, NETWORK_SIZE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
            for crop in crops
        ]
    )


def network_input(crops: np.ndarray) -> Tensor:
    """uint8 crops (clips, frames, 80, 80, 3) without augmentation, as the network wants them."""
    clips = np.stack([_resample(clip, 0.0, 1.0, np.zeros(2), is_mirrored=False) for clip in crops])
    return torch.from_numpy(np.ascontiguousarray(clips.transpose(0, 1, 4, 2, 3))).float() / 255 - 0.5


def _has_fast_bfloat16() -> bool:
    check = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(check and check())


def split_subjects(data: FaceShard) -> tuple[np.ndarray, np.ndarray]:
    """Clip numbers to train on and of held-out people (one in twelve)."""
    held = data.subject % 12 == 5
    return np.flatnonzero(~held), np.flatnonzero(held)


@torch.inference_mode()
def predict_clips(net: BoxNet, crops: np.ndarray, *, batch: int = 32) -> BoxOutput:
    """The network's answer for many clips."""
    net.eval()
    parts = [net(network_input(crops[i : i + batch])) for i in range(0, len(crops), batch)]
    return BoxOutput(
        **{
            name: torch.cat([getattr(p, name) for p in parts])
            for name in ("tokens", "hidden", "action_units", "logits")
        }
    )


def measure(net: BoxNet, data: FaceShard, clips: np.ndarray) -> dict[str, float]:
    """UAR by profile and mean correlation of the action units on unseen people."""
    result: dict[str, float] = {}
    output = predict_clips(net, data.crops[clips])
    truth, said = (
        data.au[clips].astype(np.float32).reshape(-1, len(net.config.au_names)),
        output.action_units.numpy().reshape(-1, len(net.config.au_names)),
    )
    shown = truth.std(0) > 0.02
    result["au_correlation"] = float(
        np.mean([np.corrcoef(truth[:, i], said[:, i])[0, 1] for i in np.flatnonzero(shown)])
    )
    for name, natural in (("posed", False), ("natural", True)):
        chosen = data.is_natural[clips] == natural
        if chosen.any():
            result[f"uar_{name}"] = float(
                uar(confusion_matrix(data.label[clips][chosen], output.logits.numpy()[chosen].argmax(1), len(BASIC)))
            )
    return result


def pretrain_visual(
    data: FaceShard,
    folder: Path | str,
    *,
    config: VisualPretrainingConfig | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> BoxNet:
    """Train, resuming from ``folder`` if a state of the same settings is there.

    The batch of a step is a pure function of (seed, step), so an interrupted run goes on as if nothing had happened.

    Returns:
        The network with averaged weights, in evaluation mode.
    """
    config = config or VisualPretrainingConfig()
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(config.seed)
    folder = Path(folder)
    use_bfloat16 = _has_fast_bfloat16() if config.use_bfloat16 is None else config.use_bfloat16
    net, average = BoxNet(), BoxNet()
    average.load_state_dict(net.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.cycles[0][1], weight_decay=config.weight_decay)
    modules, settings = {"net": net, "average": average}, asdict(config)
    step = load_state(folder, modules, optimizer, settings=settings)
    train, held = split_subjects(data)
    with ThreadPoolExecutor(1) as ahead:
        following = ahead.submit(_batch, data, train, config, step)
        while step < config.steps:
            video, units, labels = following.result()
            following = ahead.submit(_batch, data, train, config, step + 1)
            for group in optimizer.param_groups:
                group["lr"] = _rate(step, config)
            net.train()
            with torch.autocast("cpu", torch.bfloat16, enabled=use_bfloat16):
                output = net(video)
            full = replace(output, action_units=output.action_units.float(), logits=output.logits.float())
            loss = box_loss(full, units, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            step += 1
            decay = min(config.average_decay, 1 - 1 / (1 + step))
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
                    slow.lerp_(fast, 1 - decay)
            if step % config.save_every == 0 or step == config.steps:
                save_state(folder, modules, optimizer, step=step, settings=settings)
                scores = measure(average, data, held[:240])
                if on_progress:
                    on_progress(step, config.steps, ", ".join(f"{key} {value:.3f}" for key, value in scores.items()))
            elif on_progress and step % 20 == 0:
                on_progress(step, config.steps, f"loss {float(loss.detach()):.3f}")
    return average.eval()


def _rate(step: int, config: VisualPretrainingConfig) -> float:
    """Learning rate: in each cycle a linear rise and a cosine fall. The last cycle is stretched or cut to end with the training."""
    start = 0
    for number, (end, highest) in enumerate(config.cycles):
        is_last = number == len(config.cycles) - 1 or end >= config.steps
        if is_last or step < end:
            last = config.steps if is_last else end
            return highest * _schedule((step - start) / (last - start), config.warmup_share)
        start = end
    raise ConfigError("give at least one cycle of the learning rate")


def _schedule(progress: float, warmup: float) -> float:
    """Linear rise, then cosine to a hundredth."""
    if progress < warmup:
        return max(progress / warmup, 0.02)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def _batch(
    data: FaceShard, train: np.ndarray, config: VisualPretrainingConfig, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Clips of one step: every clip once per epoch, in an order and with augmentations fixed by (seed, step)."""
    if step < config.easy_steps:
        train = train[~data.is_natural[train]]
    strength = min(0.3 + 0.7 * step / max(config.full_strength_step, 1), 1.0)
    per_epoch = max(len(train) // config.batch, 1)
    order = np.random.default_rng([config.seed, step // per_epoch]).permutation(train)
    chosen = order[(step % per_epoch) * config.batch :][: config.batch]
    rng = np.random.default_rng([config.seed, 1, step])
    video = torch.from_numpy(np.stack([augment(data.crops[i], rng, strength=strength) for i in chosen]))
    return video, torch.from_numpy(data.au[chosen].astype(np.float32)), torch.from_numpy(data.label[chosen])
