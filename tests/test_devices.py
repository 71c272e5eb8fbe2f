"""Names of devices, and one sentence for a device that is not there."""

from __future__ import annotations

import pytest
import torch

from dferkit.devices import choose_device
from dferkit.errors import ConfigError


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(("gpus", "name", "expected"), [
    (0, "auto", "cpu"), (0, "cpu", "cpu"), (2, "auto", "cuda:0"), (2, "cpu", "cpu"), (2, "cuda", "cuda:0"), (2, "cuda:1", "cuda:1"),
])  # fmt: skip
def test_a_name_is_one_device(monkeypatch: pytest.MonkeyPatch, gpus: int, name: str, expected: str) -> None:
    with_gpus(monkeypatch, gpus)
    assert choose_device(name) == expected
    assert torch.device(expected).type == expected.partition(":")[0]


@pytest.mark.parametrize(("gpus", "name", "found"), [
    (0, "cuda", "torch finds no GPU"), (0, "cuda:0", "torch finds no GPU"), (1, "cuda:1", "torch finds 1 GPU "), (2, "cuda:7", "torch finds 2 GPUs "),
])  # fmt: skip
def test_a_device_that_is_not_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, gpus: int, name: str, found: str
) -> None:
    with_gpus(monkeypatch, gpus)
    with pytest.raises(ConfigError, match=rf"device {name} is not available: {found}.*give auto or cpu"):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "mps", ""])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="give auto, cpu, cuda or cuda:N"):
        choose_device(name)
