"""Names and order of expression classes in every data set, and how spellings and numbers are read.

The order is py-feat's: anger disgust fear happiness sadness surprise neutral, then the four further classes of MAFW. Classes are
matched by name and never by number: the same number means another class in every release and in most of their copies.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from dferkit.errors import ConfigError, ManifestError

BASIC = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
MAFW = (*BASIC, "contempt", "anxiety", "helplessness", "disappointment")
RAVDESS = (*BASIC, "calm")

# The 32 joint classes of MAFW's compound set, words in the order of the release; it gives them no numbers.
# Source: the release's train and test lists of "compound/no_caption", in which exactly these occur.
_JOINT = (
    "anger_anxiety anger_disgust anger_disgust_anxiety anger_disgust_contempt anger_helplessness anger_sadness anger_surprise "
    "anxiety_helplessness anxiety_helplessness_disappointment disgust_anxiety disgust_anxiety_helplessness disgust_contempt "
    "disgust_disappointment disgust_helplessness disgust_helplessness_disappointment disgust_sadness disgust_surprise fear_anxiety "
    "fear_sadness fear_sadness_anxiety fear_surprise fear_surprise_anxiety happiness_contempt happiness_surprise "
    "helplessness_disappointment sadness_anxiety sadness_anxiety_helplessness sadness_disappointment sadness_helplessness "
    "sadness_helplessness_disappointment sadness_surprise surprise_anxiety"
)
MAFW_COMPOUND = (*MAFW, *_JOINT.split())

_DFEW = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")
CLASS_ORDERS = MappingProxyType(
    {
        # Official DFEW number minus 1. Also used for FERV39k and AFEW by most published code.
        "dfew": _DFEW,
        "basic-alphabetical": ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
        # Official MAFW number minus 1 (its spreadsheets); MAE-DFER, SVFAP, HiCMAE, EmoCLIP.
        "mafw": (
            "anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "contempt", "anxiety", "helplessness", "disappointment",
        ),
        "mafw-dfew-first": (*_DFEW, "contempt", "anxiety", "helplessness", "disappointment"),  # DFER-CLIP, MMA-DFER
        "mafw-alphabetical": tuple(sorted(MAFW)),  # S2D, S4D
        "crema-d": ("anger", "disgust", "fear", "happiness", "neutral", "sadness"),
        "ravdess": ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise"),
        "enterface": ("anger", "disgust", "fear", "happiness", "sadness", "surprise"),
        "dferkit-7": BASIC,
        "dferkit-11": MAFW,
        "dferkit-43": MAFW_COMPOUND,
    }
)  # fmt: skip
"""Orders in which releases and published code number the classes (from 0); reading such a file takes the name of one."""

ALIASES = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "scared": "fear",
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "calm": "neutral",
    "contemptuous": "contempt",
    "anxious": "anxiety",
    "helpless": "helplessness",
    "disappointed": "disappointment",
}
"""Spellings of a class; a label set that has the spelling as a class of its own (RAVDESS: calm) keeps it."""


def check_name(what: str, name: str, known: Iterable[str]) -> None:
    """Require a name to be known.

    Args:
        what: What it names, such as ``model``.

    Raises:
        ConfigError: It is not; the message lists what is known, and asks for a name that is near in spelling.
    """
    names = list(known)
    if name not in names:
        raise ConfigError(f"unknown {what} {name!r}{hint(name, names)} Known: {', '.join(names)}")


def near_name(name: str, known: Iterable[str]) -> str | None:
    """The known name closest in spelling, in any case; None where none shares most of its letters or begins with it."""
    names, lower = {spelling.lower(): spelling for spelling in known}, name.strip().lower()
    found = difflib.get_close_matches(lower, names, n=1) or [n for n in names if len(lower) > 2 and n.startswith(lower)]
    return names[found[0]] if found else None


def hint(name: str, known: Iterable[str]) -> str:
    """How a message about an unknown name goes on: ``; did you mean 'x'?``, or ``.`` where no known name is near."""
    near = near_name(name, known)
    return "." if near is None else f"; did you mean {near!r}?"


def parse_label(text: str, labels: tuple[str, ...] = BASIC, *, where: str = "") -> str:
    """Canonical class name for what a user wrote (``Happy`` gives ``happiness``).

    Args:
        text: A class name or an alias, any case.
        labels: The accepted classes.
        where: Place of the text, such as ``clips.csv:3``, put before the message.

    Raises:
        ManifestError: The name is not known; the message lists the known ones.
    """
    name = text.strip().lower()
    if name not in labels:
        name = ALIASES.get(name, name)
    if name in labels:
        return name
    spellings = {**{alias: target for alias, target in ALIASES.items() if target in labels}, **{l: l for l in labels}}
    near = near_name(name, spellings)
    guess = "." if near is None else f"; did you mean {spellings[near]!r}?"
    prefix = f"{where}: " if where else ""
    raise ManifestError(f"{prefix}unknown label {text!r}{guess} Known labels: {', '.join(labels)}")


def class_order(name: str) -> tuple[str, ...]:
    """Class names by number: a known order, or a list of names with commas.

    Raises:
        ConfigError: Neither; the message names the known orders.
    """
    if name in CLASS_ORDERS:
        return CLASS_ORDERS[name]
    if "," in name:
        try:
            return tuple(parse_label(part, (*MAFW_COMPOUND, "calm")) for part in name.split(","))
        except ManifestError as error:
            raise ConfigError(f"class order: {error}") from error
    raise ConfigError(
        f"unknown class order {name!r}{hint(name, CLASS_ORDERS)} Known: {', '.join(CLASS_ORDERS)}, or class names with commas"
    )


def shared_labels(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    """Classes that both label sets name, in the order of the first. Nothing is merged: ``calm`` is not ``neutral``, ``anger_disgust`` not ``anger``.

    Raises:
        ConfigError: Fewer than two are shared.
    """
    shared = tuple(label for label in first if label in set(second))
    if len(shared) < 2:
        raise ConfigError(
            f"the two label sets share {len(shared)} classes; at least 2 are needed ({', '.join(first)} against {', '.join(second)})"
        )
    return shared


def restrict_probabilities(
    probabilities: Float[np.ndarray, "clips classes"], labels: Sequence[str], wanted: Sequence[str]
) -> Float[np.ndarray, "clips wanted"]:
    """Probabilities given that the answer is one of ``wanted``: those columns, scaled to sum to 1.

    A clip with 0 for all of them, or without an answer, has no answer (NaN).

    Raises:
        ConfigError: A wanted class is not among ``labels``.
    """
    missing = [label for label in wanted if label not in labels]
    if missing:
        raise ConfigError(f"no class {missing[0]!r} among {', '.join(labels)}")
    kept = np.asarray(probabilities, np.float64)[:, [list(labels).index(label) for label in wanted]]
    total = kept.sum(1, keepdims=True)
    return np.divide(kept, total, out=np.full_like(kept, np.nan), where=total > 0)
