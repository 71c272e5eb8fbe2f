"""Announced shapes are checked while tests run: a transposed input is refused instead of giving a number."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from dferkit.alignment import cosine_cost
from dferkit.losses import weighted_focal


def test_every_named_package_is_checked(request: pytest.FixtureRequest) -> None:
    """None was loaded before the checks were there."""
    conftest = request.config.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))
    assert conftest is not None
    assert len(conftest.CHECKED) > 10
    for name in conftest.CHECKED:
        module = importlib.import_module(f"dferkit.{name}")
        assert module.__spec__ is not None
        assert "axtyping" in type(module.__spec__.loader).__name__, name


def test_a_transposed_input_is_refused() -> None:
    text, visual = torch.rand(2, 5, 8), torch.rand(2, 9, 8)
    assert cosine_cost(text, visual).shape == (2, 5, 9)
    with pytest.raises(TypeCheckError):
        cosine_cost(text, visual.transpose(0, 1))


def test_a_wrong_dtype_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        weighted_focal(torch.rand(4, 3), torch.zeros(4))
