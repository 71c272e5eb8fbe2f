"""CLIP with a convolution stem: what it copies from the box, what its folder says, and that it comes back whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.encoders.clip_model import ClipEncoder
from dferkit.encoders.conv_stem import STEM_WIDTHS, ConvStem, clip_class
from dferkit.pretraining.clip import ClipPretrainingConfig, new_clip

SMALL = ClipPretrainingConfig(width=16, layers=1, heads=2, text_width=16, text_layers=1, dim=12)


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 0.5


@pytest.mark.parametrize(("patch", "side"), [(8, 8), (16, 4), (32, 2)])
def test_patches_are_as_many_as_clip_has_places_for(patch: int, side: int, pictures: torch.Tensor) -> None:
    assert ConvStem(STEM_WIDTHS, 20, patch)(pictures).shape == (2, 20, side, side)


def test_it_begins_as_the_box_s_network_does(pictures: torch.Tensor, tmp_path: Path) -> None:
    box, clip = BoxEncoder(BOX_FOLDER).net, new_clip(SMALL, tmp_path)
    stem = clip.vision_model.embeddings.patch_embedding
    with torch.no_grad():
        torch.testing.assert_close(stem.early(stem.stem(pictures)), box.early(box.stem(pictures)))


def test_a_folder_comes_back_whole(pictures: torch.Tensor, tmp_path: Path) -> None:
    clip = new_clip(SMALL, tmp_path).eval()
    clip.save_pretrained(tmp_path)
    encoder = ClipEncoder(tmp_path)
    with torch.no_grad():
        expected = clip.visual_projection(clip.vision_model(pixel_values=pictures).pooler_output)
    torch.testing.assert_close(encoder.features(pictures + 0.5), expected)


def test_a_plain_clip_stays_plain() -> None:
    assert clip_class(CLIPConfig()) is CLIPModel
