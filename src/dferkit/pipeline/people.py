"""Who is who from one window of a video to the next, by where the faces are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dferkit.faces.geometry import overlap
from dferkit.schema import FaceBox, FaceClip

_MIN_OVERLAP = 0.25


class PeopleOfVideo:
    """Numbers the people of a video, window by window.

    A face keeps its number while it is at nearly the same place in the next window. A face that is away for a whole window, or jumps,
    counts as another person. A number is no identity.
    """

    def __init__(self) -> None:
        self._last: dict[int, FaceClip] = {}
        self._count = 0

    def number(self, clips: Sequence[FaceClip]) -> tuple[int, ...]:
        """The number of each person of the next window, from 0 in the order in which they appear."""
        pairs = sorted(
            (
                (_overlap(before, clip), person, i)
                for person, before in self._last.items()
                for i, clip in enumerate(clips)
            ),
            key=lambda pair: -pair[0],
        )
        person_of: dict[int, int] = {}
        for shared, person, i in pairs:
            if shared >= _MIN_OVERLAP and i not in person_of and person not in person_of.values():
                person_of[i] = person
        for i in range(len(clips)):
            if i not in person_of:
                person_of[i] = self._count
                self._count += 1
        self._last = {person_of[i]: clip for i, clip in enumerate(clips)}
        return tuple(person_of[i] for i in range(len(clips)))


def _overlap(before: FaceClip, after: FaceClip) -> float:
    """Overlap of two faces, 0 to 1, in those of their frames that are nearest in time."""
    own, other = np.flatnonzero(before.track.found), np.flatnonzero(after.track.found)
    gaps = np.abs(before.timestamps[own][:, None] - after.timestamps[other])
    i, j = np.unravel_index(gaps.argmin(), gaps.shape)
    return overlap(FaceBox.of(before.track.boxes[own[i]]), FaceBox.of(after.track.boxes[other[j]]))
