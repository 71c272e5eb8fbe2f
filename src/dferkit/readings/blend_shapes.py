"""ARKit's blend shapes → action units, by the table ``arkit_map`` of ``facs.yaml``. Approximate: a blend shape is a movement of a mesh, not of a muscle."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from dferkit.facs import AU_NAMES, load_facs

_SIDE = re.compile(r"(?:_L|_R|Left|Right)$")
# Blend shapes that are used, but correspond to no action unit of their own.
_HELPING = ("mouthClose",)


def shape_name(column: str) -> str | None:
    """ARKit's name without its side: ``mouthSmile`` of ``MouthSmileLeft``, ``mouthSmileLeft`` or ``mouthSmile_L``; None for what is not used."""
    name = _SIDE.sub("", column.strip())
    name = name[:1].lower() + name[1:]
    return name if name in load_facs().blend_shapes or name in _HELPING else None


def units_of_blend_shapes(
    shapes: Mapping[str, Float[np.ndarray, " rows"]],
) -> dict[str, Float[np.ndarray, " rows"]]:
    """Intensity (0 to 1) of each action unit that the blend shapes cover.

    Left and right are averaged; where two shapes correspond to one action unit (lips rolled in: upper, lower) the stronger counts. The jaw: up to half open it
    drops (AU26 = 2 · jawOpen), beyond that the mouth stretches (AU27 = 2 · jawOpen − 1, AU26 = 2 − 2 · jawOpen), since FACS scores one or the other. The lips
    part (AU25 = 2 · (jawOpen − mouthClose), at most 1) as far as the jaw opens without the lips closing over it. AU45 (a blink) is left out; long ones are AU43.

    Args:
        shapes: Strength (0 to 1) by column name, in any of the spellings of ``shape_name``; others are ignored.
    """
    by_shape: dict[str, list[np.ndarray]] = {}
    for column, values in shapes.items():
        name = shape_name(column)
        if name is not None:
            by_shape.setdefault(name, []).append(np.asarray(values, np.float64))
    strength = {name: np.mean(sides, axis=0) for name, sides in by_shape.items()}
    jaw, close = strength.pop("jawOpen", None), strength.pop("mouthClose", None)
    units: dict[str, np.ndarray] = {}
    for name, values in strength.items():
        for unit in load_facs().blend_shapes[name]:
            if unit in AU_NAMES:
                units[unit] = np.maximum(units[unit], values) if unit in units else values
    if jaw is not None:
        units["AU26"], units["AU27"] = 1 - np.abs(2 * jaw - 1), np.maximum(2 * jaw - 1, 0)
        if close is not None:
            units["AU25"] = np.clip(2 * (jaw - close), 0, 1)
    return {unit: units[unit] for unit in AU_NAMES if unit in units}


def count_shapes(columns: Sequence[str]) -> int:
    """How many columns are blend shapes in use."""
    return sum(shape_name(column) is not None for column in columns)
