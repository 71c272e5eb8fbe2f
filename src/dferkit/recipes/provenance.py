"""What a checkpoint says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dferkit.encoders.box import WEIGHTS
from dferkit.errors import ConfigError
from dferkit.models.joint_space import WEIGHTS as JOINT_WEIGHTS
from dferkit.reports.tables import own_version
from dferkit.storage import digest_file, read_json, write_json
from dferkit.training.captioned import TOP_K

UNCALIBRATED = "UNCALIBRATED on real faces"


def box_digests(box: Path) -> dict[str, str]:
    """SHA-256 of what a head is trained on top of, under the names that ``about`` of a checkpoint uses."""
    return {
        "box_digest": digest_file(box / WEIGHTS),
        "text_encoder_digest": digest_file(box / "text" / "model.safetensors"),
        "joint_space_digest": digest_file(box / JOINT_WEIGHTS),
    }


def claim_run(out: Path, identity: Mapping[str, Any]) -> None:
    """Write down in ``run.json`` which run a folder holds, or check that it is this one: results of different runs must never stand together.

    Raises:
        ConfigError: It holds another run.
    """
    now: dict[str, Any] = json.loads(json.dumps(dict(identity)))
    path = out / "run.json"
    if not path.is_file():
        write_json(path, now)
        return
    was = read_json(path)
    changed = [key for key in now if was.get(key) != now[key]]
    if changed:
        raise ConfigError(
            f"{out.name}/ holds another run (other {', '.join(changed)}); give the same settings, or another --out"
        )


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
    digests = box_digests(box)
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
