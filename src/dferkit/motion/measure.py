"""Motion weights of face clips without the rigid part, for models that do not compute them from their own tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dferkit.errors import ConfigError
from dferkit.motion.rigid import residual_differences, steady_faces
from dferkit.motion.weights import motion_weights, proportional_weights
from dferkit.schema import FaceClip, VisualTokens

SOURCES = ("tokens", "steady", "pixels")
"""Where a model's motion weights come from: its own tokens, the tokens of steadied crops, or the steadied pixels."""


def measure_motion(
    clips: Sequence[FaceClip],
    source: str,
    encode: Callable[[Sequence[FaceClip]], list[VisualTokens]],
    *,
    grid: tuple[int, int],
    num_steps: int,
) -> Float[Tensor, "clips frames patches"]:
    """Weights of each clip's tokens, mean 1 per clip, spatial and temporal (GRACE, E1 and E2).

    Args:
        source: ``steady``: differences of the tokens of ``steady_faces``; ``pixels``: ``residual_differences`` of them.
        encode: The visual encoder. grid, num_steps: Of its tokens.

    Raises:
        ConfigError: Another source; the weights of ``tokens`` are the model's own.
    """
    if source not in SOURCES[1:]:
        raise ConfigError(f"motion_source is {source!r}; choose {', '.join(SOURCES[1:])}")
    steady = [steady_faces(clip.images) for clip in clips]
    if source == "pixels":
        differences = [residual_differences(images, grid=grid, num_steps=num_steps) for images in steady]
        stacked = np.stack(differences) if differences else np.zeros((0, num_steps, grid[0] * grid[1]), np.float32)
        return proportional_weights(torch.from_numpy(stacked))
    tokens = encode([replace(clip, images=images) for clip, images in zip(clips, steady, strict=True)])
    if not tokens:
        return torch.zeros(0, num_steps, grid[0] * grid[1])
    values = torch.stack([t.values.float() for t in tokens])
    return motion_weights(F.layer_norm(values, values.shape[-1:]))
