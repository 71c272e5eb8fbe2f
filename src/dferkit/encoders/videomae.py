"""VideoMAE (the transformers class) as a visual encoder: real checkpoints from a local folder or the user's hub cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from einops import rearrange

from dferkit.encoders.attribution import Trace, trace_pixels
from dferkit.encoders.clip_model import normalisation
from dferkit.encoders.model_folder import digest_weights, find_model_folder
from dferkit.encoders.protocols import VisualEncoder
from dferkit.encoders.videomae_load import STATISTICS, load_videomae
from dferkit.schema import FaceClip, VisualTokens
from dferkit.storage import digest_json


class VideoMAEEncoder(VisualEncoder):
    """Frozen VideoMAE. It has no vector of its own per step: a model reads the mean of its weighted tokens.

    Args of the constructor:
        source: Folder with config.json and safetensors (``dferkit models convert`` makes one from a published file), a name in the user's hub cache
            (never downloaded), or None for a small, randomly initialised model of the same class, for tests and as a lower bound.
        seed: Of the random initialisation.
    """

    device = "cpu"

    def __init__(self, source: Path | str | None = None, *, seed: int = 0) -> None:
        """Load the model.

        Raises:
            CheckpointError: The model is not there, is not VideoMAE, or has parameters or keys without a counterpart.
        """
        if source is None:
            self.name, self.model = "videomae-random", _random_model(seed)
            self._mean, self._std = (torch.tensor(values).view(3, 1, 1) for values in STATISTICS)
        else:
            source = find_model_folder(source, "videomae")
            self.name = f"videomae:{Path(source).name}"
            self.model = load_videomae(source)
            self._mean, self._std = normalisation(source, STATISTICS)
        config: Any = self.model.config
        self.dim, self.size = config.hidden_size, config.image_size
        side = config.image_size // config.patch_size
        self.grid, self.num_frames, self._tubelet = (
            (side, side),
            config.num_frames // config.tubelet_size,
            config.tubelet_size,
        )
        self._input_frames = config.num_frames
        about = [self.summary_dim, config.hidden_act, config.layer_norm_eps, config.num_attention_heads, config.image_size, config.patch_size, config.num_frames, config.tubelet_size]  # fmt: skip
        own = [self._mean.flatten().tolist(), self._std.flatten().tolist()]
        about += own if own != [torch.tensor(values).tolist() for values in STATISTICS] else []
        self.digest = digest_json([digest_weights(self.model), about])

    @torch.inference_mode()
    def encode(self, clips: Sequence[FaceClip], *, batch_size: int = 4) -> list[VisualTokens]:
        """Tokens of each clip; one token step spans ``tubelet_size`` frames."""
        result: list[VisualTokens] = []
        for first in range(0, len(clips), batch_size):
            chosen = clips[first : first + batch_size]
            hidden = self._hidden(torch.stack([self._frames(clip) for clip in chosen]))
            for i, clip in enumerate(chosen):
                values = hidden[i]
                stamps = clip.timestamps[
                    np.linspace(0, len(clip.timestamps) - 1, self._input_frames).round().astype(int)
                ]
                result.append(
                    VisualTokens(
                        values=values,
                        summary=values.new_zeros(len(values), 0),
                        grid=self.grid,
                        timestamps=stamps.reshape(-1, self._tubelet).mean(1),
                        encoder=self.name,
                    )
                )
        return result

    def to(self, device: str) -> VideoMAEEncoder:
        """``VisualEncoder.to``."""
        self.model, self.device = self.model.to(device), device
        return self

    def trace(self, clip: FaceClip) -> Trace:
        """The same tokens with their gradient path to the pixels."""

        def forward(video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            values = self._hidden(video)[0]
            return values, values.new_zeros(len(values), 0)

        return trace_pixels(forward, self._frames(clip), steps=self.num_frames, grid=self.grid)

    def _hidden(self, video: torch.Tensor) -> torch.Tensor:
        """(clips, steps, patches, dim) of videos in [0, 1]."""
        pixels = ((video - self._mean) / self._std).to(self.device)
        hidden = self.model(pixel_values=pixels).last_hidden_state.float().cpu()
        return rearrange(hidden, "b (t p) d -> b t p d", t=self.num_frames)

    def _frames(self, clip: FaceClip) -> torch.Tensor:
        chosen = np.linspace(0, len(clip.images) - 1, self._input_frames).round().astype(int)
        interpolation = cv2.INTER_AREA if clip.images.shape[1] >= self.size else cv2.INTER_LINEAR
        images = np.stack(
            [cv2.resize(clip.images[i], (self.size, self.size), interpolation=interpolation) for i in chosen]
        )
        return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def _random_model(seed: int) -> Any:
    from transformers import VideoMAEConfig, VideoMAEModel

    config = VideoMAEConfig(
        image_size=64,
        patch_size=8,
        num_frames=16,
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=192,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VideoMAEModel(config).eval().requires_grad_(False)
