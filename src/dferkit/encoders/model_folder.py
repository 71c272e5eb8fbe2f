"""Folder of a transformers model: the one given, one of that name in DFERKIT_MODELS, or the user's hub cache. Nothing is downloaded."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from dferkit.errors import CheckpointError
from dferkit.model_files import FOLDER_VARIABLE
from dferkit.storage import digest_arrays, digest_json, read_json

_NAMES = {"clip": "CLIP", "videomae": "VideoMAE"}


def find_model_folder(source: Path | str, kind: str) -> str:
    """The folder, or the name as it is for the hub cache.

    Args:
        kind: Its ``model_type``: ``clip`` or ``videomae``.

    Raises:
        CheckpointError: No name, a folder that holds no such model, or a path where there is none.
    """
    if not str(source):
        raise CheckpointError(
            f"no {_NAMES[kind]} model is named; give {kind}:FOLDER, or {kind}: and a name in your hub cache"
        )
    path, models = Path(source).expanduser(), os.environ.get(FOLDER_VARIABLE)
    is_hub_name = not path.is_absolute() and not str(source).startswith(".") and str(source).count("/") <= 1
    # Not for publisher/model: another publisher's model may have that name.
    if (
        not path.is_dir()
        and models
        and (Path(models) / path.name).is_dir()
        and not (is_hub_name and "/" in str(source))
    ):
        path = Path(models) / path.name
    if not path.is_dir():
        if not is_hub_name:
            raise CheckpointError(
                f"no folder {source}, and none named {path.name} in {FOLDER_VARIABLE}: put the {_NAMES[kind]} model there, or give its folder"
            )
        return str(source)
    config = path / "config.json"
    if not config.is_file():
        raise CheckpointError(
            f"{path.name}/ holds no {_NAMES[kind]} model: it has no config.json; give the folder that transformers saved"
        )
    try:
        found = read_json(config).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"config.json of {path.name}/ cannot be read ({error}); copy it again") from error
    if found != kind:
        raise CheckpointError(f"{path.name}/ holds a model of type {found!r}, not {kind!r}; give another folder")
    return str(path)


def unreadable_model(source: Path | str, kind: str, error: Exception) -> CheckpointError:
    """The error for a model that could not be loaded, in one sentence."""
    if Path(source).is_dir():
        return CheckpointError(
            f"the {_NAMES[kind]} model in {Path(source).name}/ is damaged or incomplete ({str(error).splitlines()[0]}); copy it again"
        )
    return CheckpointError(
        f"no {_NAMES[kind]} model at {source}: give a folder with config.json and model.safetensors, or a name in your hub cache"
    )


def digest_weights(*parts: nn.Module) -> str:
    """SHA-256 over names and values of all weights, part by part."""
    return digest_json(
        [digest_arrays({key: value.cpu().numpy() for key, value in part.state_dict().items()}) for part in parts]
    )
