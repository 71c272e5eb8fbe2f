"""One box per person and frame: detect in some frames, track in between, drop false detections.

A track id groups the boxes of one person within one window. It does not identify a person.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from dferkit.errors import ConfigError
from dferkit.faces.boxfile import BoxFile
from dferkit.faces.detect import Detector, WholeFrame
from dferkit.faces.flow import Motion
from dferkit.faces.geometry import overlap
from dferkit.schema import FaceBox, FaceTrack, Frames

PEOPLE = ("largest", "all")

_MIN_OVERLAP = 0.25
_MAX_GAP_SECONDS = 0.5
# Between two detections a face may turn or talk, so less similarity is required than beyond the last detection.
_MIN_LIKENESS_BETWEEN = 0.3
_MIN_LIKENESS_ALONE = 0.7


@dataclass(slots=True)
class _Trail:
    """Detections of one person: frame → box and score."""

    hits: dict[int, FaceBox] = field(default_factory=dict)
    expected: Float[np.ndarray, " 4"] | None = None


def track_faces(
    frames: Frames, detector: Detector | BoxFile, *, every: int = 4, people: str = "largest"
) -> list[FaceTrack]:
    """Track the faces of one window.

    The detector runs on every ``every``-th frame and on the last one. Where two of these show different numbers of faces, it also
    runs on the frames between them, to find when a face appears or disappears.

    Args:
        people: ``largest`` (largest mean area, then longest) or ``all``.

    Returns:
        Tracks, largest first; empty without a face. Boxes are standard ones (``geometry.py``), smoothed.

    Raises:
        ConfigError: ``every`` or ``people`` is out of range.
    """
    if every < 1:
        raise ConfigError(f"every={every}: the detector runs on every n-th frame, n at least 1")
    if people not in PEOPLE:
        raise ConfigError(f"people={people!r} is unknown: give one of {', '.join(PEOPLE)}")
    if isinstance(detector, WholeFrame):
        return [_whole(frames, detector)]
    motion = Motion(frames.images)
    detections = _detect(frames, detector, every)
    trails = _link(detections, motion)
    # A single detection may be false, two that agree rarely are. A window with one or two detector runs cannot require two.
    needed = 2 if len(detections) > 2 and not isinstance(detector, BoxFile) else 1
    filled = [_fill(trail, motion, frames.timestamps) for trail in trails if len(trail.hits) >= needed]
    filled.sort(key=lambda item: (-_mean_area(item[0]), -np.isfinite(item[0][:, 0]).sum()))
    tracks = [
        FaceTrack(
            track_id=number,
            boxes=_smooth(boxes, motion.is_cut),
            scores=scores,
            found=np.isfinite(boxes[:, 0]),
            detector=detector.name,
            num_people=len(filled),
        )
        for number, (boxes, scores) in enumerate(filled)
    ]
    return tracks[:1] if people == "largest" else tracks


def _whole(frames: Frames, detector: WholeFrame) -> FaceTrack:
    count = len(frames.images)
    box = detector.detect(frames.images[0])[0]
    return FaceTrack(
        track_id=0,
        boxes=np.tile(_array(box), (count, 1)),
        scores=np.full(count, np.nan),
        found=np.ones(count, dtype=bool),
        detector=detector.name,
    )


def _detect(frames: Frames, detector: Detector | BoxFile, every: int) -> dict[int, list[FaceBox]]:
    count = len(frames.images)
    if isinstance(detector, BoxFile):
        return {i: detector.boxes_at(int(frames.indices[i]), float(frames.timestamps[i])) for i in range(count)}
    seen: dict[int, list[FaceBox]] = {}

    def run(i: int) -> None:
        # Frames repeat where a video has fewer frames than samples.
        if i > 0 and i - 1 in seen and frames.indices[i] == frames.indices[i - 1]:
            seen[i] = seen[i - 1]
        else:
            seen[i] = detector.detect(frames.images[i])

    chosen = sorted({*range(0, count, every), count - 1})
    for i in chosen:
        run(i)
    for left, right in itertools.pairwise(chosen):
        if len(seen[left]) != len(seen[right]):
            for i in range(left + 1, right):
                run(i)
    return dict(sorted(seen.items()))


def _link(detections: dict[int, list[FaceBox]], motion: Motion) -> list[_Trail]:
    """Group detections into trails by their overlap with the expected box of each face."""
    trails: list[_Trail] = []
    previous = 0
    for frame, boxes in detections.items():
        for trail in trails:
            if trail.expected is not None:
                trail.expected = _carry_on(motion, trail.expected, previous, frame)
        previous = frame
        pairs = sorted(
            (
                (overlap(FaceBox.of(trail.expected), box), t, b)
                for t, trail in enumerate(trails)
                if trail.expected is not None
                for b, box in enumerate(boxes)
            ),
            reverse=True,
        )
        used_trails: set[int] = set()
        used_boxes: set[int] = set()
        for shared, t, b in pairs:
            if shared < _MIN_OVERLAP or t in used_trails or b in used_boxes:
                continue
            used_trails.add(t)
            used_boxes.add(b)
            trails[t].hits[frame] = boxes[b]
            trails[t].expected = _array(boxes[b])
        for b, box in enumerate(boxes):
            if b not in used_boxes:
                trails.append(_Trail({frame: box}, _array(box)))
    return trails


def _carry_on(motion: Motion, box: Float[np.ndarray, " 4"], start: int, end: int) -> Float[np.ndarray, " 4"] | None:
    """The box tracked over several frames; None across a cut."""
    for i in range(start, end):
        if motion.is_cut[i + 1]:
            return None
        moved = motion.carry(box, i, i + 1)
        box = box if moved is None else moved
    return box


def _fill(
    trail: _Trail, motion: Motion, times: Float[np.ndarray, " frames"]
) -> tuple[Float[np.ndarray, "frames 4"], Float[np.ndarray, " frames"]]:
    """Boxes of a trail in all frames where the face is still there, and the detector's scores."""
    boxes = np.full((len(times), 4), np.nan)
    scores = np.full(len(times), np.nan)
    frames = sorted(trail.hits)
    for frame in frames:
        boxes[frame] = _array(trail.hits[frame])
        scores[frame] = trail.hits[frame].score
    for left, right in itertools.pairwise(frames):
        _fill_between(boxes, left, right, motion)
    _fill_alone(boxes, frames[-1], 1, motion, times)
    _fill_alone(boxes, frames[0], -1, motion, times)
    return boxes, scores


