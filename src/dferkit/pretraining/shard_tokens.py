"""Rendered training faces → tokens, action units and known places of every front end of the box."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from dferkit.encoders.box import TUBELET, BoxEncoder
from dferkit.encoders.combined import mix_units
from dferkit.encoders.face_shape import outlines
from dferkit.encoders.landmarks import DRAWN_GRID, LandmarkEncoder, points_on_crop
from dferkit.facs import AU_NAMES
from dferkit.labels import BASIC
from dferkit.pretraining.face_shards import FaceShard
from dferkit.pretraining.landmarks import predict_shapes, shape_set
from dferkit.pretraining.video import predict_clips
from dferkit.schema import Record
from dferkit.tokens.dataset import TokenDataset

_FPS = 8.0
_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontEndClips:
    """What one front end says of rendered clips.

    Attributes:
        clips: Tokens, summaries and action units. heat: (clips, AUs, tokens of a step) how far a unit moves what a token sees.
        rows: Which clips of the shard these are; a landmarker does not see every face.
    """

    clips: TokenDataset
    heat: np.ndarray
    rows: np.ndarray


def encode_pixels(data: FaceShard, box: BoxEncoder) -> FrontEndClips:
    """As ``BoxEncoder.read`` would give it for the crops in use."""
    visual, summary, units = [], [], []
    for first in range(0, len(data.label), _AT_ONCE):
        output = predict_clips(box.net, data.crops[first : first + _AT_ONCE])
        visual.append(_steps(output.tokens))
        summary.append(_steps(output.hidden))
        units.append(output.action_units.clamp(0, 1))
    heat = data.heat.reshape(*data.heat.shape[:2], -1).astype(np.float32)
    clips = _clip_set(data, torch.cat(visual), torch.cat(summary), torch.cat(units).numpy(), box.grid, box.areas)
    return FrontEndClips(clips=clips, heat=heat, rows=np.arange(len(data.label)))


def encode_landmarks(data: FaceShard, encoder: LandmarkEncoder) -> FrontEndClips:
    """As ``LandmarkEncoder.read`` would give it, for the clips in which the landmarker saw a face."""
    shapes, rows = shape_set(data, encoder.template)
    output = predict_shapes(encoder.net, shapes, np.arange(len(rows)))
    seen = data.take(rows)
    units = output.action_units.clamp(0, 1).numpy()
    clips = _clip_set(seen, _steps(output.tokens), _steps(output.hidden), units, encoder.grid, encoder.areas)
    return FrontEndClips(clips=clips, heat=_area_heat(seen, encoder), rows=rows)


def combine(pixels: FrontEndClips, landmarks: FrontEndClips, pixel_share: np.ndarray) -> FrontEndClips:
    """Both side by side, as ``CombinedEncoder.read`` would give it, for the clips that both have."""
    a, b = pixels.clips.take(landmarks.rows), landmarks.clips
    assert a.summary is not None
    assert b.summary is not None
    clips = replace(
        b,
        visual=torch.cat([a.visual_in_memory(), b.visual_in_memory()], 2),
        summary=torch.cat([a.summary, b.summary], 2),
        units=mix_units(a.units, b.units, pixel_share),
        grid=a.grid,
    )
    heat = np.concatenate([pixels.heat[landmarks.rows], landmarks.heat], 2)
    return FrontEndClips(clips=clips, heat=heat, rows=landmarks.rows)


def _steps(values: Tensor) -> Tensor:
    return reduce(values, "b (t k) ... -> b t ...", "mean", k=TUBELET).half()


def _clip_set(
    data: FaceShard, visual: Tensor, summary: Tensor, units: np.ndarray, grid: tuple[int, int], areas: tuple[str, ...]
) -> TokenDataset:
    records = tuple(
        Record(clip_id=str(i), video=Path(), label=BASIC[label], subject=str(subject))
        for i, (label, subject) in enumerate(zip(data.label, data.subject, strict=True))
    )
    return TokenDataset(
        records=records,
        labels=BASIC,
        target=data.label.astype(np.int64),
        groups=data.subject.astype(str),
        visual=visual,
        summary=summary,
        units=units.astype(np.float32),
        timestamps=np.tile(np.arange(data.au.shape[1]) / _FPS, (len(data.label), 1)),
        view=np.zeros(len(data.label), np.int64),
        au_names=AU_NAMES,
        grid=grid,
        areas=areas,
        describer="box",
    )


def _area_heat(data: FaceShard, encoder: LandmarkEncoder) -> Float[np.ndarray, "clips aus areas"]:
    """How far each action unit moves the cells under each area, largest area 1."""
    heat = np.empty((len(data.label), data.heat.shape[1], len(encoder.areas)), np.float32)
    for i in range(len(data.label)):
        places = points_on_crop(data.landmarks[i], data.boxes[i])[::5]
        covered = outlines(places, encoder.net.config.members, DRAWN_GRID).mean(0)
        heat[i] = data.heat[i].reshape(data.heat.shape[1], -1).astype(np.float32) @ covered.T
    return heat / np.maximum(heat.max(2, keepdims=True), 1e-9)
