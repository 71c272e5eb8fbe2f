"""The landmark network of the bundled model as a frozen encoder: tokens of face areas and action units of clips that a landmarker measured."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from dferkit.encoders.attribution import Trace, TraceInput
from dferkit.encoders.box import BOX_FOLDER, NUM_FRAMES, TUBELET, per_step
from dferkit.encoders.box_net import BoxOutput
from dferkit.encoders.face_shape import AREA_NAMES, HeadShape, head_shape, outlines, to_frame
from dferkit.encoders.landmark_net import LandmarkNet, LandmarkNetConfig
from dferkit.encoders.network_files import load_network
from dferkit.encoders.protocols import EncoderReading, LandmarkReader
from dferkit.errors import DataError
from dferkit.faces import CROP_MARGIN, nearest_found
from dferkit.schema import ActionUnits, FaceClip, VisualTokens
from dferkit.storage import digest_file, from_json

WEIGHTS = "landmarks.safetensors"
DRAWN_GRID = (8, 8)  # cells of a face crop that areas are drawn on


class LandmarkEncoder(LandmarkReader):
    """Frozen landmark network of the bundled model.

    Attributes:
        neutral: (478, 3) the person's neutral face in head coordinates, where the user gave one; with None, movement is measured from each clip's own mean.
    """

    name = "landmarks"
    grid = (0, 0)
    areas = AREA_NAMES
    needs_landmarks = True
    joint_space = "joint-landmarks.safetensors"
    device = "cpu"

    def __init__(self, folder: Path | str = BOX_FOLDER) -> None:
        """Load the weights.

        Raises:
            CheckpointError: A file is missing, damaged or of another network.
        """
        path = Path(folder) / WEIGHTS
        self.net = load_network(lambda settings: LandmarkNet(from_json(LandmarkNetConfig, settings)), path)
        self.digest = digest_file(path)
        self.neutral: np.ndarray | None = None
        self.au_names, self.num_frames = self.net.config.au_names, NUM_FRAMES // TUBELET
        self.dim, self.summary_dim = self.net.config.width, self.net.config.hidden

    def to(self, device: str) -> LandmarkEncoder:
        """``VisualEncoder.to``."""
        self.net, self.device = self.net.to(device), device
        return self

    @property
    def template(self) -> Float[np.ndarray, "points 3"]:
        """The mean face that clips are aligned to."""
        return self.net.template.cpu().numpy()

    def with_neutral(self, neutral: Float[np.ndarray, "points 3"] | None) -> LandmarkEncoder:
        """The same network, with movement measured from a known neutral face."""
        other = copy.copy(self)
        other.neutral = neutral
        return other

    @torch.inference_mode()
    def read(self, clips: Sequence[FaceClip]) -> list[EncoderReading]:
        """Tokens and action units of each clip.

        Raises:
            DataError: A clip has no landmarks, or the landmarker found no face in it.
        """
        return [self._read(clip) for clip in clips]

    def shape(self, clip: FaceClip) -> HeadShape:
        """The clip in head coordinates.

        Raises:
            DataError: It has no landmarks.
        """
        return head_shape(landmarks_of(clip), self.template)

    def hold_still(self, clip: FaceClip, keep: Bool[np.ndarray, "steps rows columns"]) -> FaceClip:
        """The clip with the landmarks in cells marked False held at the clip's mean face; the head still moves.

        Args:
            keep: Cells over time and the face crop; a step spans frames / steps frames.
        """
        shape = self.shape(clip)
        kept = keep[_cells_of(clip, keep.shape)]
        still = np.where(kept[..., None], shape.points, shape.points.mean(0))
        assert clip.geometry is not None
        return replace(clip, geometry=replace(clip.geometry, landmarks=to_frame(still, shape, self.template)))

    def trace(self, clip: FaceClip) -> Trace:
        """The same tokens with their gradient path to the landmarks, each in its cell.

        Raises:
            DataError: The clip has no landmarks, or the landmarker found no face in it.
        """
        shape, cells = self.shape(clip), (self.num_frames, *DRAWN_GRID)

        def to_cells(lost: torch.Tensor) -> np.ndarray:
            total = np.zeros(cells)
            np.add.at(total, _cells_of(clip, cells), lost.double().sum(-1).numpy())
            return total

        return Trace(
            forward=lambda read: per_step(self._forward(read[0][None], shape), 0),
            inputs=(TraceInput(values=torch.from_numpy(shape.points), to_cells=to_cells),),
        )

    def _forward(self, points: torch.Tensor, shape: HeadShape) -> BoxOutput:
        neutral = torch.zeros_like(points[:, 0]) if self.neutral is None else torch.from_numpy(self.neutral)[None]
        known = torch.tensor([self.neutral is not None])
        read = (points, torch.from_numpy(shape.turn)[None], neutral.float(), known)
        output: BoxOutput = self.net(*(part.to(self.device) for part in read))
        return output.cpu()

    def _read(self, clip: FaceClip) -> EncoderReading:
        shape = self.shape(clip)
        output = self._forward(torch.from_numpy(shape.points)[None], shape)
        values, summary = per_step(output, 0)
        covered = outlines(points_on_crop(landmarks_of(clip), clip.track.boxes), self.net.config.members, DRAWN_GRID)
        tokens = VisualTokens(
            values=values,
            summary=summary,
            grid=self.grid,
            timestamps=clip.timestamps.reshape(-1, TUBELET).mean(1),
            encoder=self.name,
            areas=self.areas,
            coverage=covered.reshape(-1, TUBELET, *covered.shape[1:]).mean(1),
        )
        units = ActionUnits(
            names=self.au_names,
            intensity=output.action_units[0].clamp(0, 1).numpy().astype(np.float32),
            timestamps=clip.timestamps,
            source=self.name,
        )
        return EncoderReading(tokens=tokens, action_units=units)


def _cells_of(clip: FaceClip, cells: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Step, row and column of the cell of each landmark, for each frame; ``cells``: steps, rows, columns."""
    points, frames = points_on_crop(landmarks_of(clip), clip.track.boxes), len(clip.timestamps)
    steps, rows, columns = cells
    step = np.minimum(np.arange(frames) * steps // frames, steps - 1)
    row, column = (
        np.clip((points[..., axis] * count).astype(int), 0, count - 1) for axis, count in ((1, rows), (0, columns))
    )
    return step[:, None], row, column


Landmarks = Float[np.ndarray, "frames points 3"]


def landmarks_of(clip: FaceClip) -> Landmarks:
    """Landmarks of a clip, NaN in frames where the landmarker found no face.

    Raises:
        DataError: The clip has none.
    """
    return require_landmarks(None if clip.geometry is None else clip.geometry.landmarks)


def require_landmarks(landmarks: Landmarks | None) -> Landmarks:
    """The landmarks, where there are any.

    Raises:
        DataError: There are none.
    """
    if landmarks is None:
        raise DataError(
            "this clip has no landmarks, and the model reads them; give --landmarker FILE, or prepare the faces again with it"
        )
    return landmarks


def seen_share(clip: FaceClip) -> float:
    """Share of the frames in which the landmarker found the face, 0 to 1; 0 for a clip without landmarks."""
    if clip.geometry is None or clip.geometry.landmarks is None:
        return 0.0
    return share_seen(clip.geometry.landmarks)


def share_seen(landmarks: Landmarks) -> float:
    """Share of the frames with landmarks, 0 to 1."""
    return float(np.isfinite(landmarks[:, 0, 0]).mean())


def points_on_crop(
    landmarks: Float[np.ndarray, "frames points 3"], boxes: Float[np.ndarray, "frames 4"]
) -> Float[np.ndarray, "frames points 2"]:
    """Landmarks as shares of the face crop's side; frames without landmarks repeat the nearest one that has them.

    Raises:
        DataError: No frame has landmarks.
    """
    seen = np.isfinite(landmarks[:, 0, 0]) & np.isfinite(boxes[:, 0])
    if not seen.any():
        raise DataError("the landmarker found no face in any frame of this clip")
    nearest = nearest_found(seen)
    box = boxes[nearest]
    side = box[:, 2:].max(1, keepdims=True) * (1 + 2 * CROP_MARGIN)
    corner = box[:, :2] + box[:, 2:] / 2 - side / 2
    return (landmarks[nearest, :, :2] - corner[:, None]) / side[:, None]
