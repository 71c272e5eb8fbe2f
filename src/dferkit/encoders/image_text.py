"""Image–text models of transformers that are read as a whole: which class reads a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dferkit.encoders.model_folder import load_frozen


def _clip_class(source: str) -> Any:
    from transformers import CLIPConfig

    from dferkit.encoders.conv_stem import clip_class

    return clip_class(CLIPConfig.from_pretrained(source, local_files_only=True))


def _siglip_class(source: str) -> Any:
    from transformers import SiglipModel

    return SiglipModel


def _xclip_class(source: str) -> Any:
    from transformers import XCLIPModel

    return XCLIPModel


IMAGE_TEXT: Mapping[str, Callable[[str], Any]] = {"clip": _clip_class, "siglip": _siglip_class, "xclip": _xclip_class}
"""``model_type`` → the class of the model in a folder."""
TOWER = ("hidden_act", "layer_norm_eps", "num_attention_heads")
"""Settings of a tower that its weights do not show."""


def load_image_text(source: str, model_type: str) -> Any:
    """The model of ``find_model_folder`` for inference, both towers.

    Raises:
        CheckpointError: As ``load_frozen``.
    """
    return load_frozen(partial(IMAGE_TEXT[model_type], source), source, model_type)
