"""CLIP whose patches are made by convolutions instead of one linear layer.

A vision transformer on pixels learns next to nothing about faces from a few thousand clips; convolutions represent small movements from the start
("Early convolutions help transformers see better", arXiv 2106.14881). Folders of such a model name the widths of the stem in the vision part of
their config.json (``conv_stem``); transformers' own classes cannot read them.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from dferkit.encoders.box_net import Block, BoxNet

STEM_WIDTHS = (24, 48, 96)


class ConvStem(nn.Module):
    """Pixels → patches: halved three times, then cut into patches of ``patch`` / 8 cells. The first two stages have the shapes of the bundled video network."""

    def __init__(self, widths: tuple[int, int, int], dim: int, patch: int) -> None:
        super().__init__()
        first, second, third = widths
        self.stem = nn.Sequential(nn.Conv2d(3, first, 5, 2, 2), nn.GroupNorm(8, first), nn.SiLU())
        self.early = Block(first, second, 2)
        self.late = Block(second, third, 2)
        self.patches = nn.Conv2d(third, dim, patch // 8, patch // 8, bias=False)

    @property
    def weight(self) -> Tensor:
        """Read by transformers for its data type."""
        return self.patches.weight

    def start_from(self, box: BoxNet) -> None:
        """Copy the first two stages of the bundled video network, which also read single frames."""
        self.stem.load_state_dict(box.stem.state_dict())
        self.early.load_state_dict(box.early.state_dict())

    def forward(self, pixels: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames dim rows columns"]:
        patches: Tensor = self.patches(self.late(self.early(self.stem(pixels))))
        return patches


class StemmedClip(CLIPModel):
    """transformers' CLIP with a convolution stem."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__(config)
        vision: Any = config.vision_config
        stem: Any = ConvStem(tuple(vision.conv_stem), vision.hidden_size, vision.patch_size)
        self.vision_model.embeddings.patch_embedding = stem


def clip_class(config: CLIPConfig) -> type[CLIPModel]:
    """The class that fits a configuration."""
    return StemmedClip if getattr(config.vision_config, "conv_stem", None) else CLIPModel
