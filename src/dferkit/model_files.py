"""Model files made by others: what they are, where to get them, and whether a file is the right one. Nothing is fetched unless it is asked for."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from dferkit.errors import BackendError
from dferkit.labels import check_name
from dferkit.storage import atomic_path, digest_file

FOLDER_VARIABLE = "DFERKIT_MODELS"
_CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFile:
    """One file.

    Attributes:
        pattern: Names it is known by in a folder. page: Where its makers describe it. url: Where they give it.
        num_bytes, sha256: Of the version that was tried.
    """

    name: str
    file: str
    pattern: str
    what: str
    maker: str
    licence: str
    page: str
    url: str
    num_bytes: int
    sha256: str


MODEL_FILES: Mapping[str, ModelFile] = MappingProxyType(
    {
        "face-landmarker": ModelFile(
            name="face-landmarker",
            file="face_landmarker.task",
            pattern="face_landmarker*.task",
            what="478 facial landmarks, 52 blend shapes and the head's pose",
            maker="Google, MediaPipe",
            licence="Apache-2.0",
            page="https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker",
            url="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
            num_bytes=3_758_596,
            sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        ),
        "yunet": ModelFile(
            name="yunet",
            file="face_detection_yunet_2023mar.onnx",
            pattern="face_detection_yunet*.onnx",
            what="faces in any pose",
            maker="OpenCV Zoo",
            licence="MIT",
            page="https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet",
            url="https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx",
            num_bytes=232_589,
            sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        ),
    }
)


def model_file(name: str) -> ModelFile:
    """A known file by name.

    Raises:
        ConfigError: Unknown; the message names the nearest.
    """
    check_name("model file", name, MODEL_FILES)
    return MODEL_FILES[name]


def find_model(name: str, folder: Path | str | None = None) -> Path | None:
    """The file in a folder, by default that of DFERKIT_MODELS; None where there is none. The last of several, so that a newer year wins."""
    place = folder or os.environ.get(FOLDER_VARIABLE)
    found = sorted(Path(place).glob(model_file(name).pattern)) if place else []
    return found[-1] if found else None


def get_model(
    name: str,
    folder: Path | str,
    *,
    url: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Fetch a file into a folder; it is there only if its digest is the known one. A file that is there already is checked and kept.

    Args:
        url: Another place to fetch it from, such as a mirror.

    Raises:
        BackendError: It cannot be fetched, or is another file than the one that was tried.
    """
    wanted = model_file(name)
    path = Path(folder) / wanted.file
    if path.is_file() and digest_file(path) == wanted.sha256:
        return path
    try:
        with urllib.request.urlopen(url or wanted.url, timeout=30) as answer, atomic_path(path) as temporary:
            digest, size = hashlib.sha256(), 0
            with temporary.open("wb") as handle:
                while (chunk := answer.read(_CHUNK)) and size <= wanted.num_bytes:
                    digest.update(chunk)
                    handle.write(chunk)
                    size += len(chunk)
                    if on_progress:
                        on_progress(min(size, wanted.num_bytes), wanted.num_bytes)
            if digest.hexdigest() != wanted.sha256:
                raise BackendError(
                    f"the download of {wanted.file} does not have the expected digest ({size:,} bytes, SHA-256 {digest.hexdigest()[:12]}…) and was removed. Get it from {wanted.page}"
                )
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise BackendError(
            f"{wanted.file} cannot be fetched ({reason}); get it from {wanted.page} and put it into the folder of {FOLDER_VARIABLE}"
        ) from error
    return path
