"""What a checkpoint records of its origin, and the checks that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.front_end import front_end_of
from dferkit.encoders.open import BUNDLED_TEXT
from dferkit.errors import CheckpointError
from dferkit.models.checkpoint import Checkpoint
from dferkit.models.installed import box_digests
from dferkit.models.registry import find_model
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


def check_texts(checkpoint: Checkpoint, data: TokenDataset) -> None:
    """Refuse words of another text encoder.

    Raises:
        CheckpointError: They are those.
    """
    if not data.texts or not find_model(checkpoint.name).reads_text:
        return
    found, wanted = data.texts[0].values.shape[-1], checkpoint.model.config.text_dim
    if found != wanted:
        raise CheckpointError(
            f"the words have {found} numbers each, and the checkpoint reads words of {wanted}; caption the clips with its own text encoder ({checkpoint.about['text_encoder']})"
        )
    if data.text_encoder_digest:  # empty for texts of a user's own making
        checkpoint.require({"text_encoder_digest": data.text_encoder_digest})


def about_checkpoint(
    name: str,
    *,
    trained_on: str,
    encoder: str,
    encoder_digest: str,
    text_encoder: str = BUNDLED_TEXT,
    box: Path = BOX_FOLDER,
    **more: Any,
) -> dict[str, Any]:
    """The ``about`` of a checkpoint: digests of its parts, what it was trained on, and further facts.

    Args:
        encoder, text_encoder: As ``encoders.open`` names them. encoder_digest: SHA-256 of the visual encoder's weights.
    """
    digests = box_digests(box, encoder, text_encoder)
    about: Mapping[str, Any] = {
        "name": name,
        "front_end": front_end_of(encoder),
        "encoder": encoder,
        "encoder_digest": encoder_digest,
        "text_encoder": text_encoder,
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
