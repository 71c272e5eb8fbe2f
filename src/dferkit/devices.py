"""Where networks run: ``--device auto|cpu|cuda|cuda:N``."""

from __future__ import annotations

import re

import torch

from dferkit.errors import ConfigError


def device_facts(device: str) -> dict[str, str]:
    """What a device adds to the identity of results: its kind, such as ``cuda``; nothing for the CPU, where the same seed gives the same bytes."""
    kind = device.partition(":")[0]
    return {} if kind == "cpu" else {"device": kind}


def choose_device(name: str = "auto") -> str:
    """The torch device of a name; ``auto`` is the first GPU if torch finds one, else the CPU.

    The same seed gives the same bytes on the CPU only.

    Raises:
        ConfigError: An unknown name, or a GPU that torch does not see.
    """
    if name == "cpu":
        return name
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda:0" if count else "cpu"
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if match is None:
        raise ConfigError(f"unknown device {name!r}; give auto, cpu, cuda or cuda:N")
    number = int(match[1] or 0)
    if number >= count:
        found = f"torch finds {count} GPU{'s' if count != 1 else ''}" if count else "torch finds no GPU"
        raise ConfigError(f"device {name} is not available: {found} (dferkit doctor describes it); give auto or cpu")
    return f"cuda:{number}"
