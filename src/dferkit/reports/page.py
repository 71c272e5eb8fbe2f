"""A page from a template: one HTML file that loads nothing, runs only its own script and escapes every text."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dferkit import storage
from dferkit.errors import DataError
from dferkit.reports.formatting import blocks, cell, in_words, no_break, number, percent, signed
from dferkit.reports.notice import INTENDED_USE, LIMITS

MAX_BYTES = 5_000_000


@functools.cache
def templates() -> Environment:
    """The templates of the package; they escape every value, and an unknown name is an error."""
    found = Environment(
        loader=PackageLoader("dferkit.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    filters = (blocks, cell, in_words, no_break, number, percent, signed)
    found.filters.update({function.__name__: function for function in filters})
    found.tests["finite"] = math.isfinite
    return found


def render(template: str, **values: Any) -> str:
    """The whole page. Its policy allows style and script by digest and pictures as data, and refuses everything else."""
    assets = importlib.resources.files("dferkit.reports").joinpath("assets")
    css, script = (assets.joinpath(f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    frame = {
        "css": css,
        "script": script,
        "css_digest": _digest(css),
        "script_digest": _digest(script),
        "intended_use": INTENDED_USE,
        "limits": LIMITS,
    }
    return templates().get_template(template).render(**frame, **values)


def write_page(path: Path | str, text: str) -> None:
    """Write a report atomically.

    Raises:
        DataError: It is larger than 5 MB.
    """
    size = len(text.encode("utf-8"))
    if size > MAX_BYTES:
        raise DataError(f"the report is {size / 1e6:.1f} MB, but at most 5 MB are written; explain fewer clips in one")
    storage.write_text(path, text)


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
