"""Training of the landmark network on landmarks that the landmarker found in rendered faces, its errors included."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dferkit.encoders.box_net import BoxOutput
from dferkit.encoders.face_shape import fit_template, head_shape, members, mirror_order
from dferkit.encoders.landmark_net import LandmarkNet, LandmarkNetConfig
from dferkit.pretraining.loop import Progress
from dferkit.pretraining.network import (
    NetworkBatch,
    NetworkTask,
    NetworkTrainingConfig,
    chosen_clips,
    join_outputs,
    score_network,
    train_network,
)
from dferkit.pretraining.rendered_faces import RenderedFaces

LANDMARK_TRAINING = NetworkTrainingConfig(
    steps=3000, cycles=((3000, 2e-3),), batch=64, weight_decay=0.2, use_bfloat16=False, average_decay=0.995
)
_RESTING = 0.15  # a frame whose action units add up to less shows the resting face
_NUM_COMPONENTS = 60
_OFFSET = 0.7  # standard deviations of the spread between people that a clip's resting face is moved by
_NOISE = 0.15  # of the spread of movements
_SHARE_NEUTRAL = 0.35
_GAIN = (0.75, 1.35)
_LEAST_VARIANCE = 1e-6
_MIRROR = np.diag((-1.0, 1.0, 1.0)).astype(np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapeSet:
    """Clips in head coordinates.

    Attributes:
        points: float32 (clips, frames, 478, 3). turn: (clips, frames, 3, 3) rotations. rest: (clips, 478, 3) mean of the frames with a
            resting face, NaN where there are none.
    """

    points: np.ndarray
    turn: np.ndarray
    rest: np.ndarray


def shape_set(data: RenderedFaces, template: np.ndarray) -> tuple[ShapeSet, np.ndarray]:
    """Clips with landmarks in head coordinates, and their numbers."""
    measured = np.flatnonzero(np.isfinite(data.landmarks[..., 0, 0]).any(1))
    points = np.empty((len(measured), *data.landmarks.shape[1:]), np.float32)
    turn = np.empty((*points.shape[:2], 3, 3), np.float32)
    rest = np.full((len(measured), *points.shape[2:]), np.nan, np.float32)
    for row, clip in enumerate(measured):
        shape = head_shape(data.landmarks[clip], template)
        points[row], turn[row] = shape.points, shape.turn
        is_resting = data.au[clip].astype(np.float32).sum(1) < _RESTING
        if is_resting.sum() >= 2:
            rest[row] = shape.points[is_resting].mean(0)
    return ShapeSet(points=points, turn=turn, rest=rest), measured


def new_network(data: RenderedFaces, train: np.ndarray) -> LandmarkNet:
    """An untrained network with the template and the spreads of the training faces."""
    some = train[:: max(len(train) // 2000, 1)]
    template = fit_template(data.landmarks[some, ::5].reshape(-1, *data.landmarks.shape[2:]))
    net = LandmarkNet(LandmarkNetConfig(members=members(template)))
    shapes, _ = shape_set(data.take(some), template)
    net.template.copy_(torch.from_numpy(template))
    change = shapes.points - shapes.points.mean(1, keepdims=True)
    for number, area in enumerate(net.config.members):
        for basis, values in ((net.own, shapes.points - template), (net.change, change)):
            of_area = values[:, ::3, list(area)].reshape(-1, 3 * len(area))
            found = _whitening(of_area, basis.shape[1])
            columns = (3 * np.array(area)[:, None] + np.arange(3)).ravel()
            basis[number, : len(found), columns] = torch.from_numpy(found)
    return net


def _whitening(values: np.ndarray, count: int) -> Float[np.ndarray, "components values"]:
    """Projections onto the first principal components, each scaled to unit spread. ``values``: (samples, values)."""
    variance, directions = np.linalg.eigh(np.cov(values, rowvar=False))
    strongest = np.argsort(-variance)[:count]
    spread = np.sqrt(np.maximum(variance[strongest], _LEAST_VARIANCE))
    return np.ascontiguousarray((directions[:, strongest] / spread).T, np.float32)


def components(points: np.ndarray) -> np.ndarray:
    """(60, 478 · 3) directions in which people's mean shapes differ, as long as their standard deviation."""
    own = points.mean(1).reshape(len(points), -1)
    _, size, directions = np.linalg.svd(own - own.mean(0), full_matrices=False)
    kept = min(_NUM_COMPONENTS, len(size))
    return (directions[:kept] * (size[:kept, None] / np.sqrt(len(points)))).astype(np.float32)


