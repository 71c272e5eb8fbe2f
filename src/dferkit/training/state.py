"""A training run's state on disk, so that the same call resumes after an interruption."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from dferkit.errors import CheckpointError
from dferkit.storage import atomic_path, read_json, write_json


def save_state(
    folder: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
    settings: Mapping[str, Any],
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write weights and optimizer; ``state.json`` names the newest file and is written last.

    Args:
        notes: Anything else that is needed to resume; ``load_notes`` returns it.
    """
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{key}": value for key, value in state.items()}
    with atomic_path(folder / f"state-{step:06d}.safetensors") as temporary:
        save_file({key: value.contiguous() for key, value in tensors.items()}, temporary)
    write_json(folder / "state.json", {"step": step, "settings": dict(settings), "notes": dict(notes or {})})
    for old in sorted(folder.glob("state-*.safetensors")):
        if old.name != f"state-{step:06d}.safetensors":
            old.unlink()


def load_state(
    folder: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, *, settings: Mapping[str, Any]
) -> int:
    """Load what ``save_state`` wrote.

    Returns:
        Steps done; 0 when there is no state.

    Raises:
        CheckpointError: The state belongs to other settings.
    """
    if not (folder / "state.json").is_file():
        return 0
    about = read_json(folder / "state.json")
    if about["settings"] != json.loads(json.dumps(dict(settings))):  # as they come back from a file
        raise CheckpointError(
            f"{folder.name}/ holds a run with other settings; use the same settings, or another folder"
        )
    try:
        tensors = load_file(folder / f"state-{about['step']:06d}.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the state in {folder.name}/ is damaged ({error}); delete that folder to start again"
        ) from error
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
    """The notes that ``save_state`` got; empty where there is no state."""
    path = folder / "state.json"
    return dict(read_json(path).get("notes", {})) if path.is_file() else {}
