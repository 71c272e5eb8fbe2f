"""Rendered training faces → tokens and action units of every front end, with the truth about their movements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import reduce
from jaxtyping import Float, Int
from torch import Tensor

from dferkit.encoders.box import TUBELET, BoxEncoder
from dferkit.encoders.box_net import BoxOutput
from dferkit.encoders.combined import CombinedEncoder, fit_pixel_share, mix_units, save_combined
from dferkit.encoders.face_shape import outlines
from dferkit.encoders.landmarks import DRAWN_GRID, LandmarkEncoder, points_on_crop
from dferkit.facs import AU_NAMES
from dferkit.labels import BASIC
from dferkit.pretraining.landmarks import predict_shapes, shape_set
from dferkit.pretraining.network import join_outputs
from dferkit.pretraining.rendered_faces import RenderedFaces
from dferkit.pretraining.video import predict_clips
from dferkit.schema import Record
from dferkit.tokens.dataset import TokenDataset

_FPS = 8.0
_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderedTokens:
    """Tokens of one front end for rendered clips, with the truth.

    Attributes:
        data: Tokens, summaries and predicted action units, with or without captions.
        true_units: float32 (clips, frames, AUs) true intensities.
        heat: (clips, AUs, patches) how far each action unit moves the skin under each visual token of a time step; the largest is 1.
        rows: Numbers of these clips in the shard; clips without landmarks are missing where the front end reads landmarks.
    """

    data: TokenDataset
    true_units: Float[np.ndarray, "clips frames aus"]
    heat: Float[np.ndarray, "clips aus patches"]
    rows: Int[np.ndarray, " clips"]

    def take(self, chosen: Int[np.ndarray, " some"]) -> RenderedTokens:
        """Some clips."""
        return RenderedTokens(
            data=self.data.take(chosen),
            true_units=self.true_units[chosen],
            heat=self.heat[chosen],
            rows=self.rows[chosen],
        )


def encode_front_ends(
    data: RenderedFaces, box: Path, *, fit_mixture: bool = False, device: str = "cpu"
) -> dict[str, RenderedTokens]:
    """Tokens of every front end, by encoder name.

    Args:
        fit_mixture: Choose on these clips how the action units of both networks are mixed, and write the choice into ``box``.
    """
    pixels = encode_pixels(data, BoxEncoder(box), device=device)
    landmarks = encode_landmarks(data, LandmarkEncoder(box), device=device)
    if fit_mixture:
        sides = (pixels.data.units[landmarks.rows], landmarks.data.units, landmarks.true_units)
        seen, measured, truth = (side.reshape(-1, side.shape[-1]) for side in sides)
        save_combined(fit_pixel_share(seen, measured, truth), box)
    both = combine(pixels, landmarks, CombinedEncoder(box))
    return {tokens.data.encoder: tokens for tokens in (pixels, landmarks, both)}


def encode_pixels(data: RenderedFaces, box: BoxEncoder, *, device: str = "cpu") -> RenderedTokens:
    """The tokens and action units that ``BoxEncoder.read`` gives for the crops in use."""
    net = box.net.to(device)
    parts = [predict_clips(net, data.crops[i : i + _AT_ONCE]) for i in range(0, len(data), _AT_ONCE)]
    heat = data.heat.reshape(*data.heat.shape[:2], -1).astype(np.float32)
    return _rendered_tokens(data, np.arange(len(data)), join_outputs(parts), heat, box)


def encode_landmarks(data: RenderedFaces, encoder: LandmarkEncoder, *, device: str = "cpu") -> RenderedTokens:
    """The tokens and action units that ``LandmarkEncoder.read`` gives, for the clips in which the landmarker found a face."""
    shapes, rows = shape_set(data, encoder.template)
    output = predict_shapes(encoder.net.to(device), shapes, np.arange(len(rows)))
    measured = data.take(rows)
    return _rendered_tokens(measured, rows, output, _area_heat(measured, encoder), encoder)


def combine(pixels: RenderedTokens, landmarks: RenderedTokens, encoder: CombinedEncoder) -> RenderedTokens:
    """The tokens and action units that ``CombinedEncoder.read`` gives, for the clips that both have."""
    pixels = pixels.take(landmarks.rows)
    a, b = pixels.data, landmarks.data
    assert a.summary is not None
    assert b.summary is not None
    data = replace(
        b,
        visual=torch.cat([a.visual_in_memory(), b.visual_in_memory()], 2),
        summary=torch.cat([a.summary, b.summary], 2),
        units=mix_units(a.units, b.units, encoder.pixel_share),
        grid=a.grid,
        encoder=encoder.name,
        encoder_digest=encoder.digest,
    )
    return replace(landmarks, data=data, heat=np.concatenate([pixels.heat, landmarks.heat], 2))


def _rendered_tokens(
    data: RenderedFaces,
    rows: Int[np.ndarray, " clips"],
    output: BoxOutput,
    heat: Float[np.ndarray, "clips aus patches"],
    encoder: BoxEncoder | LandmarkEncoder,
) -> RenderedTokens:
    """``data``: The clips of these rows."""
    records = tuple(
        Record(clip_id=str(row), video=Path(), label=BASIC[label], subject=str(subject))
        for row, label, subject in zip(rows, data.label, data.subject, strict=True)
    )
    tokens = TokenDataset(
        records=records,
        labels=BASIC,
        target=data.label.astype(np.int64),
        groups=data.subject.astype(str),
        visual=_per_step(output.tokens),
        summary=_per_step(output.hidden),
        units=output.action_units.clamp(0, 1).numpy().astype(np.float32),
        timestamps=np.tile(np.arange(data.au.shape[1]) / _FPS, (len(data), 1)),
        view=np.zeros(len(data), np.int64),
        au_names=AU_NAMES,
        grid=encoder.grid,
        areas=encoder.areas,
        encoder=encoder.name,
        encoder_digest=encoder.digest,
        describer=encoder.name,
    )
    return RenderedTokens(data=tokens, true_units=data.au.astype(np.float32), heat=heat, rows=rows)


def _per_step(values: Tensor) -> Tensor:
    return reduce(values, "b (t k) ... -> b t ...", "mean", k=TUBELET).half()


def _area_heat(data: RenderedFaces, encoder: LandmarkEncoder) -> Float[np.ndarray, "clips aus areas"]:
    """How far each action unit moves the cells under each area; the largest is 1."""
    heat = np.empty((len(data), data.heat.shape[1], len(encoder.areas)), np.float32)
    for i in range(len(data)):
        places = points_on_crop(data.landmarks[i], data.boxes[i])[::5]
        covered = outlines(places, encoder.net.config.members, DRAWN_GRID).mean(0)
        heat[i] = data.heat[i].reshape(data.heat.shape[1], -1).astype(np.float32) @ covered.T
    return heat / np.maximum(heat.max(2, keepdims=True), 1e-9)
