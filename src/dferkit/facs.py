"""Tables of the Facial Action Coding System: action units, their regions and words, and the action units of each class.

The tables are ``data/facs.yaml``, which also gives the evidence of each class (``C``: no validated prototype exists).
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import yaml

from dferkit.labels import MAFW

# The expression action units that the renderer draws and the captioner describes, in one fixed order. AU45 (blink),
# AU11 and AU13 (hardly visible) are left out.
AU_NAMES = (
    "AU1", "AU2", "AU4", "AU5", "AU6", "AU7", "AU9", "AU10", "AU12", "AU14", "AU15", "AU16",
    "AU17", "AU18", "AU20", "AU22", "AU23", "AU24", "AU25", "AU26", "AU27", "AU28", "AU43",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionUnit:
    """One action unit.

    Attributes:
        name: ``AU4``.
        title: FACS name, such as ``brow lowerer``.
        regions: Names of ``Facs.regions``; the first is where it shows most.
        phrases: What it looks like, in plain words.
        phrases_unilateral: The same when it shows on one side only; mostly empty.
        is_nuisance: It is part of no expression (a blink).
    """

    name: str
    title: str
    regions: tuple[str, ...]
    phrases: tuple[str, ...]
    phrases_unilateral: tuple[str, ...] = ()
    is_nuisance: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassRule:
    """Which action units a class shows.

    Attributes:
        label: Canonical class name of ``labels.MAFW``.
        variants: Typical sets of action units, sides dropped.
        core: Most displays show them.
        optional: Action unit (or ``M54``: head and gaze) → share of the displays, 0 to 1.
        against: Evidence against the class.
        adjectives: Words for the class, which no caption may contain.
    """

    label: str
    variants: tuple[tuple[str, ...], ...]
    core: tuple[str, ...]
    optional: Mapping[str, float]
    against: tuple[str, ...]
    adjectives: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfusablePair:
    """Two classes that share most action units; ``distinguishing`` maps each to the action units that distinguish it from the other."""

    labels: tuple[str, str]
    distinguishing: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Facs:
    """All tables. Mappings are read-only and keep the file's order.

    Attributes:
        regions: Names of the face regions.
        action_units: By name, ``AU1`` to ``AU45``.
        head_and_gaze: Code such as ``M54`` → phrases.
        classes: By canonical class name.
        temporal_words: ``onset``, ``fast_onset``, ``offset``, ``sustained``, ``repeated`` → words.
        intensity_words: (upper limit of the intensity, adverb); None where an action unit is too weak to be described.
        speech_confounds: Action units that speech also produces.
        blend_shapes: ARKit's blend shapes without their side (``mouthSmile``) → the action units nearest to them.
    """

    version: int
    regions: tuple[str, ...]
    action_units: Mapping[str, ActionUnit]
    head_and_gaze: Mapping[str, tuple[str, ...]]
    classes: Mapping[str, ClassRule]
    confusable_pairs: tuple[ConfusablePair, ...]
    intensity_words: tuple[tuple[float, str | None], ...]
    temporal_words: Mapping[str, tuple[str, ...]]
    speech_confounds: tuple[str, ...]
    blend_shapes: Mapping[str, tuple[str, ...]]

    def intensity_word(self, intensity: float) -> str | None:
        """Adverb of an intensity (0 to 1): ``slightly``, empty, ``clearly``, ``strongly``; None: too weak to be described."""
        for limit, word in self.intensity_words:
            if intensity <= limit:
                return word
        return self.intensity_words[-1][1]

    def distinguishing_units(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Action units that distinguish confusable classes in ``labels``, without repeats."""
        units = [
            unit
            for pair in self.confusable_pairs
            if set(pair.labels) <= set(labels)
            for label in pair.labels
            for unit in pair.distinguishing[label]
        ]
        return tuple(dict.fromkeys(units))


def _unit_name(code: int | str) -> str:
    """``AU4`` of 4; sides (``R14``) are dropped; codes from 51 on are head and gaze (``M54``)."""
    number = int(str(code).lstrip("LR"))
    return f"M{number}" if number > 50 else f"AU{number}"


def _unit_names(codes: list[int | str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_unit_name(code) for code in codes))


def _action_unit(name: str, row: dict[str, Any]) -> ActionUnit:
    return ActionUnit(
        name=name,
        title=row["name"],
        regions=tuple(row["regions"]),
        phrases=tuple(row["phrases"]),
        phrases_unilateral=tuple(row.get("phrases_unilateral", ())),
        is_nuisance=bool(row.get("nuisance", False)),
    )


def _class_rule(row: dict[str, Any]) -> ClassRule:
    return ClassRule(
        label=row["mafw"],
        variants=tuple(_unit_names(variant) for variant in row["variants"]),
        core=_unit_names(row["core"]),
        optional=MappingProxyType({_unit_name(code): float(share) for code, share in row["optional"].items()}),
        against=_unit_names(row["against"]),
        adjectives=tuple(row["adjectives"]),
    )


@functools.cache
def load_facs() -> Facs:
    """The packaged tables, read once."""
    text = importlib.resources.files("dferkit").joinpath("data/facs.yaml").read_text(encoding="utf-8")
    raw = yaml.safe_load(text)
    labels = {key: row["mafw"] for key, row in raw["emotions"].items()}
    rules = {labels[key]: _class_rule(row) for key, row in raw["emotions"].items()}
    return Facs(
        version=int(raw["version"]),
        regions=tuple(raw["regions"]),
        action_units=MappingProxyType({name: _action_unit(name, row) for name, row in raw["action_units"].items()}),
        head_and_gaze=MappingProxyType({name: tuple(row["phrases"]) for name, row in raw["head_and_gaze"].items()}),
        classes=MappingProxyType({label: rules[label] for label in MAFW}),
        confusable_pairs=tuple(
            ConfusablePair(
                labels=(labels[row["pair"][0]], labels[row["pair"][1]]),
                distinguishing=MappingProxyType(
                    {labels[key]: _unit_names(codes) for key, codes in row["tell"].items()}
                ),
            )
            for row in raw["confusable_pairs"]
        ),
        intensity_words=tuple((float(row["max"]), row["word"]) for row in raw["intensity_words"]),
        temporal_words=MappingProxyType({key: tuple(words) for key, words in raw["temporal_words"].items()}),
        speech_confounds=_unit_names(raw["speech_confounds"]),
        blend_shapes=MappingProxyType(
            {
                name: _unit_names(codes if isinstance(codes, list) else [codes])
                for name, codes in raw["arkit_map"].items()
            }
        ),
    )
