"""Pictures of faces as a report may show them."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from dferkit.errors import ConfigError, DataError
from dferkit.explain import OUTSIDE, REGIONS

FACES = ("show", "blur", "boxes")


def check_faces(faces: str) -> None:
    """Refuse an unknown way to show faces.

    Raises:
        ConfigError: Not one of ``FACES``.
    """
    if faces not in FACES:
        raise ConfigError(f"faces is {faces!r}; choose {', '.join(FACES)}")


def shown_face(
    image: UInt8[np.ndarray, "height width 3"], faces: str, regions: Sequence[Sequence[str]]
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture itself (``show``), pixelated beyond recognition (``blur``), or a drawing of the regions without any pixel of it (``boxes``)."""
    if faces == "show":
        return image
    height, width = image.shape[:2]
    if faces == "blur":
        # Seven cells across a face are too few to recognise a person; smoothing alone could be undone.
        tiny = cv2.resize(image, (7, 7), interpolation=cv2.INTER_AREA)
        return cv2.resize(tiny, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    shades = {name: 235 - 18 * i for i, name in enumerate(REGIONS)} | {OUTSIDE: 90}
    cells = np.array([[shades.get(name, 160) for name in row] for row in regions], np.uint8)
    plain = cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.repeat(plain[..., None], 3, axis=2)


def image_uri(image: UInt8[np.ndarray, "height width 3"], *, quality: int = 80) -> str:
    """A JPEG as a data address."""
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise DataError("a picture could not be written as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
