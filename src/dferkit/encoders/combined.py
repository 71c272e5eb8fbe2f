"""Pixels and landmarks together: the tokens of both networks side by side, and for each action unit the mixture that was nearest to the truth."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from dferkit.encoders.attribution import Trace
from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.encoders.face_shape import HeadShape
from dferkit.encoders.landmarks import LandmarkEncoder
from dferkit.encoders.protocols import EncoderReading, LandmarkReader
from dferkit.errors import CheckpointError
from dferkit.schema import FaceClip
from dferkit.storage import digest_file, write_json

SETTINGS = "combined.json"


class CombinedEncoder(LandmarkReader):
    """Both networks of the bundled model.

    Attributes:
        pixel_share: (AUs,) share of the video network in an action unit's intensity, 0 to 1; the rest is that of the landmark network.
    """

    name = "box+landmarks"
    needs_landmarks = True
    joint_space = "joint-combined.safetensors"

    def __init__(self, folder: Path | str = BOX_FOLDER) -> None:
        """Load both networks.

        Raises:
            CheckpointError: A file is missing or damaged.
        """
        self.pixels, self.landmarks = BoxEncoder(folder), LandmarkEncoder(folder)
        path = Path(folder) / SETTINGS
        try:
            share = json.loads(path.read_text(encoding="utf-8"))["pixel_share"]
        except (OSError, ValueError, LookupError) as error:
            raise CheckpointError(
                f"{SETTINGS} of the bundled model in {path.parent.name}/ cannot be read ({error}); reinstall dferkit"
            ) from error
        self.pixel_share = np.asarray(share, np.float32)
        self.grid, self.areas = self.pixels.grid, self.landmarks.areas
        self.dim, self.num_frames, self.au_names = self.pixels.dim, self.pixels.num_frames, self.pixels.au_names
        self.summary_dim = self.pixels.summary_dim + self.landmarks.summary_dim
        parts = (self.pixels.digest, self.landmarks.digest, digest_file(path))
        self.digest = hashlib.sha256("".join(parts).encode()).hexdigest()

    def to(self, device: str) -> CombinedEncoder:
        """``VisualEncoder.to``."""
        self.pixels, self.landmarks = self.pixels.to(device), self.landmarks.to(device)
        return self

    def with_neutral(self, neutral: Float[np.ndarray, "points 3"] | None) -> CombinedEncoder:
        """The same networks, with the landmarks' movement measured from a known neutral face."""
        other = copy.copy(self)
        other.landmarks = self.landmarks.with_neutral(neutral)
        return other

    def shape(self, clip: FaceClip) -> HeadShape:
        """``LandmarkEncoder.shape``."""
        return self.landmarks.shape(clip)

    def hold_still(self, clip: FaceClip, keep: Bool[np.ndarray, "steps rows columns"]) -> FaceClip:
        """``LandmarkEncoder.hold_still``; the pixels are the caller's."""
        return self.landmarks.hold_still(clip, keep)

    def read(self, clips: Sequence[FaceClip]) -> list[EncoderReading]:
        """Tokens and action units of each clip.

        Raises:
            DataError: A clip has no landmarks, or the landmarker found no face in it.
        """
        return [self._join(a, b) for a, b in zip(self.pixels.read(clips), self.landmarks.read(clips), strict=True)]

    def trace(self, clip: FaceClip) -> Trace:
        """The same tokens with their gradient path to pixels and landmarks."""
        a, b = self.pixels.trace(clip), self.landmarks.trace(clip)
        first = len(a.inputs)

        def forward(read: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            parts = zip(a.forward(read[:first]), b.forward(read[first:]), strict=True)
            values, summary = (torch.cat(part, 1) for part in parts)
            return values, summary

        return Trace(forward=forward, inputs=(*a.inputs, *b.inputs))

    def _join(self, pixels: EncoderReading, landmarks: EncoderReading) -> EncoderReading:
        a, b = pixels.tokens, landmarks.tokens
        tokens = replace(
            b,
            values=torch.cat([a.values, b.values], 1),
            summary=torch.cat([a.summary, b.summary], 1),
            grid=self.grid,
            encoder=self.name,
        )
        units = mix_units(pixels.action_units.intensity, landmarks.action_units.intensity, self.pixel_share)
        return EncoderReading(
            tokens=tokens, action_units=replace(landmarks.action_units, intensity=units, source=self.name)
        )


def mix_units(pixels: np.ndarray, landmarks: np.ndarray, pixel_share: np.ndarray) -> np.ndarray:
    """Intensities (…, AUs) of both networks, mixed per action unit."""
    return (pixel_share * pixels + (1 - pixel_share) * landmarks).astype(np.float32)


def fit_pixel_share(pixels: np.ndarray, landmarks: np.ndarray, truth: np.ndarray) -> Float[np.ndarray, " aus"]:
    """Share of the video network per action unit with the least mean square error, clipped to 0 to 1.

    Args:
        pixels, landmarks, truth: (samples, AUs) intensities.
    """
    difference = pixels - landmarks
    share = (difference * (truth - landmarks)).sum(0) / np.maximum(np.square(difference).sum(0), 1e-9)
    return np.clip(share, 0, 1).astype(np.float32)


def save_combined(pixel_share: np.ndarray, folder: Path | str) -> None:
    """Write the mixture."""
    write_json(Path(folder) / SETTINGS, {"pixel_share": [round(float(v), 4) for v in pixel_share]})
