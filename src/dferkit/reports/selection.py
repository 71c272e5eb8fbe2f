"""The words and frames of an explanation that fit on a page or a picture."""

from __future__ import annotations

import numpy as np

from dferkit.schema import Explanation


def main_words(explanation: Explanation, count: int) -> list[int]:
    """Numbers of the words with the largest weights that are aligned with a cell, each spelling once."""
    order = np.argsort(-np.asarray(explanation.word_weights), kind="stable")
    seen: set[str] = set()
    picked = []
    for i in order:
        word = explanation.words[i].lower()
        if word not in seen and explanation.transport[i].sum() > 0:
            seen.add(word)
            picked.append(int(i))
    return picked[:count]


def frames_to_show(explanation: Explanation, words: list[int], count: int) -> list[int]:
    """Numbers of at most ``count`` frames in order: the peaks of evidence, words and motion, and others spread between them."""
    maps = [
        np.asarray(m) for m in (explanation.evidence, *(explanation.transport[i] for i in words), explanation.motion)
    ]
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
