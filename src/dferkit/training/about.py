"""What a checkpoint records of its origin, and the checks that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dferkit.encoders.box import BOX_FOLDER, WEIGHTS
from dferkit.encoders.front_end import FRONT_ENDS, front_end_of, joint_space_file
from dferkit.encoders.open import open_visual_encoder
from dferkit.errors import CheckpointError
from dferkit.models.checkpoint import Checkpoint
from dferkit.reports.tables import own_version
from dferkit.storage import digest_file
from dferkit.tokens.captioned import CAPTION_SOURCE, TOP_K
from dferkit.tokens.dataset import TokenDataset

UNCALIBRATED = "UNCALIBRATED on real faces"


def box_digests(box: Path, encoder: str = FRONT_ENDS["pixels"]) -> dict[str, str]:
    """SHA-256 of the parts that a model on an encoder's tokens is trained on top of, under the names that ``about`` of a checkpoint uses."""
    path = joint_space_file(encoder, box)
    joint = {} if path is None else {"joint_space_digest": digest_file(path)}
    return {
        "box_digest": digest_file(box / WEIGHTS),
        "text_encoder_digest": digest_file(box / "text" / "model.safetensors"),
        **joint,
    }


def check_fits(checkpoint: Checkpoint, *, box: Path = BOX_FOLDER) -> None:
    """Refuse, before any video is read, a checkpoint that was trained on top of other parts than those installed.

    Raises:
        CheckpointError: The digests differ, or the encoder cannot be loaded.
    """
    encoder = open_visual_encoder(str(checkpoint.about["encoder"]), box=box)
    of_box = box_digests(box)
    parts = {key: of_box[key] for key in ("box_digest", "text_encoder_digest")}
    checkpoint.require({"encoder_digest": encoder.digest, **parts})


def check_tokens(checkpoint: Checkpoint, data: TokenDataset) -> None:
    """Refuse tokens of another encoder.

    Raises:
        CheckpointError: They are another encoder's.
    """
    if data.encoder_digest != checkpoint.about["encoder_digest"]:
        raise CheckpointError(
            "the checkpoint was trained on another visual encoder's tokens; encode the clips with its own encoder"
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
