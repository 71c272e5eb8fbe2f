"""One labelled clip → the face clip of one person, or a status with the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dferkit.errors import DataError
from dferkit.faces.boxfile import BoxFile
from dferkit.faces.detect import Detector
from dferkit.faces.landmarks import FaceLandmarker
from dferkit.faces.read import CLIP_FRAMES, FACE_CROP, Crop, read_faces
from dferkit.faces.status import face_status, unreadable
from dferkit.schema import ClipStatus, DecodeReport, FaceClip, Record
from dferkit.video import clip_window, index_source, spread_window


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFaces:
    """Faces of one record.

    Attributes:
        clip: None unless ``status.has_features``.
        frame_size: (width, height) of the upright frames, (0, 0) where none was decoded.
        indices: Number of each sampled frame in the file. report: Report of the decoding; None where no frame was decoded.
    """

    clip: FaceClip | None
    status: ClipStatus
    frame_size: tuple[int, int] = (0, 0)
    indices: np.ndarray | None = None
    report: DecodeReport | None = None


def read_clip_faces(
    record: Record,
    detector: Detector | BoxFile,
    *,
    num_samples: int | None = None,
    max_frames: int = 0,
    crop: Crop = FACE_CROP,
    landmarker: FaceLandmarker | None = None,
) -> ClipFaces:
    """Decode a whole clip and cut out the largest face. A clip that cannot be used gives a status, not an exception.

    Args:
        num_samples: Number of sampling times, spread evenly over the clip; frames repeat in a short clip. None: the clip's own
            frames, each once, at most ``max_frames`` of them (0 for all).
    """
    try:
        source = index_source(record.video)
        window = (
            spread_window(source.timestamps, source.duration_seconds, max_frames)
            if num_samples is None
            else clip_window(source.duration_seconds, num_samples)
        )
        faces = next(
            read_faces(source, [window], detector, crop=crop, video_name=record.clip_id, landmarker=landmarker),
        )
    except (DataError, cv2.error, OSError, MemoryError) as error:
        message = (
            str(error) if isinstance(error, DataError) else f"{record.video.name} cannot be read: {_reason(error)}"
        )
        return ClipFaces(clip=None, status=unreadable(message))
    person = faces.clips[0] if faces.clips else None
    status = face_status(faces, person, detector=detector.name, num_wanted=num_samples or max_frames or CLIP_FRAMES)
    return ClipFaces(
        clip=person if status.has_features else None,
        status=status,
        frame_size=faces.frame_size,
        indices=faces.indices,
        report=faces.report,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "its frames do not fit into the memory" if isinstance(error, MemoryError) else "OpenCV refused a frame"
