"""Motion-difference weighting: visual tokens that move get more weight (GRACE, E1 to E4).

E1 to E4 are our reconstruction of what the paper tells about its motion weighting; the formulas themselves are not
published.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from dferkit.errors import ConfigError

MODES = ("spatial", "temporal", "both", "none")
DIFFERENCES = ("cosine", "l2")

_SMALLEST_RANGE = 1e-6  # A clip whose differences span less than this is static: the rest is rounding.


def motion_weights(
    tokens: Float[Tensor, "batch frames patches dim"],
    *,
    mode: str = "both",
    temperature_spatial: float = 0.1,
    temperature_temporal: float = 0.1,
    difference: str = "cosine",
) -> Float[Tensor, "batch frames patches"]:
    """Positive weights with mean 1 per clip; a static clip gives exactly 1 everywhere (GRACE, E1 and E2).

    The spatial part is a softmax over the patches of each frame, the temporal part one over the frames, of how much a
    patch or the frame's mean token differs from its neighbours in time; ``both`` multiplies them. Differences are
    scaled to [0, 1] per clip first, so a temperature means the same for every encoder. Differentiable in ``tokens``.

    Deviation: the difference is the mean of that to the frame before and that to the frame after (the one there is at
    either end), which marks the apex of a movement and not only its onset.

    Args:
        mode: One of ``MODES``; ``none`` gives 1 everywhere.
        difference: ``cosine`` is 1 − cosine; ``l2`` is the distance as a share of the clip's mean token norm.

    Raises:
        ConfigError: Unknown mode or difference, or a temperature that is not above 0.
    """
    for name, value, known in (("mode", mode, MODES), ("difference", difference, DIFFERENCES)):
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


def select_tokens(
    tokens: Float[Tensor, "batch frames patches dim"], weights: Float[Tensor, "batch frames patches"], *, ratio: float
) -> tuple[Float[Tensor, "batch visual dim"], Int[Tensor, "batch visual"]]:
    """Keep the fixed share of tokens with the largest weights (GRACE, E4).

    Keeps floor(ratio · frames · patches) tokens, at least 1. Of equal weights the earlier position wins. Gradient flows
    through the kept tokens only.

    Returns:
        The kept tokens in order of position, and their positions frame · patches + patch, ascending.

    Raises:
        ConfigError: ``ratio`` is not in (0, 1].
    """
    if not 0 < ratio <= 1:
        raise ConfigError(f"ratio is {ratio}, but must be above 0 and at most 1")
    flat = rearrange(tokens, "batch frames patches dim -> batch (frames patches) dim")
    order = rearrange(weights.detach(), "batch frames patches -> batch (frames patches)")
    kept = max(1, math.floor(ratio * order.shape[1] + 1e-9))
    index = order.argsort(dim=1, descending=True, stable=True)[:, :kept].sort(dim=1).values
    return flat.take_along_dim(index[:, :, None], dim=1), index


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
    total = F.pad(step, (0, 0, 1, 0)) + F.pad(step, (0, 0, 0, 1))
    neighbours = total.new_full((num_frames, 1), 2.0)
    neighbours[0] = neighbours[-1] = 1.0
    return total / neighbours


def _softmax_weights(differences: Tensor, temperature: float) -> Tensor:
    """Softmax over the last axis of the differences scaled to [0, 1] per clip, times the axis' length: mean 1."""
    low, high = differences.amin((1, 2), keepdim=True), differences.amax((1, 2), keepdim=True)
    is_static = high - low < _SMALLEST_RANGE
    scaled = (differences - low) / torch.where(is_static, 1.0, high - low)
    weights = differences.shape[-1] * (scaled / temperature).softmax(-1)
    return torch.where(is_static, 1.0, weights)
