"""Patches and words in the common space of an image–text model: each position goes through the last attention alone.

CLIP and SigLIP train one vector per picture and one per text: the class token, the attention pooling, the end token. That vector is a mixture of what the last
attention finds at each position, its *values*. A position that keeps its own value in place of the mixture comes out in the space of the mixture: the dense
features of MaskCLIP (Zhou, Loy and Dai 2022, arXiv 2112.01071). This is approximate: no loss ever compared a single patch with a word. With the model's
own mixture the same functions give the model's own vector; a test checks it.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def layer_values(layer: Any, hidden: Float[Tensor, "batch positions width"]) -> Float[Tensor, "batch positions width"]:
    """Values of the attention in a transformer layer, all heads side by side. ``hidden``: Input of the layer."""
    values: Tensor = layer.self_attn.v_proj(layer.layer_norm1(hidden))
    return values


def finish_layer(
    layer: Any, hidden: Float[Tensor, "batch positions width"], mixed: Float[Tensor, "batch positions width"]
) -> Float[Tensor, "batch positions width"]:
    """Output of a transformer layer whose attention gave ``mixed`` values; with ``layer_values`` each position reads itself alone."""
    hidden = hidden + layer.self_attn.out_proj(mixed)
    finished: Tensor = hidden + layer.mlp(layer.layer_norm2(hidden))
    return finished


def pooling_values(head: Any, hidden: Float[Tensor, "batch positions width"]) -> Float[Tensor, "batch positions width"]:
    """Values of SigLIP's attention pooling, all heads side by side."""
    attention, width = head.attention, hidden.shape[-1]
    return F.linear(hidden, attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :])


def finish_pooling(head: Any, mixed: Float[Tensor, "batch positions width"]) -> Float[Tensor, "batch positions width"]:
    """What the pooling gives for ``mixed`` values; with ``pooling_values`` each position is a picture of its own."""
    hidden = head.attention.out_proj(mixed)
    finished: Tensor = hidden + head.mlp(head.layernorm(hidden))
    return finished
