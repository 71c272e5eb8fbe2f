"""Motion-difference weighting: visual tokens that move get more weight (GRACE, E1 to E3).

E1 to E3 are our reconstruction of the motion weighting that the paper describes in words; its formulas are not published.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dferkit.errors import ConfigError, DataError

Mode = Literal["both", "spatial", "temporal", "none"]
Difference = Literal["cosine", "l2"]

_SMALLEST_RANGE = 1e-6  # A clip whose differences span less than this is static: the rest is rounding.


def motion_weights(
    tokens: Float[Tensor, "batch frames patches dim"],
    *,
    mode: Mode = "both",
    temperature_spatial: float = 0.1,
    temperature_temporal: float = 0.1,
    difference: Difference = "cosine",
) -> Float[Tensor, "batch frames patches"]:
    """Positive weights with mean 1 per clip; a static clip gives exactly 1 everywhere (GRACE, E1 and E2).

    The spatial part is a softmax over the patches of each frame, the temporal part one over the frames, of how much a
    patch or the frame's mean token differs from its neighbours in time; ``both`` multiplies them. Differences are
    scaled to [0, 1] per clip first, so a temperature means the same for every encoder. Differentiable in ``tokens``.

    Deviation: the difference is the mean of that to the frame before and that to the frame after (the one there is at
    either end), which marks the apex of a movement and not only its onset.

    Args:
        mode: ``none`` gives 1 everywhere.
        difference: ``cosine`` is 1 − cosine; ``l2`` is the distance as a share of the clip's mean token norm.

    Raises:
        ConfigError: Unknown mode or difference, or a temperature that is not above 0.
    """
    for name, value, known in (("mode", mode, get_args(Mode)), ("difference", difference, get_args(Difference))):
        if value not in known:
            raise ConfigError(f"{name} is {value!r}, but must be one of {', '.join(known)}")
    for name, temperature in (
        ("temperature_spatial", temperature_spatial),
        ("temperature_temporal", temperature_temporal),
    ):
        if not (math.isfinite(temperature) and temperature > 0):
            raise ConfigError(f"{name} is {temperature}, but must be a finite number above 0")
    tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    weights = torch.ones_like(tokens[..., 0])
    if mode in ("spatial", "both"):
        weights = weights * _softmax_weights(_differences(tokens, difference), temperature_spatial)
    if mode in ("temporal", "both"):
        of_frames = _differences(tokens.mean(2, keepdim=True), difference)
        of_frames = rearrange(of_frames, "batch frames 1 -> batch 1 frames")
        weights = weights * rearrange(
            _softmax_weights(of_frames, temperature_temporal), "batch 1 frames -> batch frames 1"
        )
    return weights


def proportional_weights(
    differences: Float[Tensor, "batch frames patches"], *, mode: Mode = "both"
) -> Float[Tensor, "batch frames patches"]:
    """Weights ≥ 0 in proportion to measured motion, mean 1 per clip; a clip without motion gives exactly 1 everywhere.

    The spatial part compares the patches of a frame, the temporal part the frames; their product is the motion over the
    clip's mean.

    Deviation: no softmax as in E2. What is left after rigid motion is removed is noisy while a head turns, and a softmax
    gives such frames most of the mass (measured; ``docs/explanation/motion.md``).

    Args:
        differences: Motion of each patch, ≥ 0, such as grey levels; a clip below 1e-6 counts as static. For example from ``residual_differences``.
        mode: ``none`` gives 1 everywhere.

    Raises:
        ConfigError: Unknown mode.
        DataError: A difference is negative or not finite.
    """
    if mode not in get_args(Mode):
        raise ConfigError(f"mode is {mode!r}, but must be one of {', '.join(get_args(Mode))}")
    if not ((differences >= 0) & differences.isfinite()).all():
        raise DataError("differences hold negative or non-finite values; give the size of each patch's motion")
    differences = differences.to(torch.promote_types(differences.dtype, torch.float32))
    of_frames = differences.mean(2, keepdim=True)
    weights = torch.ones_like(differences)
    if mode in ("spatial", "both"):
        weights = weights * _over_mean(differences, of_frames)
    if mode in ("temporal", "both"):
        weights = weights * _over_mean(of_frames, of_frames.mean(1, keepdim=True))
    return weights


def apply_motion(
    tokens: Float[Tensor, "batch frames patches dim"],
    weights: Float[Tensor, "batch frames patches"],
    strength: float | Float[Tensor, ""],
) -> Float[Tensor, "batch frames patches dim"]:
    """Tokens times (1 − strength + strength · weight); strength 0 is the identity, 1 leaves no residual (GRACE, E3).

    Args:
        strength: 0 to 1; a scalar tensor when it is learned (keep it in range with a sigmoid).

    Raises:
        ConfigError: A number outside 0 to 1.
    """
    if not isinstance(strength, Tensor) and not 0 <= strength <= 1:
        raise ConfigError(f"strength is {strength}, but must be between 0 and 1")
    return tokens * (1 - strength + strength * weights).to(tokens.dtype)[..., None]


def _differences(tokens: Tensor, difference: str) -> Tensor:
    """Difference of each patch from its neighbours in time, ≥ 0, (batch, frames, patches); 0 for a single frame."""
    num_frames = tokens.shape[1]
    if num_frames == 1:
        return torch.zeros_like(tokens[..., 0])
    if difference == "cosine":
        # 1 − cosine as half the squared distance of unit vectors: equal tokens give exactly 0.
        step = 0.5 * F.normalize(tokens, dim=-1, eps=1e-6).diff(dim=1).square().sum(-1)
    else:
        scale = tokens.norm(dim=-1).mean((1, 2), keepdim=True).clamp_min(1e-6)
        squared = tokens.diff(dim=1).square().sum(-1)
        # The root has no finite gradient at 0; the inner where keeps it out of the backward pass.
        step = torch.where(squared > 0, torch.where(squared > 0, squared, 1.0).sqrt(), 0.0) / scale
    return mean_of_neighbours(step, dim=1)


def mean_of_neighbours(step: Tensor, *, dim: int) -> Tensor:
    """Steps between n frames along ``dim`` (n − 1 of them) → per frame the mean of the steps to its neighbours (n)."""
    edge = step.new_zeros([1 if axis == dim else size for axis, size in enumerate(step.shape)])
    total = torch.cat([edge, step], dim) + torch.cat([step, edge], dim)
    neighbours = total.new_full((total.shape[dim],), 2.0)
    neighbours[0] = neighbours[-1] = 1.0
    return total / neighbours.reshape([-1 if axis == dim else 1 for axis in range(total.ndim)])


def _over_mean(values: Tensor, mean: Tensor) -> Tensor:
    """values / mean; exactly 1 where there is no motion to compare."""
    is_static = mean < _SMALLEST_RANGE
    return torch.where(is_static, 1.0, values / torch.where(is_static, 1.0, mean))


def _softmax_weights(differences: Tensor, temperature: float) -> Tensor:
    """Softmax over the last axis of the differences scaled to [0, 1] per clip, times the axis' length: mean 1."""
    low, high = differences.amin((1, 2), keepdim=True), differences.amax((1, 2), keepdim=True)
    is_static = high - low < _SMALLEST_RANGE
    scaled = (differences - low) / torch.where(is_static, 1.0, high - low)
    weights = differences.shape[-1] * (scaled / temperature).softmax(-1)
    return torch.where(is_static, 1.0, weights)
