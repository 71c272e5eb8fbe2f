"""Landmarks, blend shapes and head pose of one person's face, by MediaPipe's Face Landmarker (extra ``landmarks``).

The landmarker reads a crop around a face that was detected and tracked before. It therefore works with every detector and for small faces, and it
always measures the tracked person.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from dferkit.errors import BackendError, ConfigError, MissingExtraError
from dferkit.faces.warp import crop_face
from dferkit.model_files import FOLDER_VARIABLE, find_model
from dferkit.schema import FaceGeometry, FaceTrack, Frames
from dferkit.storage import digest_file

NUM_POINTS, NUM_SHAPES = 478, 52
_INPUT_SIZE = 256
_MARGIN = 0.35  # the landmarker needs the whole head; from .2 to .5 it finds the same faces


@contextlib.contextmanager
def _quiet_native_code() -> Iterator[None]:
    """Silence MediaPipe and TensorFlow Lite, which write to the process's stderr from native code whatever the log level is."""
    sys.stderr.flush()
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _close_before_end(landmarker: FaceLandmarker) -> None:
    """Close a landmarker that its user did not close; once its threads have ended, MediaPipe prints a traceback instead.

    ``atexit`` runs after the threads have ended; the hook that ``concurrent.futures`` uses runs before.
    """
    known = weakref.ref(landmarker)

    def close() -> None:
        found = known()
        if found is not None:
            found.close()

    getattr(threading, "_register_atexit", atexit.register)(close)


class FaceLandmarker:
    """The landmarker of a task file; use it as a context, it holds native memory.

    Attributes:
        name: Written into every output. path: Of the task file.

    Raises:
        MissingExtraError: MediaPipe is not installed.
        BackendError: The file is missing or no landmarker.
    """

    name = "mediapipe-face-landmarker"

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise BackendError(
                f"{self.path.name}: no such landmarker file; dferkit models get face-landmarker shows its source and fetches it"
            )
        try:
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision
        except ImportError as error:
            raise MissingExtraError("the face landmarker", "landmarks") from error
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(self.path)),
            running_mode=vision.RunningMode.IMAGE,
            num_faces=1,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        self._image, self._format = mediapipe.Image, mediapipe.ImageFormat.SRGB
        self.blend_shape_names: tuple[str, ...] = ()
        self._landmarker: Any = None
        _close_before_end(self)
        try:
            with _quiet_native_code():
                self._landmarker = vision.FaceLandmarker.create_from_options(options)
                self.detect(
                    np.zeros((_INPUT_SIZE, _INPUT_SIZE, 3), np.uint8)
                )  # some graphs write to stderr at their first picture
        except (RuntimeError, ValueError) as error:
            raise BackendError(
                f"{self.path.name} is not a face landmarker that MediaPipe can load; download it again with dferkit models get face-landmarker"
            ) from error

    def __enter__(self) -> FaceLandmarker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def key(self) -> str:
        """Key for a cache of the landmarker's results: its name with the digest of its file."""
        return f"{self.name}:{digest_file(self.path)}"

    def close(self) -> None:
        """Free the native memory; otherwise an ignored exception is printed when the interpreter ends."""
        if self._landmarker is not None:
            self._landmarker.close()
            self._landmarker = None

    def detect(self, crop: UInt8[np.ndarray, "size size 3"]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Landmarks (478, 3) in shares of the crop's side, blend shapes (52,), head pose (4, 4); None where no face is found."""
        found = self._landmarker.detect(self._image(image_format=self._format, data=np.ascontiguousarray(crop)))
        if not found.face_landmarks or not found.face_blendshapes or not found.facial_transformation_matrixes:
            return None
        points = np.array([(p.x, p.y, p.z) for p in found.face_landmarks[0]])
        shapes = found.face_blendshapes[0]
        self.blend_shape_names = tuple(shape.category_name for shape in shapes)
        return points, np.array([shape.score for shape in shapes]), np.asarray(found.facial_transformation_matrixes[0])


def measure_geometry(frames: Frames, track: FaceTrack, landmarker: FaceLandmarker) -> FaceGeometry:
    """Landmarks of one person in every frame where both the detector and the landmarker find the face; NaN in the others."""
    count = len(track.found)
    landmarks = np.full((count, NUM_POINTS, 3), np.nan, np.float32)
    shapes = np.full((count, NUM_SHAPES), np.nan, np.float32)
    pose = np.full((count, 4, 4), np.nan, np.float32)
    for i in np.flatnonzero(track.found):
        box = track.boxes[i]
        seen = landmarker.detect(crop_face(frames.images[i], box, size=_INPUT_SIZE, margin=_MARGIN))
        if seen is None:
            continue
        points, shapes[i], pose[i] = seen
        side = max(box[2], box[3]) * (1 + 2 * _MARGIN)
        corner = box[:2] + box[2:] / 2 - side / 2
        landmarks[i] = points * side + np.array([*corner, 0.0])
    return FaceGeometry(
        landmarks=landmarks, blend_shapes=shapes, head_pose=pose, blend_shape_names=landmarker.blend_shape_names
    )


def landmarker_file(spec: str) -> Path:
    """The task file of a name, for work that needs one.

    Raises:
        BackendError: ``auto``, and DFERKIT_MODELS has none; or the named file is missing. MissingExtraError: MediaPipe is not installed.
    """
    path = find_model("face-landmarker") if spec == "auto" else Path(spec)
    if path is None:
        raise BackendError(
            f"no face landmarker: give --landmarker FILE.task, or the folder that has it in {FOLDER_VARIABLE}; dferkit models get face-landmarker fetches it"
        )
    with FaceLandmarker(path):
        return path


def open_landmarker(spec: str = "auto") -> FaceLandmarker | None:
    """The landmarker of a name.

    Args:
        spec: ``none``; a task file; or ``auto``: the file in the folder of DFERKIT_MODELS, and none where there is no file or no MediaPipe.

    Raises:
        ConfigError: Neither a name nor a task file.
        BackendError: The named file is missing or not usable. MissingExtraError: It is there, but MediaPipe is not (only for a named file).
    """
    if spec == "none":
        return None
    if spec == "auto":
        path = find_model("face-landmarker")
        try:
            return None if path is None else FaceLandmarker(path)
        except MissingExtraError:
            return None
    if not spec.lower().endswith(".task"):
        raise ConfigError(f"{spec!r} is not a landmarker; give auto, none, or a .task file (or set {FOLDER_VARIABLE})")
    return FaceLandmarker(spec)
