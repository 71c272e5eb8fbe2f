"""VideoMAE (the transformers class) as a visual encoder: real checkpoints from a local folder or the user's hub cache."""

from __future__ import annotations

import warnings
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
from dferkit.errors import ConfigError
from dferkit.labels import check_name
from dferkit.schema import FaceClip, VisualTokens
from dferkit.storage import digest_json

PRECISIONS = {"fp32": "videomae", "bf16": "videomae-bf16", "int8": "videomae-int8"}
"""Precision → name of the encoder: float32, bfloat16 by autocast, or linear layers in int8 (on the CPU only)."""


class VideoMAEEncoder(VisualEncoder):
    """Frozen VideoMAE. It has no vector of its own per step: a model reads the mean of its weighted tokens.

    Args of the constructor:
        source: Folder with config.json and safetensors (``dferkit models convert`` makes one from a published file), a name in the user's hub cache
            (never downloaded), or None for a small, randomly initialised model of the same class, for tests and as a lower bound.
        precision: One of ``PRECISIONS``. The tokens are float32 in any of them; the digest includes it.
        seed: Of the random initialisation.
    """

    device = "cpu"

    def __init__(self, source: Path | str | None = None, *, precision: str = "fp32", seed: int = 0) -> None:
        """Load the model.

        Raises:
            ConfigError: An unknown precision.
            CheckpointError: The model is not there, is not VideoMAE, or has parameters or keys without a counterpart.
        """
        check_name("precision", precision, PRECISIONS)
        kind, self.precision = PRECISIONS[precision], precision
        if source is None:
            self.name, self.model = f"{kind}-random", _random_model(seed)
            self._mean, self._std = (torch.tensor(values).view(3, 1, 1) for values in STATISTICS)
        else:
            source = find_model_folder(source, "videomae")
            self.name = f"{kind}:{Path(source).name}"
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
        about += [] if precision == "fp32" else [precision]
        self.digest = digest_json([digest_weights(self.model), about])
        if precision == "int8":
            self.model = _quantised(self.model)

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
        """``VisualEncoder.to``.

        Raises:
            ConfigError: int8 on another device than the CPU.
        """
        if self.precision == "int8" and device != "cpu":
            raise ConfigError(
                f"videomae-int8 computes on the CPU only, not on {device}; give videomae-bf16, or --device cpu"
            )
        self.model, self.device = self.model.to(device), device
        return self

    def trace(self, clip: FaceClip) -> Trace | None:
        """The same tokens with their gradient path to the pixels; None in int8, whose layers have no gradient."""
        if self.precision == "int8":
            return None

        def forward(video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            values = self._hidden(video)[0]
            return values, values.new_zeros(len(values), 0)

        return trace_pixels(forward, self._frames(clip), steps=self.num_frames, grid=self.grid)

    def _hidden(self, video: torch.Tensor) -> torch.Tensor:
        """(clips, steps, patches, dim) of videos in [0, 1]."""
        pixels = ((video - self._mean) / self._std).to(self.device)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bf16"):
            hidden = self.model(pixel_values=pixels).last_hidden_state.float().cpu()
        return rearrange(hidden, "b (t p) d -> b t p d", t=self.num_frames)

    def _frames(self, clip: FaceClip) -> torch.Tensor:
        chosen = np.linspace(0, len(clip.images) - 1, self._input_frames).round().astype(int)
        interpolation = cv2.INTER_AREA if clip.images.shape[1] >= self.size else cv2.INTER_LINEAR
        images = np.stack(
            [cv2.resize(clip.images[i], (self.size, self.size), interpolation=interpolation) for i in chosen]
        )
        return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def _quantised(model: Any) -> Any:
    """The model with its linear layers in int8: weights once, activations as they come."""
    from torch.ao.quantization import quantize_dynamic

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces a successor, which is another package
        return quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


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
