"""What a cell's movement is worth: against taking the movement away and asking again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_faces import NUM_FRAMES, clip_of, head, seen

from dferkit.encoders.attribution import cell_attribution, trace_pixels
from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.encoders.combined import CombinedEncoder
from dferkit.encoders.face_shape import RIGID
from dferkit.encoders.landmarks import LandmarkEncoder
from dferkit.encoders.protocols import VisualEncoder
from dferkit.encoders.videomae import VideoMAEEncoder
from dferkit.pipeline import evidence_map
from dferkit.schema import FaceClip


def test_of_a_linear_network_it_is_exact() -> None:
    torch.manual_seed(0)
    weights, video = torch.randn(4, 3 * 8 * 8), torch.rand(4, 3, 8, 8)

    def forward(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        summary = (frames[0].flatten(1) * weights).reshape(2, -1)
        return summary[:, None], summary

    def score(values: torch.Tensor, summary: torch.Tensor) -> torch.Tensor:
        return values.sum() + 2 * summary.sum()

    owed = cell_attribution(trace_pixels(forward, video, steps=2, grid=(4, 2)), score)
    whole = score(*forward(video[None]))
    for step, row, column in np.ndindex(2, 4, 2):
        still = video.clone()
        cell = (
            slice(2 * step, 2 * step + 2),
            slice(None),
            slice(2 * row, 2 * row + 2),
            slice(4 * column, 4 * column + 4),
        )
        still[cell] = video.mean(0, keepdim=True).expand_as(video)[cell]
        assert owed[step, row, column] == pytest.approx(float(whole - score(*forward(still[None]))), abs=1e-3)


def test_the_parts_add_up_to_what_the_score_loses_without_any_movement() -> None:
    torch.manual_seed(0)
    weights, video = torch.randn(3 * 8 * 8, 5), torch.rand(4, 3, 8, 8)

    def forward(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        summary = (
            (frames[0].flatten(1) @ weights).square().reshape(2, -1)
        )  # the score's gradient is linear along the path
        return summary[:, None], summary

    def score(values: torch.Tensor, summary: torch.Tensor) -> torch.Tensor:
        return values.sum()

    parts = cell_attribution(trace_pixels(forward, video, steps=2, grid=(4, 2)), score)
    still = video.mean(0, keepdim=True).expand_as(video)
    lost = score(*forward(video[None])) - score(*forward(still[None]))
    assert parts.sum() == pytest.approx(float(lost), rel=1e-4)


@pytest.fixture(scope="module")
def clip() -> FaceClip:
    """A head that hardly moves, so that first order is nearly all."""
    rng = np.random.default_rng(0)
    face = head(rng)
    course = np.sin(np.linspace(0, np.pi, NUM_FRAMES))[:, None, None]
    movement = rng.standard_normal((478, 3)) * 3e-3
    movement[RIGID] = 0  # or the head's fitted place would change with the cell
    still = clip_of(seen(face + course * movement, rng))
    pictures = rng.integers(100, 156, (1, 112, 112, 3)) + (course[..., None] * rng.integers(-9, 9, (112, 112, 3)))
    return replace(still, images=pictures.astype(np.uint8))


def score(values: torch.Tensor, summary: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(1)
    return (values * torch.randn_like(values)).mean() + (summary * torch.randn_like(summary)).mean()


@pytest.mark.parametrize(
    "encoder",
    [BoxEncoder(), LandmarkEncoder(BOX_FOLDER), CombinedEncoder(BOX_FOLDER), VideoMAEEncoder()],
    ids=lambda e: e.name,
)
def test_a_trace_has_the_tokens_that_are_read(encoder: VisualEncoder, clip: FaceClip) -> None:
    trace, (tokens,) = encoder.trace(clip), encoder.encode([clip])
    torch.testing.assert_close(trace.tokens()[0], tokens.values, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(trace.tokens()[1], tokens.summary, atol=1e-4, rtol=1e-4)
    assert cell_attribution(trace, score).shape == (8, 8, 8)


def test_holding_the_landmarks_of_a_cell_costs_what_they_are_worth(clip: FaceClip) -> None:
    encoder = LandmarkEncoder(BOX_FOLDER)
    owed = cell_attribution(encoder.trace(clip), score)
    (whole,) = encoder.encode([clip])
    for cell in [np.unravel_index(i, owed.shape) for i in np.argsort(-np.abs(owed), axis=None)[:5]]:
        keep = np.ones(owed.shape, bool)
        keep[cell] = False
        (held,) = encoder.encode([encoder.hold_still(clip, keep)])
        cost = float(score(whole.values[None], whole.summary[None]) - score(held.values[None], held.summary[None]))
        assert cost == pytest.approx(owed[cell], rel=0.25, abs=2e-7)


def test_evidence_is_where_words_and_worth_meet() -> None:
    maps = np.zeros((3, 1, 2, 2))
    maps[0, 0, 0] = 0.5, 0.5
    maps[1, 0, 1] = 0.5, 0.5
    maps[2] = 0.25
    owed = np.array([[[1.0, -2.0], [3.0, 0.0]]])
    parts = [1.0 * maps[0], 0.0 * maps[1], -1.0 * maps[2]]
    np.testing.assert_allclose(evidence_map(parts, owed), [[[1.0, 0], [0, 0]]])
    np.testing.assert_allclose(evidence_map([0.5 * maps[0], 0.5 * maps[1]], owed), [[[0.25, 0], [0.75, 0]]])
    assert not evidence_map(list(maps), -np.abs(owed)).any(), "nothing supports the answer"
