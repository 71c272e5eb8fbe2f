"""What is read of a face, one choice for every verb: pixels, landmarks or both."""

from __future__ import annotations

from pathlib import Path

from dferkit.encoders.open import ENCODERS
from dferkit.errors import BackendError, ConfigError
from dferkit.faces import landmarker_file, open_landmarker
from dferkit.labels import nearest_name

# Front end → the encoder of the bundled model that reads it.
FRONT_ENDS = {"pixels": "box", "landmarks": "landmarks", "both": "box+landmarks"}
CHOICES = ("auto", *FRONT_ENDS)


def front_end_of(encoder: str) -> str:
    """Front end of an encoder, for tables: of a foreign backbone its name."""
    return next((front_end for front_end, spec in FRONT_ENDS.items() if spec == encoder), encoder)


def choose_encoder(
    front_end: str | None = None,
    encoder: str | None = None,
    *,
    landmarker: str = "auto",
    has_landmarks: bool | None = None,
) -> str:
    """The visual encoder that ``--front-end`` and ``--encoder`` ask for, as ``encoders.open`` names it.

    Args:
        front_end: ``auto`` (the default): landmarks where a landmarker can be used, else pixels. encoder: A foreign backbone, in its place.
        has_landmarks: Of faces that are stored already: whether landmarks are stored with them. None for videos.

    Raises:
        ConfigError: Both are given, or an unknown front end. BackendError: Landmarks are asked for and cannot be read.
    """
    if encoder is not None:
        if front_end not in (None, "auto"):
            raise ConfigError(f"--front-end {front_end} and --encoder {encoder} exclude each other; give one of them")
        return encoder
    name = front_end or "auto"
    if name not in CHOICES:
        raise ConfigError(
            f"unknown front end {name!r}; did you mean {nearest_name(name, CHOICES)!r}? Known: {', '.join(CHOICES)}"
        )
    if name == "auto":
        usable = can_read_landmarks(landmarker) if has_landmarks is None else has_landmarks
        return FRONT_ENDS["landmarks" if usable else "pixels"]
    if ENCODERS[FRONT_ENDS[name]].needs_landmarks:
        if has_landmarks is None:
            landmarker_file(landmarker)
        elif not has_landmarks:
            raise BackendError(
                f"--front-end {name}: these faces are stored without landmarks; run dferkit prepare again with --front-end {name}"
            )
    return FRONT_ENDS[name]


def can_read_landmarks(landmarker: str = "auto") -> bool:
    """A landmarker is there and can be opened."""
    found = open_landmarker(landmarker)
    if found is None:
        return False
    found.close()
    return True


def joint_space_file(encoder: str, box: Path | str) -> Path | None:
    """Trained joint space of an encoder's tokens and the bundled text encoder; None where there is none."""
    name = getattr(ENCODERS.get(encoder), "joint_space", None)
    return None if name is None else Path(box) / name
