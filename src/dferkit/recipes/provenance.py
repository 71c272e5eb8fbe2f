"""What a checkpoint says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dferkit.encoders.box import WEIGHTS
from dferkit.encoders.open import open_visual_encoder
from dferkit.errors import ConfigError
from dferkit.models.checkpoint import Checkpoint
from dferkit.models.joint_space import WEIGHTS as JOINT_WEIGHTS
from dferkit.reports.tables import own_version
from dferkit.storage import digest_file, read_json, write_json
from dferkit.tokens.captioned import TOP_K

_DIGEST_LENGTH, _MOST_TOLD = 64, 240
UNCALIBRATED = "UNCALIBRATED on real faces"


def box_digests(box: Path, encoder: str = "box") -> dict[str, str]:
    """SHA-256 of what a head on an encoder's tokens is trained on top of, under the names that ``about`` of a checkpoint uses."""
    joint = {"joint_space_digest": digest_file(box / JOINT_WEIGHTS[encoder])} if encoder in JOINT_WEIGHTS else {}
    return {
        "box_digest": digest_file(box / WEIGHTS),
        "text_encoder_digest": digest_file(box / "text" / "model.safetensors"),
        **joint,
    }


def check_fits(checkpoint: Checkpoint, *, box: Path) -> None:
    """Refuse, before any video is read, a checkpoint that stands on another box or visual encoder than those installed.

    Raises:
        CheckpointError: The digests differ, or the encoder cannot be loaded.
    """
    encoder, of_box = str(checkpoint.about["encoder"]), box_digests(box)
    digest = of_box["box_digest"] if encoder == "box" else open_visual_encoder(encoder).digest
    checkpoint.require(
        {"encoder_digest": digest, **{key: of_box[key] for key in ("box_digest", "text_encoder_digest")}}
    )


def check_not_trained_on(checkpoint: Checkpoint, manifest: Path) -> None:
    """Refuse the table of clips that a checkpoint was trained on: on clips it has learned, a model is surer and better than on any others.

    Raises:
        ConfigError: It is that table.
    """
    if checkpoint.about.get("data_digest") == digest_file(manifest):
        raise ConfigError(
            f"the checkpoint was trained on the clips of {manifest.name}; give other clips, or mark some with split val before training"
        )


def count_clips(num_clips: int, subjects: Iterable[str] | None) -> str:
    """``42 clips, 7 people``; without subjects the clips alone."""
    people = "" if subjects is None else f", {plural(len(set(subjects)), 'person', 'people')}"
    return f"{plural(num_clips, 'clip', 'clips')}{people}"


def plural(count: int, one: str, many: str) -> str:
    """``1 person``, ``2 people``."""
    return f"{count} {one if count == 1 else many}"


def claim_run(out: Path, identity: Mapping[str, Any]) -> None:
    """Write down in ``run.json`` which run a folder holds, or check that it is this one: results of different runs must never stand together.

    Raises:
        ConfigError: It holds another run.
    """
    refuse_other_run(out, identity)
    if not (out / "run.json").is_file():
        write_json(out / "run.json", dict(identity))


def refuse_other_run(out: Path, identity: Mapping[str, Any]) -> None:
    """Check that a folder holds this run or none.

    Raises:
        ConfigError: It holds another run.
    """
    now: dict[str, Any] = json.loads(json.dumps(dict(identity)))
    path = out / "run.json"
    if not path.is_file():
        return
    was = read_json(path)
    changed = [key for key in now if was.get(key) != now[key]]
    if changed:
        told = "; ".join(_difference(key, was.get(key), now[key]) for key in changed)
        raise ConfigError(f"{out}/ holds another run (other {told}); give the same settings, or another --out")


def _difference(key: str, was: Any, now: Any) -> str:
    """What changed, with both values where they are short enough to read."""
    values = [value if isinstance(value, str) else json.dumps(value) for value in (was, now)]
    is_digest = any(len(value) == _DIGEST_LENGTH and value.isalnum() for value in values)
    return key if is_digest or sum(map(len, values)) > _MOST_TOLD else f"{key}: {values[0]} there, {values[1]} here"


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
    digests = box_digests(box, encoder)
    return {
        "name": name,
        "encoder": encoder,
        "encoder_digest": encoder_digest or digests["box_digest"],
        **digests,
        "caption": {"top_k": TOP_K},
        "trained_on": trained_on,
        "calibration": UNCALIBRATED,
        "abstain_below": abstain_below,
        "version": own_version(),
        **more,
    }
