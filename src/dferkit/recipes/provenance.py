"""What a checkpoint says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dferkit.encoders.box import WEIGHTS
from dferkit.reports.tables import own_version
from dferkit.storage import digest_file
from dferkit.training.captioned import TOP_K

UNCALIBRATED = "UNCALIBRATED on real faces"


def about_checkpoint(
    name: str,
    *,
    box: Path,
    trained_on: str,
    encoder: str = "box",
    encoder_digest: str = "",
    abstain_below: float = 0.0,
    **more: Any,
) -> dict[str, Any]:
    """Digests of everything a model was trained on top of, and what it was trained on.

    Args:
        box: Folder of the box. encoder_digest: Of the visual encoder when it is not the box's.
    """
    box_digest = digest_file(box / WEIGHTS)
    return {
        "name": name,
        "encoder": encoder,
        "encoder_digest": encoder_digest or box_digest,
        "box_digest": box_digest,
        "text_encoder_digest": digest_file(box / "text" / "model.safetensors"),
        "caption": {"top_k": TOP_K},
        "trained_on": trained_on,
        "calibration": UNCALIBRATED,
        "abstain_below": abstain_below,
        "version": own_version(),
        **more,
    }
