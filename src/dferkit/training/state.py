"""A training run's state on disk, so that the same call resumes after an interruption."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dferkit.errors import CheckpointError
from dferkit.storage import atomic_path, digest_file, digest_json, read_json, write_json

_STATE = "state.json"


def save_state(
    folder: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
    settings: Mapping[str, Any],
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write weights and optimizer; ``state.json`` names the newest file with its digest and is written last.

    Args:
        notes: Anything else that is needed to resume; ``load_notes`` returns it.

    Raises:
        CheckpointError: A value is NaN or infinite; the older state stays.
    """
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{key}": value for key, value in state.items()}
    _require_finite(tensors, folder)
    path = _tensors_of(folder, step)
    with atomic_path(path) as temporary:
        save_file({key: value.contiguous() for key, value in tensors.items()}, temporary)
    state = {"step": step, "settings": dict(settings), "notes": dict(notes or {}), "sha256": digest_file(path)}
    write_json(folder / _STATE, {**state, "digest": _digest(state)})
    for old in sorted(folder.glob("state-*.safetensors")):
        if old != path:
            old.unlink()


def load_state(
    folder: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, *, settings: Mapping[str, Any]
) -> int:
    """Load what ``save_state`` wrote.

    Returns:
        Steps done; 0 when there is no state.

    Raises:
        CheckpointError: The state belongs to other settings, differs from its digest, or holds a value that is not finite.
    """
    for left in folder.glob(".*.tmp*"):  # by a process that was killed
        left.unlink(missing_ok=True)
    about = _read(folder)
    if about is None:
        return 0
    if about["settings"] != json.loads(json.dumps(dict(settings))):  # as they come back from a file
        raise CheckpointError(
            f"{folder.name}/ holds a run with other settings; use the same settings, or another folder"
        )
    path = _tensors_of(folder, about["step"])
    try:
        if digest_file(path) != about["sha256"]:
            raise _damaged(folder, f"{path.name} differs from its recorded digest")
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(folder, str(error)) from error
    _require_finite(tensors, folder)
    for name, module in modules.items():
        module.load_state_dict(
            {key.split("/", 1)[1]: value for key, value in tensors.items() if key.startswith(f"{name}/")}
        )
    known = optimizer.state_dict()
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, number, field = key.split("/")
            known["state"].setdefault(int(number), {})[field] = value
    optimizer.load_state_dict(known)
    return int(about["step"])


def load_notes(folder: Path) -> dict[str, Any]:
    """The notes that ``save_state`` got; empty where there is no state.

    Raises:
        CheckpointError: They differ from their digest.
    """
    about = _read(folder)
    return {} if about is None else dict(about["notes"])


def _tensors_of(folder: Path, step: int) -> Path:
    return folder / f"state-{step:06d}.safetensors"


def _read(folder: Path) -> dict[str, Any] | None:
    """``state.json``, checked against its digest; None where there is none."""
    if not (folder / _STATE).is_file():
        return None
    try:
        about = dict(read_json(folder / _STATE))
        digest = about.pop("digest", None)
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(folder, f"{_STATE} cannot be read") from error
    if digest != _digest(about):
        raise _damaged(folder, f"{_STATE} differs from its digest, or another version of dferkit wrote it")
    return about


def _digest(state: Mapping[str, Any]) -> str:
    return digest_json(json.loads(json.dumps(state)))  # as it comes back from a file


def _damaged(folder: Path, what: str) -> CheckpointError:
    return CheckpointError(f"the state in {folder.name}/ is damaged ({what}); delete that folder to start again")


def _require_finite(tensors: Mapping[str, Tensor], folder: Path) -> None:
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"the state of {folder.name}/ holds NaN or infinity in {name}; delete that folder and lower the learning rate"
            )
