"""Names and folders of models → a model ready to use."""

from __future__ import annotations

import difflib
from pathlib import Path

from dferkit.encoders.box import BOX_FOLDER
from dferkit.errors import CheckpointError, ConfigError
from dferkit.faces import open_landmarker
from dferkit.models.checkpoint import load_checkpoint
from dferkit.models.shipped import NAMES, head_folder
from dferkit.pipeline.model import Model
from dferkit.pipeline.settings import ReadingSettings
from dferkit.readings import ExternalTools

WITH_LANDMARKS = "landmarks"  # the box's front end where there is a landmarker
WITH_GEOMETRY = ("landmarks", "box+landmarks")


def load(
    name: Path | str = "box",
    *,
    face: str = "auto",
    landmarker: Path | str = "auto",
    box: Path | str = BOX_FOLDER,
    settings: ReadingSettings | None = None,
    external: ExternalTools | None = None,
) -> Model:
    """A model ready to use: ``box`` (shipped with the package), or a checkpoint folder.

    The box has a head for every front end: with a landmarker it reads landmarks, and pixels where the landmarker sees no face; without, pixels.
    ``box-pixels``, ``box-landmarks`` and ``box-combined`` choose one.

    Args:
        face: Detector; ``auto`` takes the best that is there.
        landmarker: ``auto``: the file in DFERKIT_MODELS, where it and MediaPipe are there; ``none``; or a task file.
        settings: How videos are read where a call does not choose.
        external: Other tools in place of the describer of action units or of the coarse classifier.

    Raises:
        CheckpointError: No such model; the message names those there are. BackendError: The landmarker is not usable, or missing for a
            checkpoint that needs one.
    """
    found, landmarker = None, str(landmarker)
    if str(name) == "box":
        found = open_landmarker(landmarker)
        folder = head_folder(box, "box" if found is None else WITH_LANDMARKS)
    else:
        folder = head_folder(box, NAMES[str(name)]) if str(name) in NAMES else Path(name)
        if not folder.exists():
            near = difflib.get_close_matches(str(name), ["box", *NAMES], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise CheckpointError(f"no model {str(name)!r}: give 'box' or a checkpoint folder.{hint}")
    checkpoint = load_checkpoint(folder)
    reads_landmarks = str(checkpoint.about["encoder"]) in WITH_GEOMETRY
    if landmarker not in ("auto", "none") and not reads_landmarks:
        raise ConfigError(
            f"--landmarker {Path(landmarker).name}: this model reads pixels; leave it out, or give another checkpoint"
        )
    if found is None and reads_landmarks:
        found = open_landmarker(landmarker)
    return Model(
        checkpoint,
        box=box,
        face=face,
        landmarker=found,
        fallback=load_checkpoint(head_folder(box, "box")) if str(name) == "box" and found is not None else None,
        settings=settings,
        external=external,
    )
