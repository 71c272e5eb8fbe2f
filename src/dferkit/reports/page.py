"""The frame of a report: one HTML file that loads nothing, runs only its own script and escapes every text."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from dferkit import storage
from dferkit.errors import DataError
from dferkit.reports.notice import INTENDED_USE, LIMITS

MAX_BYTES = 5_000_000
FACES = ("show", "blur", "boxes")


def escape(text: object) -> str:
    """Text that stands safely between tags and in quoted attributes."""
    return html.escape(str(text), quote=True)


def percent(share: float) -> str:
    """``81 %``; never a rounded 0 or 100 for what is neither."""
    if math.isnan(share):
        return "–"
    if 0 < share < 0.005:
        return "<1 %"
    if 0.995 <= share < 1:
        return ">99 %"
    return f"{100 * share:.0f} %"


def number(value: Any) -> str:
    """A number for reading: three decimals, two significant digits where that would show 0."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–"
        if value != 0 and abs(value) < 0.0005:
            return f"{value:.2g}".replace("-", "−")
        text = f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"
        return text.replace("-", "−")
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return str(value)


def spoken(name: str) -> str:
    """A key of a results file in words."""
    text = name.replace("_", " ").strip()
    capitals = {"uar": "UAR", "war": "WAR", "ci95": "95 % interval", "au": "AU", "aus": "AUs", "p": "p",
                "grace": "GRACE", "ece": "ECE", "nll": "NLL", "auc": "AUC", "iou": "IoU", "n": "clips"}  # fmt: skip
    return " ".join(capitals.get(word.lower(), word) for word in text.split(" "))


def image_uri(image: UInt8[np.ndarray, "height width 3"], *, quality: int = 80) -> str:
    """A JPEG as a data address."""
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise DataError("a picture could not be written as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str = "", caption: str = "") -> str:
    """A table of ready-made cells (already escaped); the first cell of a row is its header."""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows
    )
    attribute = f' class="{kind}"' if kind else ""
    return (
        f'<div class="scroll"><table{attribute}>{title}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def nested(value: Mapping[str, Any]) -> str:
    """Any nested results as plain tables: groups with the same keys become one table, single values a list."""
    single = {key: item for key, item in value.items() if not isinstance(item, Mapping)}
    groups = {key: item for key, item in value.items() if isinstance(item, Mapping) and item}
    parts = []
    if single:
        parts.append(table(("", "value"), [(escape(spoken(k)), cell(v)) for k, v in single.items()], kind="numbers"))
    flat = {k: v for k, v in groups.items() if not any(isinstance(item, Mapping) for item in v.values())}
    if flat:
        columns = list(dict.fromkeys(key for item in flat.values() for key in item))
        shared = sum(len(item) for item in flat.values()) / (len(columns) * len(flat))
        if shared >= 0.5 and len(columns) <= 12:
            head = ("", *(spoken(column) for column in columns))
            rows = [(escape(spoken(k)), *(cell(v[c]) if c in v else "" for c in columns)) for k, v in flat.items()]
            parts.append(table(head, rows, kind="numbers"))
        else:
            parts += [f"<h4>{escape(spoken(key))}</h4>{nested(item)}" for key, item in flat.items()]
    parts += [f"<h4>{escape(spoken(k))}</h4>{nested(item)}" for k, item in groups.items() if k not in flat]
    return "".join(parts)


def cell(value: Any) -> str:
    """Any value as a table cell."""
    if value is None:
        return "–"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(item, float | int) for item in value):
            return escape(f"{number(value[0])} to {number(value[1])}")
        return escape(", ".join(number(item) for item in value))
    return escape(number(value))


def about_section(about: Mapping[str, Any]) -> str:
    """How the report was made: one row per item of ``about``; nested items become tables."""
    order = ("model", "weights_sha256", "trained_on", "calibration", "detector", "front_end", "versions", "command")
    rows = []
    keys = [*(key for key in order if key in about), *(key for key in about if key not in order)]
    for key in keys:
        value = about[key]
        is_flat = isinstance(value, Mapping) and not any(isinstance(v, Mapping | list | tuple) for v in value.values())
        if is_flat:
            content = ", ".join(f"{escape(spoken(k))}&nbsp;{escape(number(v))}" for k, v in value.items())
        elif isinstance(value, Mapping):
            content = nested(value)
        elif key in ("command", "weights_sha256"):
            content = f"<code>{escape(value)}</code>"
        else:
            content = cell(value)
        rows.append((escape({"weights_sha256": "weights (SHA-256)"}.get(key, spoken(key))), content))
    if not rows:
        return ""
    return f"<section><h2>How this was made</h2>{table(('', ''), rows, kind='about')}</section>"


def limits_section() -> str:
    """What the answers are not."""
    items = "".join(f"<li>{escape(text)}</li>" for text in LIMITS)
    return f'<section class="limits"><h2>Limits</h2><ul>{items}</ul></section>'


def page(title: str, body: str) -> str:
    """The whole file. Style and script are allowed by digest, pictures as data, and everything else is refused."""
    assets = importlib.resources.files("dferkit.reports").joinpath("assets")
    css = assets.joinpath("report.css").read_text(encoding="utf-8")
    script = assets.joinpath("report.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(css)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><meta name="generator" content="dferkit">'
        f"<title>{escape(title)}</title><style>{css}</style></head>\n<body><main>\n{body}\n"
        f'<footer class="notice">{escape(INTENDED_USE)}</footer></main>\n<script>{script}</script></body></html>\n'
    )


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
