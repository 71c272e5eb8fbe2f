"""Folder of a transformers model: the one given, one of that name in DFERKIT_MODELS, or the user's hub cache. Nothing is downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from dferkit.errors import CheckpointError
from dferkit.model_files import FOLDER_VARIABLE
from dferkit.storage import digest_arrays, digest_json, read_json

_NAMES = {"clip": "CLIP", "siglip": "SigLIP", "text": "text", "videomae": "VideoMAE", "xclip": "X-CLIP"}


def find_model_folder(source: Path | str, kind: str, *, option: str = "") -> str:
    """The folder, or the name as it is for the hub cache.

    Args:
        kind: Its ``model_type``, a key of ``_NAMES``, or ``text`` for any. option: Name of the encoder, where it differs.

    Raises:
        CheckpointError: No name, a folder that holds no such model, or a path where there is none.
    """
    if not str(source):
        raise CheckpointError(
            f"no {_NAMES[kind]} model is named; give {option or kind}:FOLDER, or {option or kind}: and a name in your hub cache"
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
    if kind not in (found, "text"):
        raise CheckpointError(f"{path.name}/ holds a model of type {found!r}, not {kind!r}; give another folder")
    return str(path)


def find_text_folder(source: Path | str) -> Path:
    """Folder of a text model, also of one in the user's hub cache.

    Raises:
        CheckpointError: As ``find_model_folder``, or there is none of that name in the cache.
    """
    found = find_model_folder(source, "text")
    if Path(found).is_dir():
        return Path(found)
    from transformers.utils import cached_file

    config = cached_file(found, "config.json", local_files_only=True, _raise_exceptions_for_missing_entries=False)
    if config is None:
        raise CheckpointError(f"no text model at {found}: give a folder, or a name in your hub cache")
    return Path(config).parent


def load_frozen(find_class: Callable[[], Any], source: str, kind: str) -> Any:
    """The model of ``find_model_folder`` for inference.

    Args:
        find_class: Gives the transformers class; it may read the model's configuration.

    Raises:
        CheckpointError: The model is not there, is damaged, or lacks parameters.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, report = find_class().from_pretrained(
            source, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise cannot_load(source, kind, error) from error
    # transformers would give these parameters random values without an error.
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(
            f"{Path(source).name}: {len(missing)} parameters are not in the file, such as {missing[0]}; it belongs to another version or model"
        )
    return model.eval().requires_grad_(False)


def cannot_load(source: str, kind: str, error: Exception) -> CheckpointError:
    """The error for a model that was found by ``find_model_folder`` and could not be loaded."""
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
