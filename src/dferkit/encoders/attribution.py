"""Attribution of a score to the movement in each cell: gradient times distance from the clip's mean.

This is the first-order estimate of the change of the score when a deletion test holds one cell still (Kindermans et al. 2016, "gradient × input", with the
clip's own mean as the baseline).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

Score = Callable[[Tensor, Tensor], Tensor]
"""Visual tokens (1, steps, tokens, dim) and summaries (1, steps, dim) → a number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """A clip's tokens with their gradient path to the encoder's inputs.

    Attributes:
        values, summary: As in ``VisualTokens``, with gradients. inputs: What the encoder read, each with a function from the gradient of a
            score with respect to it to cells (steps, rows, columns).
    """

    values: Float[Tensor, "steps tokens dim"]
    summary: Float[Tensor, "steps width"]
    inputs: tuple[tuple[Tensor, Callable[[Tensor], np.ndarray]], ...]


def cell_attribution(trace: Trace, score: Score) -> Float[np.ndarray, "steps rows columns"]:
    """Loss of the score, to first order, if the cell held still; negative where its movement lowers the score."""
    with torch.enable_grad():
        gradients = torch.autograd.grad(
            score(trace.values[None], trace.summary[None]), [tensor for tensor, _ in trace.inputs]
        )
    parts = [to_cells(gradient) for gradient, (_, to_cells) in zip(gradients, trace.inputs, strict=True)]
    return np.sum(parts, axis=0)


def trace_pixels(
    forward: Callable[[Tensor], tuple[Tensor, Tensor]],
    video: Float[Tensor, "frames 3 size size"],
    *,
    steps: int,
    grid: tuple[int, int],
) -> Trace:
    """Trace of a network that reads pixels.

    Args:
        forward: Video (1, frames, 3, size, size) → values (steps, tokens, dim) and summary (steps, width).
        grid: Rows and columns of the cells; the size is a multiple of both.
    """
    rows, columns = grid
    with torch.enable_grad():
        read = video[None].clone().requires_grad_()
        values, summary = forward(read)

    def to_cells(gradient: Tensor) -> np.ndarray:
        lost = gradient * (read.detach() - read.detach().mean(1, keepdim=True))
        cells = reduce(lost[0], "(t k) c (r h) (q w) -> t r q", "sum", t=steps, r=rows, q=columns)
        return np.asarray(cells.double().numpy())

    return Trace(values=values, summary=summary, inputs=((read, to_cells),))
