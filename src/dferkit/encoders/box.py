"""The video network of the bundled model (called *box*) as a frozen encoder: tokens and action units of face clips in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from einops import reduce

from dferkit.encoders.attribution import Trace, trace_pixels
from dferkit.encoders.box_net import BoxNet, BoxNetConfig, BoxOutput
from dferkit.encoders.network_files import load_network
from dferkit.encoders.protocols import DescribingEncoder, EncoderReading
from dferkit.schema import ActionUnits, FaceClip, VisualTokens
from dferkit.storage import digest_file, from_json

BOX_FOLDER = Path(__file__).parents[1] / "data" / "box"
WEIGHTS = "visual.safetensors"
NUM_FRAMES = 16
TUBELET = 2  # frames per token step, as in VideoMAE


class BoxEncoder(DescribingEncoder):
    """Frozen video network of the bundled model; of the packaged one by default."""

    name = "box"
    joint_space = "joint.safetensors"
    device = "cpu"

    def __init__(self, folder: Path | str = BOX_FOLDER) -> None:
        """Load the weights.

        Raises:
            CheckpointError: A file is missing, damaged or of another network.
        """
        path = Path(folder) / WEIGHTS
        self.net = load_network(lambda settings: BoxNet(from_json(BoxNetConfig, settings)), path)
        self.digest = digest_file(path)
        self.summary_dim, self.au_names = self.net.config.hidden, self.net.config.au_names
        self.dim, self.grid, self.num_frames = self.net.config.width, self.net.config.grid, NUM_FRAMES // TUBELET

    def to(self, device: str) -> BoxEncoder:
        """``VisualEncoder.to``."""
        self.net, self.device = self.net.to(device), device
        return self

    @torch.inference_mode()
    def read(self, clips: Sequence[FaceClip], *, batch_size: int = 16) -> list[EncoderReading]:
        """Tokens and action units of each clip."""
        readings: list[EncoderReading] = []
        for first in range(0, len(clips), batch_size):
            chosen = clips[first : first + batch_size]
            video = torch.stack([_network_input(clip, self.net.config.size) for clip in chosen])
            output = self.net(video.to(self.device)).cpu()
            for i, clip in enumerate(chosen):
                values, summary = per_step(output, i)
                tokens = VisualTokens(
                    values=values,
                    summary=summary,
                    grid=self.grid,
                    timestamps=clip.timestamps.reshape(-1, TUBELET).mean(1),
                    encoder=self.name,
                )
                intensity = output.action_units[i].clamp(0, 1).numpy().astype(np.float32)
                readings.append(
                    EncoderReading(
                        tokens=tokens,
                        action_units=ActionUnits(
                            names=self.net.config.au_names,
                            intensity=intensity,
                            timestamps=clip.timestamps,
                            source=self.name,
                        ),
                    )
                )
        return readings

    def trace(self, clip: FaceClip) -> Trace:
        """The same tokens with their gradient path to the pixels."""
        video = _network_input(clip, self.net.config.size)
        return trace_pixels(
            lambda v: per_step(self.net(v.to(self.device)).cpu(), 0), video, steps=self.num_frames, grid=self.grid
        )


def per_step(output: BoxOutput, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and summary of one clip of a batch per token step: the mean of its frames."""
    values = reduce(output.tokens[number], "(t k) p d -> t p d", "mean", k=TUBELET)
    return values, reduce(output.hidden[number], "(t k) d -> t d", "mean", k=TUBELET)


def _network_input(clip: FaceClip, size: int) -> torch.Tensor:
    """(frames, 3, size, size) in [-0.5, 0.5]."""
    small = np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in clip.images])
    return torch.from_numpy(small).permute(0, 3, 1, 2).float() / 255 - 0.5
