"""Which visual tokens are kept: a fixed share of them (GRACE, E4), or as many as hold a share of the motion."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dferkit.errors import ConfigError, DataError

_ROUNDING = 1e-9  # Rounding can make a sum that equals the share differ from it by this much.


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
    return _taken(flat, index), index


def select_by_mass(
    tokens: Float[Tensor, "batch frames patches dim"], weights: Float[Tensor, "batch frames patches"], *, share: float
) -> tuple[Float[Tensor, "batch visual dim"], Int[Tensor, "batch visual"], Bool[Tensor, "batch visual"]]:
    """Keep the smallest set of tokens of each clip that holds the given share of its motion mass.

    At least 1 token is kept. Of equal weights the earlier position wins. Weights of 0 or less (deleted tokens) hold no
    mass: they are kept only where a clip has no mass at all, and then only the first of the largest. A clip of 8 × 64
    tokens with even weights keeps ⌈share · 512⌉. Gradient flows through the kept tokens only.

    Deviation: E4 keeps the same number in every clip; the paper names an adaptive number as an open question.

    Returns:
        The kept tokens in order of position, zeros behind the last; their positions frame · patches + patch, ascending,
        -1 behind the last; and True for kept tokens (``visual_mask`` of an aligner). The width is that of the clip which
        keeps most.

    Raises:
        ConfigError: ``share`` is not in (0, 1].
        DataError: A weight is not finite.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share is {share}, but must be above 0 and at most 1")
    if not weights.isfinite().all():
        raise DataError("weights hold NaN or infinity; give finite motion weights")
    flat = rearrange(tokens, "batch frames patches dim -> batch (frames patches) dim")
    mass = rearrange(weights.detach(), "batch frames patches -> batch (frames patches)").double()
    sorted_mass, order = mass.sort(dim=1, descending=True, stable=True)
    sorted_mass = sorted_mass.clamp_min(0)
    before = sorted_mass.cumsum(1) - sorted_mass  # mass of the tokens that come first
    total = sorted_mass.sum(1, keepdim=True)
    is_kept = (before < (share - _ROUNDING) * total) & (sorted_mass > 0)
    is_kept[:, 0] = True
    # Behind every real position, so that sorting puts the padding last.
    index = (
        order.masked_fill(~is_kept, mass.shape[1])
        .sort(dim=1)
        .values[:, : int(is_kept.sum(1).max() if len(is_kept) else 0)]
    )
    mask = index < mass.shape[1]
    index = index.masked_fill(~mask, -1)
    values = _taken(flat, index.clamp_min(0))
    return torch.where(mask[:, :, None], values, torch.zeros_like(values)), index, mask


def spread_evenly(count: int) -> Float[Tensor, " positions"]:
    """An order for positions that have no weights, in [0, 1): the largest values of any number lie evenly over the positions.

    Multiples of the golden ratio modulo 1 (Weyl's sequence), so that a kept share takes every frame and every patch alike.
    """
    return (torch.arange(1, count + 1, dtype=torch.float64) * (math.sqrt(5) - 1) / 2) % 1


def _taken(flat: Tensor, index: Tensor) -> Tensor:
    # Not take_along_dim, which wraps negative indices with a division that takes longer than the copy.
    return flat.gather(1, index[:, :, None].expand(-1, -1, flat.shape[2]))
