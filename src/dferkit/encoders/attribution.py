"""Attribution of a score to the movement in each cell: integrated gradients from the still clip.

The gradient with respect to what the encoder reads, averaged over clips that move a share of what the clip moves, times the movement. The attributions of all cells
add up to the score minus that of the still clip (Sundararajan et al. 2017, "integrated gradients", with the clip's own mean as the baseline). The gradient at the clip
alone is a worse order for the deletion test, because the score hardly changes with little movement once the answer is clear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the movement: midpoints of five equal parts

Score = Callable[[Tensor, Tensor], Tensor]
"""Visual tokens (1, steps, tokens, dim) and summaries (1, steps, dim) → a number."""
Forward = Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]
"""What an encoder reads → values (steps, tokens, dim) and summary (steps, width)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceInput:
    """One thing that an encoder reads of a clip: ``values`` over frames, and the function from what each of them lost to cells (steps, rows, columns)."""

    values: Float[Tensor, "frames ..."]
    to_cells: Callable[[Tensor], np.ndarray]

    @property
    def movement(self) -> Float[Tensor, "frames ..."]:
        """Difference from the clip's mean."""
        return self.values - self.values.mean(0, keepdim=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """How a clip's tokens come from the encoder's inputs."""

    forward: Forward
    inputs: tuple[TraceInput, ...]

    def tokens(self) -> tuple[Float[Tensor, "steps tokens dim"], Float[Tensor, "steps width"]]:
        """Values and summary of the clip, as in ``VisualTokens``."""
        with torch.no_grad():
            return self.forward([one.values for one in self.inputs])


def cell_attribution(trace: Trace, score: Score) -> Float[np.ndarray, "steps rows columns"]:
    """Part of each cell's movement in the score; negative where it lowers the score."""
    movements = [one.movement for one in trace.inputs]
    gradients = [torch.zeros_like(movement) for movement in movements]
    for share in _SHARES:
        with torch.enable_grad():
            read = [
                (one.values - (1 - share) * movement).requires_grad_()
                for one, movement in zip(trace.inputs, movements, strict=True)
            ]
            values, summary = trace.forward(read)
            found = torch.autograd.grad(score(values[None], summary[None]), read)
        for total, gradient in zip(gradients, found, strict=True):
            total += gradient / len(_SHARES)
    parts = [
        one.to_cells(gradient * movement)
        for one, gradient, movement in zip(trace.inputs, gradients, movements, strict=True)
    ]
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

    def to_cells(lost: Tensor) -> np.ndarray:
        cells = reduce(lost, "(t k) c (r h) (q w) -> t r q", "sum", t=steps, r=rows, q=columns)
        return np.asarray(cells.double().numpy())

    return Trace(forward=lambda read: forward(read[0][None]), inputs=(TraceInput(values=video, to_cells=to_cells),))
