"""One video or folder of frames → its windows, each with the face clips found in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dferkit.faces.boxfile import BoxFile
from dferkit.faces.detect import Detector
from dferkit.faces.geometry import CROP_MARGIN
from dferkit.faces.landmarks import FaceLandmarker, measure_geometry
from dferkit.faces.track import track_faces
from dferkit.faces.warp import warp_face
from dferkit.schema import DecodeReport, FaceClip, FaceTrack, Frames
from dferkit.video import FrameFolder, VideoIndex, Window, decode_source

CLIP_SIZE, CLIP_FRAMES = 112, 16  # of a face clip as models read it
# Shares of the sampled frames with a face. Below the first share there is no answer, below the second the answer is weak.
NO_FACE_BELOW, LOW_COVERAGE_BELOW = 0.10, 0.50


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowFaces:
    """Faces of one window; whole pictures are not kept, crops are.

    Attributes:
        timestamps, indices: Of the sampled frames.
        clips: One face clip per person, largest first; empty when no face was found.
        num_people: People found, also if only the largest was requested.
        frame_size: (width, height) of the upright frames.
    """

    window: Window
    timestamps: np.ndarray
    indices: np.ndarray
    report: DecodeReport
    clips: tuple[FaceClip, ...]
    num_people: int
    frame_size: tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Crop:
    """Form of a face's pictures.

    Attributes:
        size: Side in pixels. margin: Growth of the found box on each side, as a share of its side.
    """

    size: int = CLIP_SIZE
    margin: float = CROP_MARGIN


FACE_CROP = Crop()


def read_faces(
    index: VideoIndex | FrameFolder,
    windows: Sequence[Window],
    detector: Detector | BoxFile,
    *,
    people: str = "largest",
    crop: Crop = FACE_CROP,
    video_name: Path | str | None = None,
    landmarker: FaceLandmarker | None = None,
) -> Iterator[WindowFaces]:
    """Decode each window, detect, track and crop its faces; with a landmarker, also measure them.

    Raises:
        VideoError: The file cannot be decoded.
        ManifestError: The CSV of boxes has no row for this video.
    """
    if isinstance(detector, BoxFile):
        detector = detector.for_video(video_name or index.path)
    for window, frames in zip(
        sorted(windows, key=lambda w: w.start_seconds), decode_source(index, windows), strict=True
    ):
        tracks = track_faces(frames, detector, people=people)
        yield WindowFaces(
            window=window,
            timestamps=frames.timestamps,
            indices=frames.indices,
            report=frames.report,
            clips=tuple(_clip(frames, track, crop, landmarker) for track in tracks),
            num_people=max((track.num_people for track in tracks), default=0),
            frame_size=(frames.images.shape[2], frames.images.shape[1]),
        )


def _clip(frames: Frames, track: FaceTrack, crop: Crop, landmarker: FaceLandmarker | None) -> FaceClip:
    clip = warp_face(frames, track, size=crop.size, margin=crop.margin)
    return clip if landmarker is None else replace(clip, geometry=measure_geometry(frames, track, landmarker))
