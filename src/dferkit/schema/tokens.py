"""What models read and return: tokens, batches, transport plans, alignments, class scores."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class VisualTokens:
    """Visual tokens of one clip.

    Attributes:
        values: Patches run row by row over ``grid``; after them comes one token per face area.
        summary: The encoder's own vector per token step.
        grid: Rows and columns of the patches; (0, 0) where there are only areas.
        areas: Names of the face areas. coverage: Position of each on the face crop at each step, as shares of the cells of an 8 × 8 grid.
    """

    values: Float[Tensor, "frames patches dim"]
    summary: Float[Tensor, "frames summary_dim"]
    grid: tuple[int, int]
    timestamps: Float[np.ndarray, " frames"]
    encoder: str
    areas: tuple[str, ...] = ()
    coverage: Float[np.ndarray, "frames areas cells"] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTokens:
    """Text tokens of one caption.

    Attributes:
        values: One vector per word piece; special tokens are left out.
        sentence: One vector for the whole text.
        pieces: Text of each piece.
        spans: (start, end) character of each piece in the caption.
        phrase_of_piece: Number of the caption's phrase that each piece belongs to, -1 for none; empty when no phrases are known.
        phrase_seconds: Start and end of each phrase, in seconds on the clip's clock; empty when no phrases are known.
    """

    values: Float[Tensor, "words dim"]
    sentence: Float[Tensor, " dim"]
    pieces: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    encoder: str
    phrase_of_piece: tuple[int, ...] = ()
    phrase_seconds: tuple[tuple[float, float], ...] = ()

    def pieces_within(self, start: int, end: int) -> list[int]:
        """Numbers of the pieces that overlap the characters from ``start`` to before ``end``."""
        return [i for i, (first, last) in enumerate(self.spans) if first < end and last > start]


@dataclass(frozen=True, kw_only=True, slots=True)
class TransportPlan:
    """Answer of an entropy-regularised transport solver, and how the solving went.

    Attributes:
        plan: Mass moved from each word to each visual token; rows sum to the text mass, columns to the visual mass.
        transport_cost: ⟨plan, cost⟩ per batch element.
        marginal_error: L1 distance of the plan's marginals from the wanted ones, per batch element.
        num_iterations: Sweeps or steps used (the whole batch).
        converged: ``marginal_error`` ≤ tolerance, per batch element. Not converging is a value, not an exception.
    """

    plan: Float[Tensor, "batch words visual"]
    transport_cost: Float[Tensor, " batch"]
    marginal_error: Float[Tensor, " batch"]
    num_iterations: int
    converged: Bool[Tensor, " batch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """Alignment of words and visual tokens; every aligner returns one.

    Attributes:
        plan: Non-negative weights; rows of live words sum to the text mass (1 / number of live words by default).
        score: Similarity of text and video per batch element, higher is closer.
        visual_index: Position (frame · patches + patch) of each visual column, -1 for padding; tokens may have been selected.
        method: ``transport``, ``cosine``, ``cross_attention``, or ``similarity`` (A³lign-DFER: a row is spread over the frames).
    """

    plan: Float[Tensor, "batch words visual"]
    score: Float[Tensor, " batch"]
    visual_index: Tensor
    method: str
    marginal_error: Float[Tensor, " batch"] | None = None
    num_iterations: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenShape:
    """Sizes that the data decides; a model is built for them. 0 where the data has no such thing.

    Attributes:
        visual_dim, num_frames, grid, num_areas: Of the visual tokens. summary_dim: Of the encoder's own vector per token step.
        text_dim: Width of a text token. token_width: Width of the token embeddings of the encoder's own text tower (CLIP).
        has_joint_space: A trained joint space exists for these tokens.
        shares_space: Patches and words come from one image–text model, in its own common space.
    """

    labels: tuple[str, ...]
    visual_dim: int = 96
    num_frames: int = 8
    grid: tuple[int, int] = (8, 8)
    num_areas: int = 0
    summary_dim: int = 0
    text_dim: int = 128
    token_width: int = 0
    has_joint_space: bool = False
    shares_space: bool = False


def _moved(value: Any, device: torch.device | str) -> Any:
    """The same value with its tensors, also those of values in it, on another device."""
    found = {f.name: getattr(value, f.name) for f in fields(value)}
    tensors = {name: part.to(device) for name, part in found.items() if isinstance(part, Tensor)}
    values = {name: _moved(part, device) for name, part in found.items() if is_dataclass(part)}
    return replace(value, **tensors, **values)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenBatch:
    """What a model reads at once; None for what the data does not hold.

    Attributes:
        visual: Visual tokens, float32. frames: RGB frames in place of tokens, for models that hold their own encoder.
        text: Token vectors of the captions, padded; ``text_mask`` is True for real ones. sentence: One vector per caption.
        phrases: Number of the phrase that each word belongs to, -1 for none.
        phrase_steps: Token steps in which the movement of each phrase is said to happen; all False for a phrase without times.
        target: Class numbers, 0 where they are not known. soft_target: Shares of the annotators, each row sums to 1.
        summary: The visual encoder's own vector per token step. motion: Measured motion weights, mean 1 per clip.
        visual_keep: For deletion tests: tokens marked False are replaced by the clip's mean token and take no part in the alignment.
    """

    visual: Float[Tensor, "batch frames patches visual_dim"] | None = None
    frames: UInt8[Tensor, "batch frames height width 3"] | None = None
    text: Float[Tensor, "batch words text_dim"] | None = None
    text_mask: Bool[Tensor, "batch words"] | None = None
    sentence: Float[Tensor, "batch text_dim"] | None = None
    phrases: Int[Tensor, "batch words"] | None = None
    phrase_steps: Bool[Tensor, "batch phrases frames"] | None = None
    target: Int[Tensor, " batch"] | None = None
    soft_target: Float[Tensor, "batch classes"] | None = None
    summary: Float[Tensor, "batch frames summary_dim"] | None = None
    motion: Float[Tensor, "batch frames patches"] | None = None
    visual_keep: Bool[Tensor, "batch frames patches"] | None = None

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same batch on another device."""
        moved: TokenBatch = _moved(self, device)
        return moved


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOutput:
    """Answer of a model for a batch.

    Attributes:
        logits: Class scores, before the checkpoint's temperature.
        alignment: Alignment of the words and the visual tokens; None for a model that aligns none.
        motion: Motion weight of every visual token, mean 1 per clip; None for a model without them.
        frame_attention: Share of each frame in the video's vector, of models that attend to frames.
        contributions: Share of each phrase and visual token in each class score, of models whose evidence is exact.
    """

    logits: Float[Tensor, "batch classes"]
    alignment: Alignment | None = None
    motion: Float[Tensor, "batch frames patches"] | None = None
    frame_attention: Float[Tensor, "batch frames"] | None = None
    contributions: Float[Tensor, "batch phrases visual classes"] | None = None

    def to(self, device: torch.device | str) -> Self:
        """The same answer on another device."""
        moved: Self = _moved(self, device)
        return moved

    def among(self, classes: Int[Tensor, " shown"]) -> ModelOutput:
        """The answer as a choice among some classes."""
        return replace(self, logits=self.logits[:, classes])
