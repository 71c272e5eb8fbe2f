"""A visual encoder by name."""

from __future__ import annotations

from pathlib import Path

from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.encoders.clip_model import KINDS, ClipEncoder
from dferkit.encoders.combined import CombinedEncoder
from dferkit.encoders.landmarks import LandmarkEncoder
from dferkit.encoders.protocols import VisualEncoder


def open_visual_encoder(spec: str, *, box: Path | str = BOX_FOLDER) -> VisualEncoder:
    """``box``, ``landmarks``, ``box+landmarks``, ``videomae`` (a small random one), ``clip:`` or ``clip-interpolate:`` and a CLIP folder or hub-cache
    name, or a VideoMAE one.

    Raises:
        CheckpointError: The model cannot be loaded.
    """
    match spec:
        case "box":
            return BoxEncoder(box)
        case "landmarks":
            return LandmarkEncoder(box)
        case "box+landmarks":
            return CombinedEncoder(box)
    kind, _, source = spec.partition(":")
    for size, name in KINDS.items():
        if kind == name:
            return ClipEncoder(source, size=size)
    from dferkit.encoders.videomae import VideoMAEEncoder

    return VideoMAEEncoder(None if spec == "videomae" else spec)
