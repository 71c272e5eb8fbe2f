"""Other tools in place of parts of the front end: another tool's action units, another classifier as the guide of captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float

from dferkit.errors import ConfigError
from dferkit.labels import BASIC
from dferkit.readings.class_tables import ClassTables
from dferkit.readings.onnx_frames import OnnxFrames
from dferkit.readings.unit_tables import UnitCurves, UnitTables
from dferkit.schema import ActionUnits, CoarsePrediction, FaceClip


class Guide(Protocol):
    """A classifier whose most probable classes guide captions."""

    @property
    def name(self) -> str:
        """Its name in outputs."""

    def for_video(
        self, video: str, frame_seconds: Float[np.ndarray, " frames"]
    ) -> Callable[[FaceClip], CoarsePrediction]:
        """Guides of one video's clips."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExternalReadings:
    """What other tools measured in one video; None where dferkit's own part is used."""

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
        """Which tools were used, for the row of an answer; empty for none."""
        used = []
        if self.curves is not None:
            lacking = f" (not measured there: {', '.join(self.curves.missing)})" if self.curves.missing else ""
            used.append(f"action units from {self.curves.source}{lacking}")
        if self.guide_clip is not None:
            used.append(f"caption guided by {self.guide_name}")
        return ", ".join(used)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExternalTools:
    """Other tools that take the place of parts of the front end; None: dferkit's own part.

    Attributes:
        units: In place of the describer of action units. guide: In place of the coarse classifier.
    """

    units: UnitTables | None = None
    guide: Guide | None = None

    def read(self, video: Path | str, frame_seconds: Float[np.ndarray, " frames"]) -> ExternalReadings:
        """What they measured in a video.

        Raises:
            ManifestError: A table has nothing for this video, or cannot be used.
        """
        units, guide = self.units, self.guide
        return ExternalReadings(
            curves=None if units is None else units.for_video(str(video), frame_seconds),
            guide_clip=None if guide is None else guide.for_video(str(video), frame_seconds),
            guide_name="" if guide is None else guide.name,
        )

    @property
    def names(self) -> dict[str, str]:
        """Name of each tool, by the part that it replaces: ``action_units_from``, ``guide_from``."""
        parts = {"action_units_from": self.units, "guide_from": self.guide}
        return {part: tool.name for part, tool in parts.items() if tool is not None}


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
    """Another tool's classifier: a CSV table, a folder of tables, or an ONNX model with its class names.

    Args:
        videos: The videos that it will classify; a table must have rows of its own for each.

    Raises:
        ConfigError: Neither, class names missing for a model or given for a table; and as the two classes raise.
    """
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        if class_names is None:
            raise ConfigError(
                f"{path.name} has no class names; give a file of its class names, one per line, in the model's order"
            )
        return OnnxFrames(path, class_names, labels=labels)
    if class_names is not None:
        raise ConfigError(f"{path.name} names its classes in its header; class names are for an ONNX model")
    if not path.is_dir() and path.suffix.lower() != ".csv":
        raise ConfigError(
            f"{path.name} is not a classifier that can be read; give a .csv table, a folder of them, or an .onnx model"
        )
    tables = ClassTables(path, labels=labels)
    tables.tables.check_videos(videos)
    return tables
