"""How faces are cut and kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dferkit.checks import check_range
from dferkit.faces import CROP_MARGIN, build_detector, front_end_key, open_landmarker
from dferkit.schema import Release

FORMAT = 2  # 1 called the detector "front_end"


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareConfig:
    """Settings that decide the bytes of a store.

    Attributes:
        face: Detector name or a CSV of boxes; ``auto`` takes the whole picture where the release's media are faces
            already, else the best detector there is.
        size: Side of the stored crops in pixels.
        quality: Of the JPEGs, 1 to 100.
        max_frames: Frames kept of a clip, spread evenly; 0 keeps all, then a worker holds a whole clip in memory.
        landmarker: ``auto``, ``none`` or a task file, see ``faces.open_landmarker``.
        margin: Growth of a found box on each side, as a share of its side. Faces that are cut already are kept whole.
    """

    face: str = "auto"
    size: int = 224
    quality: int = 90
    max_frames: int = 64
    landmarker: str = "auto"
    margin: float = CROP_MARGIN

    def __post_init__(self) -> None:
        check_range(self, "size", least=16, most=2048)
        check_range(self, "quality", least=1, most=100)
        check_range(self, "max_frames", least=0)
        check_range(self, "margin", above=-0.4, below=4)


def resolve(config: PrepareConfig, release: Release) -> tuple[PrepareConfig, str]:
    """The settings with the detector and landmarker that are really used, and their key.

    Raises:
        ConfigError, BackendError, ManifestError: The detector is unknown or its file not usable.
    """
    face = "cropped" if config.face == "auto" and release.media_kind == "faces" else config.face
    detector = build_detector(face)
    if face.lower().endswith(".csv"):
        face = str(Path(face).absolute())  # another process may work in another folder
    elif face == "auto":
        face = detector.name
    # The whole-frame box is one that grows to the whole picture by the usual margin.
    margin = CROP_MARGIN if face == "cropped" else config.margin
    landmarker = open_landmarker(config.landmarker)
    key, path = front_end_key(detector), "none"
    if landmarker is not None:
        key, path = f"{key} {landmarker.key}", str(landmarker.path.absolute())
        landmarker.close()
    return replace(config, face=face, margin=margin, landmarker=path), key


def settings_of(config: PrepareConfig, front_end: str) -> dict[str, Any]:
    """What the bytes of a store depend on, as JSON; without any path."""
    return {
        "format": FORMAT,
        "face": front_end,
        "size": config.size,
        "quality": config.quality,
        "frames": config.max_frames,
        "margin": config.margin,
    }
