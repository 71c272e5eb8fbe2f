"""Face detectors for one picture. Every detector returns standard boxes (see ``geometry.py``)."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import UInt8

from dferkit.errors import BackendError, ConfigError
from dferkit.faces.boxfile import BoxFile
from dferkit.faces.geometry import CROP_MARGIN, standard_from_tight
from dferkit.model_files import find_model
from dferkit.schema import FaceBox
from dferkit.storage import digest_file

Image = UInt8[np.ndarray, "height width 3"]

_SPECS = ("auto", "haar", "yunet", "cropped")


@runtime_checkable
class Detector(Protocol):
    """Finds faces in an upright RGB picture.

    Attributes:
        name: Written into every output as the front end.
    """

    name: str

    def detect(self, image: Image) -> list[FaceBox]:
        """Standard boxes in pixels of the picture, best first."""
        ...


class HaarDetector:
    """OpenCV's cascade for frontal faces. It needs no download and misses profiles.

    Raises:
        BackendError: The installed OpenCV has no cascades (5 and later).
    """

    name = "haar"
    # Time grows with the number of pixels and with a smaller minimum face. Large pictures are therefore reduced; small ones,
    # which a face fills, are enlarged and searched for large faces only. Measured on real clips: 12 to 22 ms per large
    # picture, 4 ms per picture of 112 pixels, no false detection in a cartoon.
    _LARGE_SIDE, _LARGE_FACE_SHARE = 320, 0.08
    _SMALL_SIDE, _SMALL_FACE_SHARE = 160, 0.3
    _MIN_NEIGHBORS = 4

    def __init__(self) -> None:
        path = os.path.join(getattr(getattr(cv2, "data", None), "haarcascades", ""), "haarcascade_frontalface_alt2.xml")
        if not hasattr(cv2, "CascadeClassifier") or not os.path.isfile(path):
            raise BackendError(
                f"OpenCV {cv2.__version__} has no face cascade: pip install 'opencv-python-headless<5', "
                "or give --face yunet with its model file"
            )
        self._cascade = cv2.CascadeClassifier(path)

    def detect(self, image: Image) -> list[FaceBox]:
        height, width = image.shape[:2]
        is_small = max(height, width) < self._SMALL_SIDE
        scale = self._SMALL_SIDE / max(height, width) if is_small else min(1.0, self._LARGE_SIDE / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR if is_small else cv2.INTER_AREA)
        grey = cv2.equalizeHist(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
        smallest = max(20, round(max(size) * (self._SMALL_FACE_SHARE if is_small else self._LARGE_FACE_SHARE)))
        boxes, _, weights = self._cascade.detectMultiScale3(
            grey,
            scaleFactor=1.1,
            minNeighbors=self._MIN_NEIGHBORS,
            minSize=(smallest, smallest),
            outputRejectLevels=True,
        )
        found = [
            FaceBox(
                x=float(x / scale),
                y=float(y / scale),
                width=float(w / scale),
                height=float(h / scale),
                score=float(weight),
            )
            for (x, y, w, h), weight in zip(boxes, np.ravel(weights), strict=True)
        ]
        return sorted(found, key=lambda box: -box.score)


class YuNetDetector:
    """YuNet, a small network for faces in any pose, read from an ONNX file of the user.

    Raises:
        BackendError: The file cannot be loaded.
    """

    name = "yunet"
    _MAX_SIDE = 320
    _MIN_SIDE = 160
    _MIN_SCORE = 0.7

    def __init__(self, model_path: Path | str) -> None:
        path = Path(model_path)
        if not path.is_file():
            raise BackendError(f"{path.name}: no such YuNet model file: set DFERKIT_MODELS to its folder")
        self.path = path
        try:
            self._network = cv2.FaceDetectorYN.create(str(path), "", (320, 320), self._MIN_SCORE, 0.3, 50)
        except cv2.error as error:
            raise BackendError(f"{path.name} is not a YuNet model that OpenCV {cv2.__version__} can load") from error

    def detect(self, image: Image) -> list[FaceBox]:
        height, width = image.shape[:2]
        long_side = max(height, width)
        scale = min(1.0, self._MAX_SIDE / long_side)
        if long_side < self._MIN_SIDE:
            scale = self._MIN_SIDE / long_side
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        self._network.setInputSize(size)
        _, rows = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        if rows is None:
            return []
        tight = [
            FaceBox(
                x=float(row[0] / scale),
                y=float(row[1] / scale),
                width=float(row[2] / scale),
                height=float(row[3] / scale),
                score=float(row[14]),
            )
            for row in rows
            if row[2] > 0 and row[3] > 0
        ]
        return sorted((standard_from_tight(box) for box in tight), key=lambda box: -box.score)


class WholeFrame:
    """For clips that are cropped faces: the crop is the centre square of the picture."""

    name = "cropped"

    def detect(self, image: Image) -> list[FaceBox]:
        height, width = image.shape[:2]
        side = min(height, width) / (1 + 2 * CROP_MARGIN)
        return [FaceBox(x=(width - side) / 2, y=(height - side) / 2, width=side, height=side)]


def build_detector(spec: str = "auto", *, models_dir: Path | str | None = None) -> Detector | BoxFile:
    """The detector of a name.

    Args:
        spec: ``auto`` (YuNet where its file is there, else Haar), ``haar``, ``yunet``, ``cropped``, or a CSV of boxes.
        models_dir: Folder with the YuNet ONNX file; by default that of the environment variable DFERKIT_MODELS.

    Raises:
        ConfigError: The name is unknown.
        BackendError: The detector's file is missing or not usable.
        ManifestError: The CSV of boxes is wrong.
    """
    if spec.lower().endswith(".csv"):
        return BoxFile(spec)
    if spec not in _SPECS:
        near = difflib.get_close_matches(spec.lower(), _SPECS, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{spec!r} is not a face detector.{hint} Known: {', '.join(_SPECS)}, or a CSV file of boxes")
    if spec == "cropped":
        return WholeFrame()
    if spec == "haar":
        return HaarDetector()
    model = find_model("yunet", models_dir)
    if model is not None:
        return YuNetDetector(model)
    if spec == "auto":
        return HaarDetector()
    raise BackendError(
        "YuNet needs its ONNX file (face_detection_yunet_*.onnx): set DFERKIT_MODELS to its folder, or use --face haar"
    )


def front_end_key(detector: Detector | BoxFile) -> str:
    """Key for a cache of a detector's boxes: its name, with the digest of its file if it has one."""
    path = getattr(detector, "path", None)
    return detector.name if path is None else f"{detector.name}:{digest_file(path)}"
