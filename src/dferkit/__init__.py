"""dferkit: from a face video to an explained apparent expression.

    import dferkit
    model = dferkit.load()                # the bundled model
    result = model.predict("clip.mp4")
    print(result.label, result.confidence, result.status)

Outputs describe what a face looks like, not what a person feels.
"""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dferkit.pipeline import ExplanationResult, Model, Result, Results, load

try:
    __version__ = metadata.version("dferkit")
except metadata.PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

__all__ = ["ExplanationResult", "Model", "Result", "Results", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # torch takes a second to import; a plain ``import dferkit`` does not need it.
    if name in __all__:
        return getattr(importlib.import_module("dferkit.pipeline"), name)
    raise AttributeError(f"module 'dferkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
