"""The phrases and frames of an explanation that fit on a page, a picture or a line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dferkit.explain import supporting_cells
from dferkit.schema import Explanation

_LEAST_SHARE = 0.1  # of the largest share; phrases with less are not named


def main_phrases(explanation: Explanation, count: int = 3) -> list[int]:
    """Numbers of the phrases that are named as reasons, the largest share first: those of what was seen, with a share above 0 that is not small beside the largest."""
    phrases = explanation.phrases
    seen = [i for i in range(len(phrases)) if phrases[i].is_seen and phrases[i].share > 0]
    seen.sort(key=lambda i: -phrases[i].share)
    return [i for i in seen if phrases[i].share > _LEAST_SHARE * phrases[seen[0]].share][:count]


def other_parts(explanation: Explanation, named: Sequence[int]) -> list[tuple[str, float]]:
    """What is left of an exact sum beside the phrases that are named: a name and a share for each part; the shares of all parts add up to 1."""
    assert explanation.remainder is not None
    parts: dict[str, float] = {}
    for number, phrase in enumerate(explanation.phrases):
        if number not in named:
            is_absent = not phrase.is_seen and phrase.span[1] > 0
            name = "other phrases" if phrase.is_seen else "absent movements" if is_absent else phrase.text
            parts[name] = parts.get(name, 0.0) + phrase.share
    return [*parts.items(), ("not described", explanation.remainder)]


def frames_to_show(explanation: Explanation, phrases: list[int], count: int) -> list[int]:
    """Numbers of at most ``count`` frames in order: the peaks of evidence, phrases and motion, and others spread between them."""
    of_phrases = [supporting_cells(explanation.phrases[i]) for i in phrases]
    maps = [np.asarray(m) for m in (explanation.evidence, *of_phrases, explanation.motion)]
    heaviest = [int(values.max((1, 2)).argmax()) for values in maps if np.ptp(values) > 0]
    spread = spread_frames(len(explanation.face_clip.timestamps), count)
    chosen = list(dict.fromkeys(heaviest))[: len(spread)]
    while len(chosen) < len(spread):  # the farthest from the frames chosen so far
        free = [frame for frame in spread if frame not in chosen]
        chosen.append(max(free, key=lambda frame: min((abs(frame - other) for other in chosen), default=0)))
    return sorted(chosen)


def spread_frames(count: int, wanted: int) -> list[int]:
    """Numbers of ``wanted`` evenly spread frames, first and last among them."""
    wanted = min(count, max(1, wanted))
    return sorted({round(i) for i in np.linspace(0, count - 1, wanted)})
