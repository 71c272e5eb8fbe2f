"""The phrases and frames of an explanation that fit on a page or a picture."""

from __future__ import annotations

import numpy as np

from dferkit.explain import supporting_cells
from dferkit.schema import Explanation


def main_phrases(explanation: Explanation, count: int) -> list[int]:
    """Numbers of the phrases with the largest shares of the answer, above 0."""
    order = sorted(range(len(explanation.phrases)), key=lambda i: -explanation.phrases[i].share)
    return [i for i in order if explanation.phrases[i].share > 0][:count]


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