def _fill_between(boxes: Float[np.ndarray, "frames 4"], left: int, right: int, motion: Motion) -> None:
    """Track the face from one detection to the next, and distribute the error found there over the frames between."""
    if right - left < 2:
        return
    path = [boxes[left]]
    for i in range(left, right):
        moved = motion.carry(path[-1], i, i + 1)
        path.append(path[-1] if moved is None else moved)
    error = boxes[right] - path[-1]
    first, last = motion.patch(left, boxes[left]), motion.patch(right, boxes[right])
    for i in range(left + 1, right):
        box = path[i - left] + error * (i - left) / (right - left)
        patch = motion.patch(i, box)
        if max((patch * first).sum(), (patch * last).sum()) >= _MIN_LIKENESS_BETWEEN:
            boxes[i] = box


def _fill_alone(
    boxes: Float[np.ndarray, "frames 4"], start: int, step: int, motion: Motion, times: Float[np.ndarray, " frames"]
) -> None:
    """Track the face past its last detection (or back before its first) for at most half a second."""
    known = motion.patch(start, boxes[start])
    box, i = boxes[start], start
    while 0 <= i + step < len(times):
        following = i + step
        if motion.is_cut[max(i, following)] or abs(times[following] - times[start]) > _MAX_GAP_SECONDS:
            return
        moved = motion.carry(box, i, following)
        if moved is None or (motion.patch(following, moved) * known).sum() < _MIN_LIKENESS_ALONE:
            return
        boxes[following] = box = moved
        i = following


def _smooth(boxes: Float[np.ndarray, "frames 4"], is_cut: Bool[np.ndarray, " frames"]) -> Float[np.ndarray, "frames 4"]:
    """Smooth the boxes, their size more than their position, but not across a cut or a gap."""
    smoothed = boxes.copy()
    found = np.isfinite(boxes[:, 0])
    run = np.cumsum(~found | is_cut)
    for number in np.unique(run[found]):
        members = np.flatnonzero(found & (run == number))
        centers = boxes[members, :2] + boxes[members, 2:] / 2
        sides = np.exp(_blur(np.log(boxes[members, 2:]), sigma=3.0))
        smoothed[members] = np.hstack([_blur(centers, sigma=1.0) - sides / 2, sides])
    return smoothed


def _blur(values: Float[np.ndarray, "frames columns"], *, sigma: float) -> Float[np.ndarray, "frames columns"]:
    steps = np.arange(len(values))
    weights = np.exp(-0.5 * ((steps[:, None] - steps) / sigma) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)) @ values


def _mean_area(boxes: Float[np.ndarray, "frames 4"]) -> float:
    return float(np.nanmean(boxes[:, 2] * boxes[:, 3]))


def _array(box: FaceBox) -> Float[np.ndarray, " 4"]:
    return np.array([box.x, box.y, box.width, box.height], dtype=np.float64)
