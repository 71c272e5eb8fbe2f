"""A network of the bundled model on disk: weights as float16, which halves the file and changes no decision we could measure, and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from dferkit.errors import CheckpointError
from dferkit.storage import atomic_path, read_json, write_json

Network = TypeVar("Network", bound=nn.Module)


def load_network(build: Callable[[dict[str, Any]], Network], weights: Path) -> Network:
    """The network of a weights file and of the settings beside it, which ``build`` makes a network of.

    Raises:
        CheckpointError: A file is missing, damaged or of another network.
    """
    try:
        net = build(read_json(weights.with_suffix(".json")))
        net.load_state_dict({key: value.float() for key, value in load_file(weights).items()})
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{weights.name} of the bundled model in {weights.parent.name}/ cannot be read ({error}); reinstall dferkit or rebuild it with: dferkit pretrain --out DIR"
        ) from error
    return net.eval()


def save_network(net: Any, weights: Path) -> None:
    """Write the weights of a network with a ``config``, and its settings beside them."""
    with atomic_path(weights) as temporary:
        save_file({key: value.half().contiguous() for key, value in net.state_dict().items()}, temporary)
    write_json(weights.with_suffix(".json"), asdict(net.config))
