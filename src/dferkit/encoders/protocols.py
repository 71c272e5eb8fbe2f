"""What a visual encoder is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from dferkit.schema import FaceClip, VisualTokens


@runtime_checkable
class VisualEncoder(Protocol):
    """Face clips → visual tokens.

    Attributes:
        name: Written into every output. digest: SHA-256 of the weights.
        dim: Width of a token. summary_dim: Width of the encoder's own vector per token step. num_frames: Token steps in time per clip. grid: Rows and columns of tokens.
    """

    name: str
    digest: str
    dim: int
    summary_dim: int
    num_frames: int
    grid: tuple[int, int]

    def encode(self, clips: Sequence[FaceClip]) -> list[VisualTokens]:
        """Tokens of each clip; clips have 16 frames. Neighbours in a batch do not change each other."""
        ...
