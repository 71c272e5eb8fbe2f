"""From a data set to a face clip: releases, records, frames, faces, and what became of a clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One row of an annotation: a video with its labels. Never opens the video.

    Attributes:
        clip_id: Name of the clip in its data set; never changes with the folder it was found in.
        video: A video file, or a folder of frame pictures.
        votes: Share of the annotators for each class, in the order of the data set's labels, sums to 1.
        caption: A human description. Its authors saw the label, so it is never used in a test.
        attributes: Further columns of the data set, such as ``scene``; used for scores by group only.
    """

    clip_id: str
    video: Path
    label: str | None = None
    split: str | None = None
    subject: str | None = None
    votes: tuple[float, ...] | None = None
    caption: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fold:
    """One official split: names of its training and test clips, in the order of the release's lists."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that a check of a release found.

    Attributes:
        severity: ``error`` (wrong, or the score would be), ``warning`` (should be checked), ``note``.
        code: Stable, such as ``LABEL_RANGE`` (listed in ``docs/reference/data-findings.md``).
        where: ``file:line`` below the release's root; empty for the release as a whole.
        message: What was found, what was expected, what to do.
    """

    severity: str
    code: str
    message: str
    where: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.message} [{self.code}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """An official data set on disk: its clips, its folds, and its errors.

    Attributes:
        layout: Such as ``dfew`` or ``mafw-compound``.
        labels: Class names in dferkit's order.
        records: In natural order of their clip ids; ``split`` is None in an official set, where it depends on the fold, and the user's mark in an own one.
        media: Folder of the videos or frames below the root, empty for none. media_reason: Why this one was chosen.
        media_kind: ``faces`` (folders of frames already cut to the face), ``frames`` (folders of whole frames), ``videos`` or ``none``.
        annotation_digest: SHA-256 of the annotation files that were read.
        findings: Of the annotations, in the order of the files.
    """

    layout: str
    labels: tuple[str, ...]
    records: tuple[Record, ...]
    folds: tuple[Fold, ...]
    media: str
    media_reason: str
    media_kind: str
    annotation_digest: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeReport:
    """What happened while a window was decoded.

    Attributes:
        num_requested: Sampling times requested.
        num_decoded: Different frames that were got (fewer when frames repeat or the file ends early).
        num_damaged: Packets that could not be decoded.
        rotation_degrees: Rotation that was applied to make the frames upright (0, 90, 180 or 270, counter-clockwise).
        is_truncated: The file ends before its declared end, or its index is cut.
        is_variable_rate: Frame intervals differ by more than half a frame.
        warnings: Stable codes such as ``W_TRUNCATED``, ``W_HDR``, ``W_BAD_ROTATION``.
    """

    num_requested: int
    num_decoded: int
    num_damaged: int = 0
    rotation_degrees: int = 0
    is_truncated: bool = False
    is_variable_rate: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """Sampled upright frames of one window of one video.

    Attributes:
        images: One image per sampling time; a frame may repeat when the video has fewer.
        timestamps: Presentation time of each image, in seconds, not decreasing.
        indices: Number of each image among the file's frames in presentation order, from 0.
        start_seconds, end_seconds: The window.
    """

    images: UInt8[np.ndarray, "frames height width 3"]
    timestamps: Float[np.ndarray, " frames"]
    indices: np.ndarray
    start_seconds: float
    end_seconds: float
    report: DecodeReport


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceBox:
    """One detected face; ``score`` is the detector's own, NaN where it has none."""

    x: float
    y: float
    width: float
    height: float
    score: float = float("nan")

    @classmethod
    def of(cls, values: Float[np.ndarray, " 4"]) -> FaceBox:
        """The box of x, y, width and height."""
        x, y, width, height = (float(value) for value in values)
        return cls(x=x, y=y, width=width, height=height)


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceTrack:
    """One person's boxes through a window. A track id is not a person's identity.

    Attributes:
        boxes: (x, y, width, height) per frame, NaN where the face was not found.
        scores: Detector score per frame, NaN where unknown.
        found: Frames with a face, detected or tracked.
        num_people: How many tracks the window has (1 when only this one).
    """

    track_id: int
    boxes: Float[np.ndarray, "frames 4"]
    scores: Float[np.ndarray, " frames"]
    found: Bool[np.ndarray, " frames"]
    detector: str
    num_people: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceQuality:
    """Figures a user can check a face clip by.

    Attributes:
        coverage: Share of the sampled frames with a face, 0 to 1.
        median_height_pixels: Median face height in the frame.
        sharpness: Median variance of the Laplacian of the grey 112-pixel crop (levels 0 to 255); below 20 is blurred.
        brightness: Median grey level of the crops, 0 to 255.
        jitter: Median movement of the box centre between frames, as a share of the face height.
        warnings: Stable codes such as ``W_SMALL_FACE``, ``W_BLUR``, ``W_DARK``, ``W_MULTIPLE_FACES``.
    """

    coverage: float
    median_height_pixels: float
    sharpness: float
    brightness: float
    jitter: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceGeometry:
    """What a landmarker measures, per frame; NaN in frames where it found no face, None where it does not measure it.

    Attributes:
        landmarks: x, y in pixels of the upright frame, z in the same unit, smaller towards the camera.
        blend_shapes: Strength of each facial movement, 0 to 1, in the order of ``blend_shape_names``.
        head_pose: Homogeneous matrix from the canonical head (centimetres) to the camera.
    """

    landmarks: Float[np.ndarray, "frames points 3"] | None = None
    blend_shapes: Float[np.ndarray, "frames shapes"] | None = None
    head_pose: Float[np.ndarray, "frames 4 4"] | None = None
    blend_shape_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceClip:
    """Sampled and warped faces of one person: the input of every encoder.

    Frames without a face repeat the nearest found one, so that ``images`` is always complete; ``found`` marks the others.
    ``geometry`` is there only where a landmarker was used.
    """

    images: UInt8[np.ndarray, "frames size size 3"]
    timestamps: Float[np.ndarray, " frames"]
    track: FaceTrack
    quality: FaceQuality
    start_seconds: float
    end_seconds: float
    geometry: FaceGeometry | None = None


STATUSES = ("error", "unreadable", "no_face", "abstain", "truncated", "low_coverage", "too_short", "ok")
"""What becomes of a clip or window. Each rules out those after it; ``faces.status`` has the conditions."""
ANSWERED = STATUSES[4:]
"""Those with an answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipStatus:
    """What became of one clip or of one person in a window: one of ``STATUSES``, with a message for the user."""

    status: str
    message: str
    coverage: float
    detector: str
    end_seconds: float
    num_people: int = 1

    @property
    def has_features(self) -> bool:
        """The clip can be answered."""
        return self.status in ANSWERED
