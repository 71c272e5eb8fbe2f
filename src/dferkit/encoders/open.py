"""A visual encoder by name: one table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.encoders.clip_model import KINDS, ClipEncoder
from dferkit.encoders.combined import CombinedEncoder
from dferkit.encoders.landmarks import LandmarkEncoder
from dferkit.encoders.protocols import VisualEncoder
from dferkit.encoders.videomae import VideoMAEEncoder

# Name → class that is opened from the folder of the bundled model. A new encoder without weights of its own is one line here.
ENCODERS: dict[str, Any] = {"box": BoxEncoder, "landmarks": LandmarkEncoder, "box+landmarks": CombinedEncoder}
# Name before a colon → how the model behind it (a folder, or a name in the hub cache) is opened.
BACKBONES: dict[str, Callable[[str], VisualEncoder]] = {
    **{kind: lambda source, size=size: ClipEncoder(source, size=size) for size, kind in KINDS.items()},  # type: ignore[misc]
    "videomae": VideoMAEEncoder,
}


def open_visual_encoder(spec: str, *, box: Path | str = BOX_FOLDER, device: str = "cpu") -> VisualEncoder:
    """``box``, ``landmarks``, ``box+landmarks`` or another name of ``ENCODERS``; ``clip:`` or ``clip-interpolate:`` and a CLIP folder or hub-cache
    name; ``videomae`` (a small random one) or a VideoMAE one.

    Raises:
        CheckpointError: The model cannot be loaded.
    """
    kind, colon, source = spec.partition(":")
    if spec in ENCODERS:
        encoder: VisualEncoder = ENCODERS[spec](box)
    elif colon and kind in BACKBONES:
        encoder = BACKBONES[kind](source)
    else:
        encoder = VideoMAEEncoder(None if spec == "videomae" else spec)
    return encoder.to(device)


def describer_of(encoder: VisualEncoder, box: Path | str = BOX_FOLDER) -> Any:
    """Who measures the action units: the encoder itself where it does, else the bundled video network."""
    return encoder if hasattr(encoder, "read") and hasattr(encoder, "au_names") else BoxEncoder(box)
