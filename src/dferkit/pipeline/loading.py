"""Names and folders of models → a model ready to use."""

from __future__ import annotations

from pathlib import Path

from dferkit.devices import choose_device
from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.front_end import FRONT_ENDS, FrontEnd, choose_front_end
from dferkit.errors import CheckpointError, ConfigError
from dferkit.faces import FaceLandmarker
from dferkit.labels import near_name
from dferkit.models.checkpoint import Checkpoint, load_checkpoint
from dferkit.models.shipped import NAMES, head_folder
from dferkit.pipeline.model import Model
from dferkit.pipeline.settings import ReadingSettings
from dferkit.readings import ExternalTools

BOX = "box"


def load(
    name: Path | str = BOX,
    *,
    front_end: str | None = None,
    face: str = "auto",
    landmarker: Path | str = "auto",
    device: str = "auto",
    settings: ReadingSettings | None = None,
    external: ExternalTools | None = None,
) -> Model:
    """A model ready to use: the bundled model, called ``box``, or a checkpoint folder.

    Args:
        front_end: What the bundled model reads of a face: ``pixels``, ``landmarks`` or ``both``. By default (``auto``) landmarks where a
            landmarker can be used, and then pixels where it finds no face; pixels without a landmarker. A checkpoint has a front end of its own.
        face: Detector; ``auto`` takes the best one that is installed.
        landmarker: ``auto``: the file in DFERKIT_MODELS, where it and MediaPipe are there; ``none``; or a task file.
        device: ``auto`` (a GPU if torch finds one), ``cpu``, ``cuda`` or ``cuda:N``.
        settings: How videos are read where a call does not choose.
        external: Other tools in place of the describer of action units or of the coarse classifier.

    Raises:
        CheckpointError: No such model; the message has the known names. BackendError: Landmarks are needed and cannot be read.
        ConfigError: An unknown front end or device, another front end than the checkpoint's, or a landmarker for a model that reads pixels.
    """
    chosen_device = choose_device(device)
    checkpoint, landmarker_path = open_checkpoint(name, front_end, landmarker=str(landmarker))
    may_fall_back = str(name) == BOX and front_end in (None, "auto") and landmarker_path is not None
    return Model(
        checkpoint,
        face=face,
        landmarker=None if landmarker_path is None else FaceLandmarker(landmarker_path),
        fallback=load_checkpoint(head_folder(BOX_FOLDER, "pixels")) if may_fall_back else None,
        device=chosen_device,
        settings=settings,
        external=external,
    )


def open_checkpoint(
    name: Path | str = BOX,
    front_end: str | None = None,
    *,
    landmarker: str = "auto",
    has_landmarks: bool | None = None,
) -> tuple[Checkpoint, Path | None]:
    """A checkpoint, and the task file of the landmarker that it needs for videos (None where it needs none).

    Args:
        name: ``box`` with the head of a front end; ``box-pixels``, ``box-landmarks``, ``box-combined``; or a checkpoint folder.
        front_end, landmarker, has_landmarks: As in ``encoders.front_end.choose_front_end``.

    Raises:
        As ``load``.
    """
    if str(name) == BOX:
        chosen = choose_front_end(front_end, landmarker=landmarker, has_landmarks=has_landmarks)
        checkpoint = load_checkpoint(head_folder(BOX_FOLDER, chosen.name))
    else:
        checkpoint = load_checkpoint(_folder(str(name)))
        own = str(checkpoint.about["front_end"])
        if front_end not in (None, "auto", own):
            raise ConfigError(
                f"--front-end {front_end}: the checkpoint was trained on {own}; leave it out, or give another checkpoint"
            )
        known = own in FRONT_ENDS
        chosen = (
            choose_front_end(own, landmarker=landmarker, has_landmarks=has_landmarks) if known else FrontEnd(name=own)
        )
    if landmarker not in ("auto", "none") and chosen.landmarker is None:
        raise ConfigError(
            f"--landmarker {Path(landmarker).name}: this model reads {chosen.name}; leave it out, or give another front end or checkpoint"
        )
    return checkpoint, chosen.landmarker


def _folder(name: str) -> Path:
    folder = head_folder(BOX_FOLDER, NAMES[name]) if name in NAMES else Path(name)
    if folder.exists():
        return folder
    near = near_name(name, [BOX, *NAMES])
    guess = f" Did you mean {near!r}?" if near else ""
    raise CheckpointError(f"no model {name!r}: give {BOX!r} or a checkpoint folder.{guess}")
