"""A checkpoint is a folder: safetensors weights, JSON settings, the coarse classifier. Never a pickle."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dferkit.errors import CheckpointError
from dferkit.models.coarse import CoarseClassifier
from dferkit.models.registry import find_model
from dferkit.storage import atomic_path, digest_file, from_json, write_json

WEIGHTS, SETTINGS, COARSE = "model.safetensors", "model.json", "coarse.safetensors"
_PARTS = {
    "encoder_digest": "visual encoder",
    "box_digest": "box",
    "text_encoder_digest": "text encoder",
    "joint_space_digest": "joint space",
}
FORMAT = 5
_FUSED_FORMAT = 4  # its models of the family ``grace`` all have the head of ``grace_fused``


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A trained model with all that is needed to use it.

    Attributes:
        name: Of the model in ``models.registry``.
        about: ``name`` (for outputs), ``front_end``, ``encoder`` and its digest, ``text_encoder`` and its digest, ``caption`` (source and settings), ``experts``,
            ``prior`` (class shares of the training clips), ``trained_on``, ``calibration``, ``abstain_below``, ``temperature`` (1 where it is missing), ``seed``, ``version``.
        digest: SHA-256 of the weights, empty before saving.
    """

    name: str
    model: Any
    coarse: CoarseClassifier
    about: Mapping[str, Any]
    digest: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes, in the order of the probabilities."""
        labels: tuple[str, ...] = self.model.config.labels
        return labels

    def require(self, installed: Mapping[str, str]) -> None:
        """Refuse to stand on other parts than those it was trained on.

        Args:
            installed: Digests of what is there, by their key in ``about``.

        Raises:
            CheckpointError: One differs.
        """
        for key, found in installed.items():
            wanted = str(self.about[key])
            if found != wanted:
                raise CheckpointError(
                    f"the checkpoint was trained with another {_PARTS[key]} (digest {wanted[:8]}, installed {found[:8]}); train it again or install the version it names"
                )

    @property
    def temperature(self) -> float:
        """What logits are divided by before they become probabilities, above 0; 1 for a model that was never calibrated."""
        return float(self.about.get("temperature", 1.0))

    def probabilities(self, logits: Float[Tensor, "*rest classes"]) -> Float64[np.ndarray, "*rest classes"]:
        """The one way from logits to probabilities (they sum to 1 over the classes): softmax in float64 at the checkpoint's temperature."""
        return (logits.double() / self.temperature).softmax(-1).numpy()


def save_checkpoint(checkpoint: Checkpoint, folder: Path | str) -> Path:
    """Write the folder; settings go last, so that a folder with settings is complete."""
    folder = Path(folder)
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file({key: value.contiguous() for key, value in checkpoint.model.state_dict().items()}, temporary)
    checkpoint.coarse.save(folder / COARSE)
    settings = {
        "format": FORMAT,
        "model": checkpoint.name,
        "config": asdict(checkpoint.model.config),
        "about": dict(checkpoint.about),
        "sha256": {WEIGHTS: digest_file(folder / WEIGHTS), COARSE: digest_file(folder / COARSE)},
    }
    write_json(folder / SETTINGS, settings)
    return folder


def load_checkpoint(folder: Path | str) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        CheckpointError: A file is missing, damaged, of another format, not verified, or holds NaN.
    """
    folder = Path(folder)
    if not (folder / SETTINGS).is_file():
        found = "is not a folder" if not folder.is_dir() else f"has no {SETTINGS}"
        raise CheckpointError(f"{folder.name} {found}; give a checkpoint folder such as DIR/checkpoints/grace, or box")
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        if settings["format"] not in (FORMAT, _FUSED_FORMAT):
            raise CheckpointError(
                f"{folder.name} has checkpoint format {settings['format']}; this version reads {_FUSED_FORMAT} and {FORMAT}: run the command that made it again (dferkit train, bench or calibrate)"
            )
        for name in (WEIGHTS, COARSE):
            digest = settings["sha256"].get(name)
            if digest is None:
                raise CheckpointError(
                    f"{folder.name}: {SETTINGS} records no digest of {name}; nothing was loaded, copy the whole folder"
                )
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder.name}: {name} is missing; copy the whole folder")
            if digest_file(folder / name) != digest:
                raise CheckpointError(
                    f"{folder.name}: {name} differs from its recorded digest; nothing was loaded, copy it again"
                )
        name = str(settings["model"])
        if settings["format"] == _FUSED_FORMAT and name.startswith("grace"):
            name = "grace_fused"
        entry = find_model(name)
        model = entry.build(from_json(entry.config, settings["config"]))
        weights = load_file(folder / WEIGHTS)
        if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
            raise CheckpointError(f"{folder.name}: the weights hold NaN or infinity; train the model again")
        model.load_state_dict(weights)
        coarse = CoarseClassifier.load(folder / COARSE)
        if not all(bool(np.isfinite(getattr(coarse, name)).all()) for name in ("mean", "scale", "weight", "bias")):
            raise CheckpointError(f"{folder.name}: the coarse classifier holds NaN or infinity; train the model again")
        checkpoint = Checkpoint(
            name=name,
            model=model.eval(),
            coarse=coarse,
            about=dict(settings["about"]),
            digest=settings["sha256"][WEIGHTS],
        )
        if not 0 < checkpoint.temperature < math.inf:
            raise CheckpointError(
                f"{folder.name}: the temperature is {checkpoint.temperature}, but must be above 0; calibrate the model again"
            )
        return checkpoint
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder.name} cannot be read as a checkpoint: {error or type(error).__name__}"
        ) from error
