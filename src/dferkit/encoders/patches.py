"""Patch tokens of CLIP, SigLIP and X-CLIP (the transformers classes), frozen, in the space of their own text tower."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from dferkit.encoders.attribution import Trace, trace_pixels
from dferkit.encoders.clip_model import STATISTICS, normalisation, square_frames
from dferkit.encoders.image_text import TOWER, load_image_text
from dferkit.encoders.model_folder import digest_weights, find_model_folder
from dferkit.encoders.protocols import VisualEncoder
from dferkit.encoders.value_path import finish_layer, finish_pooling, layer_values, pooling_values
from dferkit.errors import CheckpointError
from dferkit.schema import FaceClip, VisualTokens
from dferkit.storage import digest_json

NUM_FRAMES, NUM_STEPS = 16, 8


class _ClipTower(nn.Module):
    """The image tower of CLIP or X-CLIP up to its last layer, and that layer by itself."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision, self.projection = model.vision_model, model.visual_projection
        self.last = self.vision.encoder.layers.pop(-1)

    def forward(self, pixels: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames patches dim"]:
        hidden = self.vision(pixel_values=pixels).last_hidden_state[:, 1:]  # without the class token
        hidden = finish_layer(self.last, hidden, layer_values(self.last, hidden))
        patches: Tensor = self.projection(self.vision.post_layernorm(hidden))
        return patches


class _SiglipTower(nn.Module):
    """The image tower of SigLIP."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision = model.vision_model
        if not self.vision.use_head:
            raise CheckpointError(
                "this SigLIP has no pooling head, so its patches and words have no common space; give another folder"
            )

    def forward(self, pixels: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames patches dim"]:
        hidden = self.vision(pixel_values=pixels).last_hidden_state
        return finish_pooling(self.vision.head, pooling_values(self.vision.head, hidden))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """One family of models. ``statistics``: Mean and spread of its channels, where its folder names none."""

    model_type: str
    tower: Callable[[Any], nn.Module]
    statistics: tuple[tuple[float, ...], tuple[float, ...]] = STATISTICS


KINDS: Mapping[str, _Kind] = {
    "clip-patches": _Kind(model_type="clip", tower=_ClipTower),
    "siglip": _Kind(model_type="siglip", tower=_SiglipTower, statistics=((0.5,) * 3,) * 2),
    "xclip": _Kind(model_type="xclip", tower=_ClipTower),
}
"""Name of the encoder → what it reads."""


class PatchEncoder(VisualEncoder):
    """Frozen image tower: a token per patch, in the space of the model's own text tower (``encoders.value_path``).

    A clip of 16 frames becomes 8 token steps, each the mean over its frames. There is no vector per step: a model reads the mean of its weighted tokens.
    X-CLIP exchanges messages between as many frames as it was trained on; a clip's frames are spread over these. Its prompts from the video are left out.

    Args of the constructor:
        kind: A name of ``KINDS``. source: Folder with config.json and safetensors, or a name in the user's hub cache (never downloaded).
    """

    device = "cpu"
    has_text = True

    def __init__(self, kind: str, source: Path | str = "") -> None:
        """Load the model.

        Raises:
            CheckpointError: The model is not there, is of another type, or leaves parameters unfilled.
        """
        of = KINDS[kind]
        source = find_model_folder(source, of.model_type, option=kind)
        model = load_image_text(source, of.model_type)
        self.name = f"{kind}:{Path(source).name}"
        vision: Any = model.config.vision_config
        self._mean, self._std = normalisation(source, of.statistics)
        self._side = vision.image_size
        side = self._side // vision.patch_size
        self.grid, self._frames_read = (side, side), int(getattr(vision, "num_frames", NUM_FRAMES))
        self.num_frames = NUM_STEPS if self._frames_read % NUM_STEPS == 0 else self._frames_read
        about = [[getattr(vision, key) for key in TOWER], self._side, vision.patch_size, self._frames_read, self._mean.tolist(), self._std.tolist()]  # fmt: skip
        self.tower = of.tower(model)
        self.digest = digest_json([kind, digest_weights(self.tower), about])
        self.dim = model.visual_projection.out_features if of.model_type != "siglip" else vision.hidden_size

    def to(self, device: str) -> PatchEncoder:
        """``VisualEncoder.to``."""
        self.tower.to(device)
        self.device = device
        return self

    @torch.inference_mode()
    def encode(self, clips: Sequence[FaceClip]) -> list[VisualTokens]:
        """Tokens of each clip."""
        result = []
        for clip in clips:
            chosen = self._chosen(clip)
            values = self._steps(square_frames(clip.images[chosen], self._side))
            result.append(
                VisualTokens(
                    values=values,
                    summary=values.new_zeros(len(values), 0),
                    grid=self.grid,
                    timestamps=clip.timestamps[chosen].reshape(self.num_frames, -1).mean(1),
                    encoder=self.name,
                )
            )
        return result

    def trace(self, clip: FaceClip) -> Trace:
        """The same tokens with their gradient path to the pixels."""

        def forward(video: Tensor) -> tuple[Tensor, Tensor]:
            values = self._steps(video[0])
            return values, values.new_zeros(len(values), 0)

        frames = square_frames(clip.images[self._chosen(clip)], self._side)
        return trace_pixels(forward, frames, steps=self.num_frames, grid=self.grid)

    def _chosen(self, clip: FaceClip) -> np.ndarray:
        return np.linspace(0, len(clip.images) - 1, self._frames_read).round().astype(int)

    def _steps(self, frames: Float[Tensor, "frames 3 side side"]) -> Float[Tensor, "steps patches dim"]:
        """Tokens of frames in [0, 1]."""
        patches = self.tower(((frames - self._mean) / self._std).to(self.device)).float().cpu()
        return reduce(patches, "(t k) p d -> t p d", "mean", t=self.num_frames)
