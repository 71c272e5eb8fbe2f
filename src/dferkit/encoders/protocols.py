"""What a visual encoder offers, and the optional parts with their defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float

from dferkit.encoders.attribution import Trace
from dferkit.encoders.face_shape import HeadShape
from dferkit.errors import ConfigError
from dferkit.schema import ActionUnits, FaceClip, VisualTokens


@runtime_checkable
class VisualEncoder(Protocol):
    """Face clips → visual tokens. A class with this base inherits the defaults: it offers tokens of patches and nothing else.

    Attributes:
        name: Written into every output. digest: SHA-256 of all that the tokens depend on, the weights above all.
        dim: Width of a token. num_frames: Token steps in time per clip. grid: Rows and columns of patches.
        summary_dim: Width of the encoder's own vector per token step; 0 where it has none, then a model reads its tokens instead.
        areas: Names of the face areas that have a token after the patches.
        needs_landmarks: It reads ``FaceClip.geometry``.
        has_text: It comes with a text tower in the space of its tokens.
        joint_space: File in the bundled model's folder with a trained joint space for these tokens and words; None where there is none.
    """

    name: str
    digest: str
    dim: int
    num_frames: int
    grid: tuple[int, int]
    summary_dim: int = 0
    areas: tuple[str, ...] = ()
    needs_landmarks: bool = False
    has_text: bool = False
    joint_space: str | None = None

    def encode(self, clips: Sequence[FaceClip]) -> list[VisualTokens]:
        """Tokens of each clip, on the CPU; clips have 16 frames. Neighbours in a batch do not change each other."""
        ...

    def trace(self, clip: FaceClip) -> Trace | None:
        """The same tokens with their gradient path to the cells of the face crop; None where the encoder offers no such path."""
        return None

    def to(self, device: str) -> VisualEncoder:
        """Compute on a torch device from now on. Inputs and outputs stay on the CPU."""
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderReading:
    """Tokens and action units of one clip."""

    tokens: VisualTokens
    action_units: ActionUnits


@runtime_checkable
class DescribingEncoder(VisualEncoder, Protocol):
    """A visual encoder that measures action units as well, in one pass.

    Attributes:
        au_names: Of the action units.
    """

    au_names: tuple[str, ...]

    def encode(self, clips: Sequence[FaceClip]) -> list[VisualTokens]:
        """``VisualEncoder.encode``: the tokens of ``read``."""
        return [reading.tokens for reading in self.read(clips)]

    def read(self, clips: Sequence[FaceClip]) -> list[EncoderReading]:
        """Tokens and action units of each clip."""
        ...


@runtime_checkable
class LandmarkReader(DescribingEncoder, Protocol):
    """A describing encoder that reads landmarks, alone or together with pixels."""

    def with_neutral(self, neutral: Float[np.ndarray, "points 3"] | None) -> LandmarkReader:
        """The same encoder, with movement measured from a known neutral face."""
        ...

    def shape(self, clip: FaceClip) -> HeadShape:
        """The clip in head coordinates."""
        ...

    def hold_still(self, clip: FaceClip, keep: Bool[np.ndarray, "steps rows columns"]) -> FaceClip:
        """The clip with the landmarks in cells marked False held at the clip's mean face."""
        ...


def num_tokens(encoder: VisualEncoder) -> int:
    """Visual tokens per step: patches and areas."""
    return encoder.grid[0] * encoder.grid[1] + len(encoder.areas)


def require_attributes(encoder: VisualEncoder, spec: str) -> VisualEncoder:
    """The encoder, if it has every attribute of the protocol.

    Raises:
        ConfigError: One is missing. ``spec``: How the message names the encoder.
    """
    for name in VisualEncoder.__annotations__:
        if not hasattr(encoder, name):
            raise ConfigError(f"the encoder {spec} has no attribute {name}; {type(encoder).__name__} must declare it")
    return encoder


def check_declared(encoder: VisualEncoder, tokens: VisualTokens) -> None:
    """Compare the tokens of a clip with what the encoder declares.

    Raises:
        ConfigError: They differ; the message names the attribute and both values.
    """
    found, summary = tuple(tokens.values.shape), tuple(tokens.summary.shape)
    if len(found) != 3 or len(summary) != 2:
        raise ConfigError(
            f"{encoder.name}: values are {found} and summary is {summary}; values must be (num_frames, rows × columns + areas, dim) and summary (num_frames, summary_dim)"
        )
    pairs = {
        "num_frames": (encoder.num_frames, found[0]),
        "num_frames of the summary": (encoder.num_frames, summary[0]),
        "num_frames of the timestamps": (encoder.num_frames, len(tokens.timestamps)),
        "grid": (tuple(encoder.grid), tuple(tokens.grid)),
        "tokens per step (rows × columns of grid, and areas)": (num_tokens(encoder), found[1]),
        "dim": (encoder.dim, found[2]),
        "summary_dim": (encoder.summary_dim, summary[1]),
        "areas": (tuple(encoder.areas), tuple(tokens.areas)),
        "type of values": (torch.float32, tokens.values.dtype),
        "type of summary": (torch.float32, tokens.summary.dtype),
        "name": (encoder.name, tokens.encoder),
    }
    for name, (declared, is_found) in pairs.items():
        if declared != is_found:
            raise ConfigError(f"{encoder.name}: {name} must be {declared}, but encode gave {is_found}")
