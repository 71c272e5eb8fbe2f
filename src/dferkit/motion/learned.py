"""Motion weights learned from clips whose true motion is known."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dferkit.errors import ConfigError, DataError
from dferkit.motion.weights import mean_of_neighbours

_STILL = 0.01  # Pixels per frame added before the logarithm; smaller motion counts as none.
_STILL_NUISANCE = 0.05
_SMALLEST_CHANGE = 1e-6


class LearnedMotion(nn.Module):
    """Linear in the absolute change of each token channel, the frame's mean change and the place; mean 1 per clip.

    weight ∝ exp(change · of_patch + mean change of the frame · of_frame + of_place[patch]). A static clip gives exactly 1
    everywhere. Made by ``fit_motion``; belongs to one encoder and one grid.
    """

    of_patch: Tensor
    of_frame: Tensor
    of_place: Tensor

    def __init__(self, dim: int, patches: int) -> None:
        super().__init__()
        self.register_buffer("of_patch", torch.zeros(dim))
        self.register_buffer("of_frame", torch.zeros(dim))
        self.register_buffer("of_place", torch.zeros(patches))

    def forward(self, tokens: Float[Tensor, "batch frames patches dim"]) -> Float[Tensor, "batch frames patches"]:
        """Weights of tokens of any float type.

        Raises:
            DataError: The weighting was fitted on tokens of another encoder or grid.
        """
        if tokens.shape[2:] != (len(self.of_place), len(self.of_patch)):
            raise DataError(
                f"tokens are {tokens.shape[2]} patches × {tokens.shape[3]}, but this weighting was fitted on "
                f"{len(self.of_place)} × {len(self.of_patch)}; fit one for this encoder"
            )
        change = _changes(tokens)
        logarithm = change @ self.of_patch + change.mean(2) @ self.of_frame[:, None] + self.of_place
        # Softmax over the clip is the exponential over its mean, and cannot overflow.
        weights = logarithm.flatten(1).softmax(1).reshape(logarithm.shape) * logarithm[0].numel()
        is_static = change.amax((1, 2, 3)) < _SMALLEST_CHANGE
        return torch.where(is_static[:, None, None], 1.0, weights)


def fit_motion(
    tokens: Float[Tensor, "batch frames patches dim"],
    expression: Float[Tensor, "batch frames patches"],
    nuisance: Float[Tensor, "batch frames patches"],
    *,
    against: float = 0.2,
    ridge: float = 0.01,
) -> LearnedMotion:
    """Ridge regression of log expression motion − ``against`` · log nuisance motion; closed form, deterministic.

    Args:
        tokens: Of training clips; the same kind the weighting will see (of the frames, or of ``steady_faces``).
        expression, nuisance: True motion in pixels per frame, ≥ 0 (``flow_expression`` and ``flow_nuisance`` on the crop).
        against: Weight of nuisance motion, which lowers a place's weight; 0 uses expression alone.
        ridge: Penalty on standardised coefficients, above 0.

    Raises:
        ConfigError: ``against`` is negative or ``ridge`` not above 0.
        DataError: A true motion is negative or not finite.
    """
    if against < 0 or ridge <= 0:
        raise ConfigError(f"against is {against} and ridge {ridge}; give against ≥ 0 and ridge > 0")
    for name, motion in (("expression", expression), ("nuisance", nuisance)):
        if not ((motion >= 0) & motion.isfinite()).all():
            raise DataError(f"{name} holds negative or non-finite motion; give pixels per frame")
    patches, dim = tokens.shape[2:]
    change = _changes(tokens)
    of_frame = change.mean(2, keepdim=True).expand_as(change)
    place = torch.eye(patches, device=tokens.device).expand(*tokens.shape[:2], patches, patches)
    samples = torch.cat([change, of_frame, place], -1).flatten(0, 2).double()
    wanted = (expression.double() + _STILL).log() - against * (nuisance.double() + _STILL_NUISANCE).log()
    spread = samples.std(0).clamp_min(1e-6)
    centred = (samples - samples.mean(0)) / spread
    target = wanted.flatten() - wanted.mean()
    normal = centred.T @ centred + ridge * len(centred) * torch.eye(centred.shape[1], device=tokens.device)
    # The mean that is taken off here is a constant factor of the weights, which have mean 1 anyway.
    fitted = (torch.linalg.solve(normal, centred.T @ target) / spread).float()
    weighting = LearnedMotion(dim, patches).to(tokens.device)
    weighting.of_patch, weighting.of_frame, weighting.of_place = fitted.split([dim, dim, patches])
    return weighting


def _changes(tokens: Tensor) -> Tensor:
    """|change| of each standardised token channel, mean over its neighbours in time, float32; 0 for a single frame."""
    tokens = F.layer_norm(tokens.float(), tokens.shape[-1:])
    if tokens.shape[1] == 1:
        return torch.zeros_like(tokens)
    return mean_of_neighbours(tokens.diff(dim=1).abs(), dim=1)
