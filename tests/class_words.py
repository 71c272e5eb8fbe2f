"""Words that name an expression class, which no caption may contain."""

from __future__ import annotations

import functools
import re

from dferkit.facs import load_facs
from dferkit.labels import ALIASES, MAFW


@functools.cache
def class_words() -> tuple[str, ...]:
    """Class names, their aliases and adjectives, sorted."""
    adjectives = {word for rule in load_facs().classes.values() for word in rule.adjectives}
    return tuple(sorted({*MAFW, *ALIASES, *adjectives}))


def find_class_words(text: str) -> tuple[str, ...]:
    """The class words that ``text`` contains as whole words, any case, in order."""
    pattern = r"\b(?:" + "|".join(map(re.escape, class_words())) + r")\b"
    return tuple(match.group().lower() for match in re.finditer(pattern, text, re.IGNORECASE))
