"""What ``import dferkit`` gives, and what it must not cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dferkit

PUBLIC = {"ExplanationResult", "Model", "Result", "Results", "__version__", "load"}
HEAVY = (
    "torch",
    "transformers",
    "pandas",
    "cv2",
    "av",
    "matplotlib",
    "sklearn",
    "scipy",
    "safetensors",
    "rich",
    "typer",
)


def test_public_names() -> None:
    assert set(dferkit.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(dferkit, name) is not None
    assert set(dir(dferkit)) >= PUBLIC


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="lod"):
        dferkit.lod  # noqa: B018


def test_version_is_that_of_the_project() -> None:
    from importlib.metadata import version

    assert dferkit.__version__ == version("dferkit")


def test_import_is_light() -> None:
    """``import dferkit`` stays below half a second because nothing heavy comes with it."""
    program = f"import sys, dferkit; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", (
        f"import dferkit also imports {done.stdout.strip()}; load them inside __getattr__"
    )
