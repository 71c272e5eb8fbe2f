"""Names and order of expression classes, and how a user's spelling is understood.

The order is py-feat's: anger disgust fear happiness sadness surprise neutral, then the four further classes of MAFW.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from dferkit.errors import ManifestError

BASIC = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
MAFW = (*BASIC, "contempt", "anxiety", "helplessness", "disappointment")

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


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The known name closest in spelling to ``name``."""
    names = list(known)
    return difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.0)[0]


def parse_label(text: str, labels: tuple[str, ...] = BASIC, *, where: str = "") -> str:
    """Canonical class name for what a user wrote (``Happy`` gives ``happiness``).

    Args:
        text: A class name or an alias, any case.
        labels: The accepted classes.
        where: Place of the text, such as ``clips.csv:3``, put before the message.

    Raises:
        ManifestError: The name is not known; the message names the nearest known one.
    """
    name = text.strip().lower()
    name = ALIASES.get(name, name)
    if name in labels:
        return name
    spellings = {**{alias: target for alias, target in ALIASES.items() if target in labels}, **{l: l for l in labels}}
    guess = spellings[nearest_name(name, spellings)]
    prefix = f"{where}: " if where else ""
    raise ManifestError(f"{prefix}unknown label {text!r}; did you mean {guess!r}? Known labels: {', '.join(labels)}")
