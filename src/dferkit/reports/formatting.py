"""Numbers, keys of results files and nested results as text for a person."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_MOST_COLUMNS = 12
_ABBREVIATIONS = {"uar": "UAR", "war": "WAR", "ci95": "95 % interval", "au": "AU", "aus": "AUs", "grace": "GRACE",
                  "ece": "ECE", "nll": "NLL", "auc": "AUC", "iou": "IoU", "n": "clips"}  # fmt: skip


def percent(share: float) -> str:
    """``81 %``. A share between 0 and 1 is never rounded to 0 or 100; one below 0 has a minus; NaN becomes a dash."""
    if math.isnan(share):
        return "–"
    if share < 0:
        return f"−{percent(-share)}" if share <= -0.005 else "0 %"
    if 0 < share < 0.005:
        return "<1 %"
    if 0.995 <= share < 1:
        return ">99 %"
    return f"{100 * share:.0f} %"


def no_break(text: str) -> str:
    """The text with every per cent sign on the line of its number."""
    return text.replace(" %", "\u00a0%")


def number(value: Any) -> str:
    """A number with three decimals, or with two significant digits where three decimals would give 0."""
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


def signed(value: float) -> str:
    """A difference with its sign."""
    return ("+" if value > 0 else "") + number(float(value))


def in_words(name: str) -> str:
    """A key of a results file in words."""
    return " ".join(_ABBREVIATIONS.get(word.lower(), word) for word in name.replace("_", " ").strip().split(" "))


def cell(value: Any) -> str:
    """Any value as text of a table cell; two numbers are a range."""
    if value is None:
        return "–"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(item, float | int) for item in value):
            return f"{number(value[0])} to {number(value[1])}"
        return ", ".join(number(item) for item in value)
    return number(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A heading, a table, or a table below its heading; the first cell of a row is its header."""

    title: str = ""
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def blocks(value: Mapping[str, Any], title: str = "") -> list[Block]:
    """Nested results as headings and tables: groups with the same keys become one table, single values a list."""
    single = {key: item for key, item in value.items() if not isinstance(item, Mapping)}
    groups = {key: item for key, item in value.items() if isinstance(item, Mapping) and item}
    flat = {k: v for k, v in groups.items() if not any(isinstance(item, Mapping) for item in v.values())}
    columns = list(dict.fromkeys(key for item in flat.values() for key in item))
    found = [Block(title=title)] if title else []
    if single:
        found.append(Block(head=("", "value"), rows=tuple((in_words(k), cell(v)) for k, v in single.items())))
    # A table of which more than half would be empty is harder to read than one table for each group.
    if flat and len(columns) <= _MOST_COLUMNS and 2 * sum(map(len, flat.values())) >= len(columns) * len(flat):
        rows = tuple((in_words(k), *(cell(v[c]) if c in v else "" for c in columns)) for k, v in flat.items())
        found.append(Block(head=("", *map(in_words, columns)), rows=rows))
        groups = {key: item for key, item in groups.items() if key not in flat}
    elif flat:
        groups = flat | groups
    return found + [block for key, item in groups.items() for block in blocks(item, in_words(key))]
