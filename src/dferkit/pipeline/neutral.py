"""A video of a face at rest → the zero of that person's landmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from dferkit.encoders.landmarks import seen_share
from dferkit.encoders.protocols import LandmarkReader
from dferkit.errors import ConfigError, DataError, VideoError
from dferkit.faces import FaceLandmarker
from dferkit.faces.boxfile import BoxFile
from dferkit.faces.detect import Detector
from dferkit.faces.read import CLIP_FRAMES, LOW_COVERAGE_BELOW, read_faces
from dferkit.video import clip_window, display_name, index_source


def resting_face(
    path: str, encoder: LandmarkReader, detector: Detector | BoxFile, landmarker: FaceLandmarker | None
) -> Float[np.ndarray, "points 3"]:
    """The median face of a video, in head coordinates.

    Raises:
        ConfigError: The video cannot be read, or it shows no face that the landmarker finds.
    """
    try:
        source = index_source(path)
        window = clip_window(source.duration_seconds, CLIP_FRAMES)
        faces = next(read_faces(source, [window], detector, landmarker=landmarker))
    except (VideoError, DataError) as error:
        raise ConfigError(f"--neutral: {error}") from error
    if not faces.clips or seen_share(faces.clips[0]) < LOW_COVERAGE_BELOW:
        raise ConfigError(
            f"--neutral: {display_name(Path(path).absolute())} has no face that the landmarker finds; give a video of the face at rest"
        )
    shape = encoder.shape(faces.clips[0])
    return np.asarray(np.median(shape.points[shape.seen], 0), np.float32)
