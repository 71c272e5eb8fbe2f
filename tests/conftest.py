"""What every test gets: quiet libraries and random numbers as they were."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test never downloads
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

import cv2
import jaxtyping
import numpy as np
import pytest
import torch

# Shapes and dtypes that these packages announce are checked in every call; they must not be loaded before.
CHECKED = (
    "encoders", "evaluation", "explain", "losses", "models", "motion", "tokens.batches", "training.phases",
    # Each by itself: alignment.fused is source for Triton, which reads it as it stands.
    *(f"alignment.{name}" for name in ("align", "aligner", "choose", "cost", "implicit", "newton", "prepared", "problem", "score", "sinkhorn", "solver", "transport")),
)  # fmt: skip
jaxtyping.install_import_hook([f"dferkit.{name}" for name in CHECKED], "shape_check.check")

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # must be known before triton is loaded


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    """Small tensors: threads cost more than they bring, and sums keep one order."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@pytest.fixture(autouse=True)
def _random_state() -> Iterator[None]:
    """A test that draws random numbers leaves no trace in the next."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])


@pytest.fixture
def unchecked_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what users see who run without the checks."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """More time for slow tests. A job with a GPU sets DFERKIT_NEEDS_GPU: there a missing device is a failure, elsewhere the test is skipped."""
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.timeout(3600))
    if torch.cuda.is_available() or os.environ.get("DFERKIT_NEEDS_GPU"):
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
