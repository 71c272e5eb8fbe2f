"""What is read of a face: pixels, landmarks or both. One choice, ``--front-end``, for every verb.

``choose_front_end`` turns a name into a ``FrontEnd``: the encoder and, where it reads landmarks, the landmarker. ``choose_encoder`` also takes
``--encoder``, a foreign backbone in place of the front end. What an encoder offers is read from its attributes, never from its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.open import BUNDLED, with_full_path
from dferkit.errors import BackendError, ConfigError
from dferkit.faces import landmarker_file, open_landmarker
from dferkit.labels import check_name

FRONT_ENDS = {"pixels": "box", "landmarks": "landmarks", "both": "box+landmarks"}
"""Front end → its encoder in the bundled model."""
CHOICES = ("auto", *FRONT_ENDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontEnd:
    """A chosen front end.

    Attributes:
        name: ``pixels``, ``landmarks`` or ``both``. landmarker: Task file with which landmarks are read; None where none are, or where they are stored.
    """

    name: str
    landmarker: Path | None = None

    @property
    def encoder(self) -> str:
        """Its encoder, as ``encoders.open`` names it."""
        return FRONT_ENDS[self.name]


def choose_front_end(
    name: str | None = None, *, landmarker: str = "auto", has_landmarks: bool | None = None
) -> FrontEnd:
    """The front end of a name.

    Args:
        name: ``auto`` (the default) is landmarks where they can be read, else pixels. landmarker: ``auto``, ``none`` or a task file.
        has_landmarks: Of faces in a store: whether it holds their landmarks, then no landmarker is used. None for videos.

    Raises:
        ConfigError: An unknown front end. BackendError: Landmarks are requested and cannot be read.
    """
    name = name or "auto"
    check_name("front end", name, CHOICES)
    if has_landmarks is None and name == "auto":
        path = _usable_landmarker(landmarker)
        return FrontEnd(name="pixels" if path is None else "landmarks", landmarker=path)
    if name == "auto":
        return FrontEnd(name="landmarks" if has_landmarks else "pixels")
    if not BUNDLED[FRONT_ENDS[name]].needs_landmarks or has_landmarks:
        return FrontEnd(name=name)
    if has_landmarks is not None:
        raise BackendError(
            f"--front-end {name}: these faces are stored without landmarks; run dferkit prepare again with a landmarker"
        )
    if landmarker == "none":
        raise BackendError(f"--front-end {name} reads landmarks, but the landmarker is none; leave --landmarker out")
    return FrontEnd(name=name, landmarker=landmarker_file(landmarker))


def choose_encoder(
    front_end: str | None = None,
    encoder: str | None = None,
    *,
    landmarker: str = "auto",
    has_landmarks: bool | None = None,
) -> str:
    """The visual encoder that ``--front-end`` and ``--encoder`` choose, as ``encoders.open`` names it; a folder as a full path.

    Args:
        front_end, landmarker, has_landmarks: As in ``choose_front_end``. encoder: A foreign backbone in place of the front end.

    Raises:
        ConfigError: Both are given, a front end is unknown or given as an encoder. BackendError: Landmarks are requested and cannot be read.
    """
    if encoder is None:
        return choose_front_end(front_end, landmarker=landmarker, has_landmarks=has_landmarks).encoder
    if encoder in BUNDLED:
        raise ConfigError(
            f"--encoder {encoder} is the bundled model; give --front-end {front_end_of(encoder)} instead (--encoder is for other backbones)"
        )
    if front_end is not None:
        raise ConfigError(f"--front-end {front_end} and --encoder {encoder} exclude each other; give one of them")
    return with_full_path(encoder)


def _usable_landmarker(landmarker: str) -> Path | None:
    """The task file, where it and MediaPipe are there."""
    found = open_landmarker(landmarker)
    if found is None:
        return None
    with found:
        return found.path


def front_end_of(encoder: str) -> str:
    """Front end of an encoder, for tables: of a foreign backbone its name."""
    return next((front_end for front_end, spec in FRONT_ENDS.items() if spec == encoder), encoder)


def joint_space_file(encoder: str, box: Path | str = BOX_FOLDER) -> Path | None:
    """File of the trained joint space for an encoder's tokens and the bundled text encoder; None where there is none. Opens nothing."""
    name = BUNDLED[encoder].joint_space if encoder in BUNDLED else None
    return None if name is None else Path(box) / name
