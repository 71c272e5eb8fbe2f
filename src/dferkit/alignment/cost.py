"""Cost of moving mass between word and visual tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_SMALLEST_NORM = 1e-6  # A zero vector has cost 1 to everything, and its gradient stays finite.


def cosine_cost(
    text: Float[Tensor, "batch words dim"], visual: Float[Tensor, "batch visual dim"]
) -> Float[Tensor, "batch words visual"]:
    """Cosine distance of every word to every visual token, in [0, 2] (GRACE, E6).

    Half-precision tokens are raised to float32 first; float64 stays float64. Tokens must be finite, padding too (use
    zeros).
    """
    dtype = torch.promote_types(torch.promote_types(text.dtype, visual.dtype), torch.float32)
    with torch.autocast(text.device.type, enabled=False):
        unit_text = F.normalize(text.to(dtype), dim=-1, eps=_SMALLEST_NORM)
        unit_visual = F.normalize(visual.to(dtype), dim=-1, eps=_SMALLEST_NORM)
        return (1.0 - torch.bmm(unit_text, unit_visual.transpose(1, 2))).clamp(0.0, 2.0)
