"""The parts of this installation that a trained model stands on, and the check that they are those of its training."""

from __future__ import annotations

from pathlib import Path

from dferkit.encoders.box import BOX_FOLDER, WEIGHTS
from dferkit.encoders.front_end import FRONT_ENDS, joint_space_file
from dferkit.encoders.open import BUNDLED_TEXT, open_visual_encoder, text_folder
from dferkit.encoders.protocols import VisualEncoder
from dferkit.encoders.text import digest_text_model
from dferkit.models.checkpoint import Checkpoint
from dferkit.storage import digest_file


def box_digests(box: Path, encoder: str = FRONT_ENDS["pixels"], text_encoder: str = BUNDLED_TEXT) -> dict[str, str]:
    """SHA-256 of the parts that a model on an encoder's tokens is trained on top of, under the names that ``about`` of a checkpoint uses."""
    path = joint_space_file(encoder, box) if text_encoder == BUNDLED_TEXT else None
    joint = {} if path is None else {"joint_space_digest": digest_file(path)}
    return {
        "box_digest": digest_file(box / WEIGHTS),
        "text_encoder_digest": digest_text_model(text_folder(text_encoder, encoder, box)),
        **joint,
    }


def check_fits(checkpoint: Checkpoint, *, device: str = "cpu", box: Path = BOX_FOLDER) -> VisualEncoder:
    """Refuse, before any video is read, a checkpoint that was trained on top of other parts than those installed.

    Returns:
        The visual encoder of its tokens, on the device.

    Raises:
        CheckpointError: The digests differ, or the encoder cannot be loaded.
    """
    names = str(checkpoint.about["encoder"]), str(checkpoint.about["text_encoder"])
    encoder = open_visual_encoder(names[0], box=box, device=device)
    of_box = box_digests(box, *names)
    parts = {key: of_box[key] for key in ("box_digest", "text_encoder_digest")}
    checkpoint.require({"encoder_digest": encoder.digest, **parts})
    return encoder
