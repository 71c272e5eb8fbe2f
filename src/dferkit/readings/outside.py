"""What stands in for parts of our own front end while a video is read: another tool's action units, another classifier's guide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float

from dferkit.errors import ConfigError
from dferkit.labels import BASIC
from dferkit.readings.class_tables import ClassTables
from dferkit.readings.onnx_frames import OnnxFrames
from dferkit.readings.unit_tables import UnitCurves, UnitTables
from dferkit.schema import ActionUnits, CoarsePrediction, FaceClip, Prediction


class Guide(Protocol):
    """A classifier whose most probable classes guide captions."""

    @property
    def name(self) -> str:
        """What outputs call it."""

    def for_video(
        self, video: str, frame_seconds: Float[np.ndarray, " frames"]
    ) -> Callable[[FaceClip], CoarsePrediction]:
        """Guides of one video's clips."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outside:
    """What other tools say of one video; None: our own front end does it."""

    curves: UnitCurves | None = None
    guide_clip: Callable[[FaceClip], CoarsePrediction] | None = None
    guide_name: str = ""

    def units(self, clip: FaceClip, own: ActionUnits) -> ActionUnits:
        """Action units at the times of the clip's frames.

        Raises:
            DataError: The table has no usable row near the clip.
        """
        return own if self.curves is None else self.curves.at(clip.timestamps)

    def guide(self, clip: FaceClip) -> CoarsePrediction | None:
        """The classifier's answer for the clip.

        Raises:
            DataError: It has none.
        """
        return None if self.guide_clip is None else self.guide_clip(clip)

    @property
    def note(self) -> str:
        """What an answer's row says of it; empty where nothing stands in."""
        said = []
        if self.curves is not None:
            lacking = f" (not measured there: {', '.join(self.curves.missing)})" if self.curves.missing else ""
            said.append(f"action units from {self.curves.source}{lacking}")
        if self.guide_clip is not None:
            said.append(f"caption guided by {self.guide_name}")
        return ", ".join(said)

    def mark(self, prediction: Prediction) -> Prediction:
        """The prediction with the note in its message."""
        return replace(prediction, message=". ".join(text for text in (prediction.message, self.note) if text))


NOTHING = Outside()


def read_outside(
    video: Path | str,
    frame_seconds: Float[np.ndarray, " frames"],
    *,
    units_from: UnitTables | None = None,
    guide_from: Guide | None = None,
) -> Outside:
    """What other tools say of a video.

    Raises:
        ManifestError: A table has nothing for this video, or cannot be used.
    """
    if units_from is None and guide_from is None:
        return NOTHING
    return Outside(
        curves=None if units_from is None else units_from.for_video(str(video), frame_seconds),
        guide_clip=None if guide_from is None else guide_from.for_video(str(video), frame_seconds),
        guide_name="" if guide_from is None else guide_from.name,
    )


def open_units(path: Path | str, videos: Sequence[str]) -> UnitTables:
    """Tables of action units for these videos.

    Raises:
        ManifestError, ConfigError: As ``UnitTables`` and ``VideoTables.check_videos``.
    """
    units = UnitTables(path)
    units.tables.check_videos(videos)
    return units


def open_classifier(
    path: Path | str,
    class_names: Path | str | None = None,
    *,
    labels: tuple[str, ...] = BASIC,
    videos: Sequence[str] = (),
) -> ClassTables | OnnxFrames:
    """An outside classifier: a CSV table, a folder of tables, or an ONNX model with its class names.

    Args:
        videos: Those it will be asked for; a table is checked to tell them apart.

    Raises:
        ConfigError: Neither, class names missing for a model or given for a table; and as the two classes raise.
    """
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        if class_names is None:
            raise ConfigError(
                f"{path.name} does not say what its values mean; give a file of its class names, one per line, in the model's order"
            )
        return OnnxFrames(path, class_names, labels=labels)
    if class_names is not None:
        raise ConfigError(f"{path.name} names its classes in its header; class names are for an ONNX model")
    if not path.is_dir() and path.suffix.lower() != ".csv":
        raise ConfigError(
            f"{path.name} is no outside classifier; give a .csv table, a folder of them, or an .onnx model"
        )
    tables = ClassTables(path, labels=labels)
    tables.tables.check_videos(videos)
    return tables
