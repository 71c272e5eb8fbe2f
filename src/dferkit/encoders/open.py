"""A visual encoder by name."""

from __future__ import annotations

from pathlib import Path

from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.encoders.protocols import VisualEncoder


def open_visual_encoder(spec: str, *, box: Path | str = BOX_FOLDER) -> VisualEncoder:
    """``box``, ``videomae`` (a small random one), or a VideoMAE folder or hub-cache name.

    Raises:
        CheckpointError: The model cannot be loaded.
    """
    if spec == "box":
        return BoxEncoder(box)
    from dferkit.encoders.videomae import VideoMAEEncoder

    return VideoMAEEncoder(None if spec == "videomae" else spec)
