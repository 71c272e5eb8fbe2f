"""Training of the video network on crops of rendered faces."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from dferkit.encoders.box_net import BoxNet, BoxOutput
from dferkit.pretraining.loop import Progress
from dferkit.pretraining.network import (
    NetworkBatch,
    NetworkTask,
    NetworkTrainingConfig,
    chosen_clips,
    join_outputs,
    score_network,
    train_network,
)
from dferkit.pretraining.rendered_faces import CROP_SIZE, NETWORK_SIZE, USED_SIZE, RenderedFaces

VISUAL_TRAINING = NetworkTrainingConfig(
    steps=13700,
    cycles=((5500, 2e-3), (8700, 1.2e-3), (13700, 1.2e-3)),
    batch=20,
    easy_steps=700,
    full_strength_step=2500,
)
# From trained weights: no easy clips first, and a lower learning rate.
FINE_TUNING = NetworkTrainingConfig(steps=4500, cycles=((4500, 8e-4),), batch=20)
_MOST_TESTED = 240  # held-out clips that a report is measured on


def augment(crops: np.ndarray, rng: np.random.Generator, *, strength: float = 1.0) -> np.ndarray:
    """One clip's crops as they may occur in use: the same shift, scale, roll, light and blur in every frame.

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
        # An object in front of the face hides a part of it through the whole clip.
        height, width = rng.integers(8, 24, 2)
        top, left = rng.integers(0, NETWORK_SIZE - height), rng.integers(0, NETWORK_SIZE - width)
        video[:, :, top : top + height, left : left + width] = rng.uniform(-0.5, 0.5, (3, 1, 1))
    return np.clip(video, -0.5, 0.5, out=video)


def _resample(crops: np.ndarray, angle: float, scale: float, shift: np.ndarray, *, is_mirrored: bool) -> np.ndarray:
    """The middle of stored crops at the network's size, uint8; all frames are turned, scaled, moved and mirrored alike."""
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
    """uint8 crops (clips, frames, 80, 80, 3) without augmentation → (clips, frames, 3, 64, 64) in [-0.5, 0.5]."""
    clips = np.stack([_resample(clip, 0.0, 1.0, np.zeros(2), is_mirrored=False) for clip in crops])
    return torch.from_numpy(np.ascontiguousarray(clips.transpose(0, 1, 4, 2, 3))).float() / 255 - 0.5


@torch.inference_mode()
def predict_clips(net: BoxNet, crops: np.ndarray, *, batch: int = 32) -> BoxOutput:
    """The network's output for many clips of uint8 crops (clips, frames, 80, 80, 3)."""
    device = net.eval().position.device
    return join_outputs([net(network_input(crops[i : i + batch]).to(device)) for i in range(0, len(crops), batch)])


def pretrain_visual(
    data: RenderedFaces,
    folder: Path | str,
    config: NetworkTrainingConfig = VISUAL_TRAINING,
    *,
    start: BoxNet | None = None,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> BoxNet:
    """Train on all but the held-out people, resuming from ``folder`` if a state of the same settings is there.

    Args:
        start: Weights to begin with, instead of random ones.

    Returns:
        The network with averaged weights, on the CPU and in evaluation mode.
    """
    train, held = data.split_subjects()
    tested = data.take(held[:_MOST_TESTED])
    task = NetworkTask(
        build=BoxNet,
        batch=lambda step: _batch(data, train, config, step),
        score=lambda net: score_network(predict_clips(net, tested.crops), tested),
        start=start,
    )
    return train_network(task, folder, config, device=device, on_progress=on_progress)


def _batch(data: RenderedFaces, train: np.ndarray, config: NetworkTrainingConfig, step: int) -> NetworkBatch:
    """Clips of one step, with augmentations fixed by (seed, step)."""
    if step < config.easy_steps:
        train = train[data.of_profile("posed")[train]]
    strength = min(0.3 + 0.7 * step / max(config.full_strength_step, 1), 1.0)
    chosen = chosen_clips(train, config, step)
    rng = np.random.default_rng([config.seed, 1, step])
    video = torch.from_numpy(np.stack([augment(data.crops[i], rng, strength=strength) for i in chosen]))
    return NetworkBatch(
        inputs=(video,),
        units=torch.from_numpy(data.au[chosen].astype(np.float32)),
        labels=torch.from_numpy(data.label[chosen]),
    )