@torch.inference_mode()
def predict_shapes(net: LandmarkNet, shapes: ShapeSet, clips: np.ndarray, *, batch: int = 128) -> BoxOutput:
    """The network's output for the clips of these numbers, with each clip's own mean as zero."""
    device, parts = net.eval().template.device, []
    for first in range(0, len(clips), batch):
        chosen = clips[first : first + batch]
        points, turn = (torch.from_numpy(values[chosen]).to(device) for values in (shapes.points, shapes.turn))
        unknown = torch.zeros(len(chosen), dtype=torch.bool, device=device)
        parts.append(net(points, turn, torch.zeros_like(points[:, 0]), unknown))
    return join_outputs(parts)


def pretrain_landmarks(
    data: RenderedFaces,
    folder: Path | str,
    config: NetworkTrainingConfig = LANDMARK_TRAINING,
    *,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> LandmarkNet:
    """Train on the clips in which the landmarker found a face; resumes as ``train_network`` does.

    Returns:
        The network with averaged weights, on the CPU and in evaluation mode.
    """
    torch.manual_seed(config.seed)
    start = new_network(data, data.split_subjects()[0])
    shapes, measured = shape_set(data, start.template.numpy())
    data = data.take(measured)
    train, held = data.split_subjects()
    tested = data.take(held)
    task = NetworkTask(
        build=lambda: LandmarkNet(start.config),
        batch=_Batches(data, shapes, train, config, start.template.numpy()).make,
        score=lambda net: score_network(predict_shapes(net, shapes, held), tested),
        start=start,
    )
    return train_network(task, folder, config, device=device, on_progress=on_progress)


class _Batches:
    """Clips of a step, augmented: mirrored, with another resting face, larger or smaller movements and noise; some with a known neutral face."""

    def __init__(
        self,
        data: RenderedFaces,
        shapes: ShapeSet,
        train: np.ndarray,
        config: NetworkTrainingConfig,
        template: np.ndarray,
    ) -> None:
        self.data, self.shapes, self.train, self.config = data, shapes, train, config
        self.offsets = components(shapes.points[train])
        self.order = mirror_order(template)
        self.movement = (shapes.points[train] - shapes.points[train].mean(1, keepdims=True)).std((0, 1))
        has_rest = np.isfinite(shapes.rest[:, 0, 0])
        self.rest_of = {
            person: np.flatnonzero(has_rest & (data.subject == person)) for person in np.unique(data.subject[train])
        }

    def make(self, step: int) -> NetworkBatch:
        chosen = chosen_clips(self.train, self.config, step)
        rng = np.random.default_rng([self.config.seed, 1, step])
        points, turn = self.shapes.points[chosen].copy(), self.shapes.turn[chosen].copy()
        neutral, known = self._neutral(chosen, rng)
        points = self._vary(points, neutral, rng)
        if rng.random() < 0.5:
            points, neutral = points[:, :, self.order] * _MIRROR.diagonal(), neutral[:, self.order] * _MIRROR.diagonal()
            turn = _MIRROR @ turn @ _MIRROR
        inputs = (points, turn, neutral, known)
        return NetworkBatch(
            inputs=tuple(_tensor(value) for value in inputs),
            units=_tensor(self.data.au[chosen].astype(np.float32)),
            labels=torch.from_numpy(self.data.label[chosen]),
        )

    def _neutral(self, chosen: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """For some clips the resting face of the same person, mostly from another clip, and which clips these are."""
        neutral = np.zeros((len(chosen), *self.shapes.points.shape[2:]), np.float32)
        known = np.zeros(len(chosen), bool)
        for row, clip in enumerate(chosen):
            resting = self.rest_of[self.data.subject[clip]]
            if len(resting) and rng.random() < _SHARE_NEUTRAL:
                neutral[row], known[row] = self.shapes.rest[rng.choice(resting)], True
        return neutral, known

    def _vary(self, points: np.ndarray, neutral: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change movements and noise of the points, and the resting face of points and ``neutral`` alike (``neutral`` in place)."""
        own = points.mean(1, keepdims=True)
        gain = rng.uniform(*_GAIN, (len(points), 1, 1, 1)).astype(np.float32)
        rest = rng.standard_normal((len(points), len(self.offsets))).astype(np.float32) @ self.offsets
        rest = _OFFSET * rest.reshape(len(points), 1, *points.shape[2:])
        neutral += rest[:, 0]
        noise = rng.standard_normal(points.shape).astype(np.float32) * self.movement * _NOISE
        return own + (points - own) * gain + rest + noise


def _tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value))
