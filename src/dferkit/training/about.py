"""What a checkpoint records of its origin, and the checks that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.front_end import front_end_of
from dferkit.errors import CheckpointError
from dferkit.models.checkpoint import Checkpoint
from dferkit.models.installed import box_digests
from dferkit.reports.tables import own_version
from dferkit.tokens.captioned import CAPTION_SOURCE, TOP_K
from dferkit.tokens.dataset import TokenDataset

UNCALIBRATED = "UNCALIBRATED on real faces"


def check_tokens(checkpoint: Checkpoint, data: TokenDataset) -> None:
    """Refuse tokens of another encoder, and classes in another order.

    Raises:
        CheckpointError: They are those.
    """
    if data.encoder_digest != checkpoint.about["encoder_digest"]:
        raise CheckpointError(
            "the checkpoint was trained on another visual encoder's tokens; encode the clips with its own encoder"
        )
    if data.labels != checkpoint.labels:
        raise CheckpointError(
            f"the clips are numbered by the classes {', '.join(data.labels)}, the model by {', '.join(checkpoint.labels)}; number the clips by the model's (TokenDataset.with_labels)"
        )


def about_checkpoint(
    name: str, *, trained_on: str, encoder: str, encoder_digest: str, box: Path = BOX_FOLDER, **more: Any
) -> dict[str, Any]:
    """The ``about`` of a checkpoint: digests of its parts, what it was trained on, and further facts.

    Args:
        encoder: As ``encoders.open`` names it. encoder_digest: SHA-256 of its weights.
    """
    digests = box_digests(box, encoder)
    about: Mapping[str, Any] = {
        "name": name,
        "front_end": front_end_of(encoder),
        "encoder": encoder,
        "encoder_digest": encoder_digest,
        "text_encoder": "box",
        **digests,
        "caption": {"source": CAPTION_SOURCE, "top_k": TOP_K},
        "experts": [],
        "prior": None,
        "trained_on": trained_on,
        "calibration": UNCALIBRATED,
        "abstain_below": 0.0,
        "version": own_version(),
    }
    return {**about, **more}
