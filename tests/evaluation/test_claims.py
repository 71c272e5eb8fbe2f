"""The claims' measurements on made-up evidence whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dferkit.evaluation.claims import ClipEvidence, localisation_claim, motion_claim, on_crop, phrase_masses
from dferkit.faces import CROP_MARGIN
from dferkit.facs import AU_NAMES
from dferkit.schema import Caption, Phrase, TextTokens
from dferkit.synthetic import Truth

SIDE = 112 / (1 + 2 * CROP_MARGIN)
WHOLE = np.array([(112 - SIDE) / 2, (112 - SIDE) / 2, SIDE, SIDE])  # a box whose crop is the whole frame


def test_a_crop_of_the_whole_frame_keeps_the_map():
    rng = np.random.default_rng(0)
    maps = rng.random((3, 14, 14))
    assert np.allclose(on_crop(maps, WHOLE, (112, 112), (14, 14)).mean((1, 2)), maps.mean((1, 2)), atol=0.03)


def test_a_crop_of_one_quarter_shows_that_quarter():
    frame = np.zeros((14, 14))
    frame[:7, :7] = 1
    side = 40 / (1 + 2 * CROP_MARGIN)
    box = np.array([8 + (40 - side) / 2, 8 + (40 - side) / 2, side, side])
    assert np.allclose(on_crop(frame, box, (112, 112), (4, 4)), 1)


def _evidence(motion: np.ndarray, flow: np.ndarray, nuisance: np.ndarray) -> ClipEvidence:
    frames = 16
    au = np.zeros((frames, 23), np.float32)
    au[:, AU_NAMES.index("AU12")] = 0.8
    au[:, AU_NAMES.index("AU4")] = 0.8
    zero = np.zeros(frames, np.float32)
    truth = Truth(
        clip_id="x", label="happiness", is_ambiguous=False, soft_label=np.zeros(7), au=au, timestamps=np.arange(frames) / 8, blink=zero, speech=zero, gaze=zero,
        pose=zero, exposure=zero, flow_expression=flow, flow_nuisance=nuisance, regions=np.zeros((14, 14)), heat=np.zeros((23, 14, 14)),
        visible=np.ones((14, 14)), events=(), captions={},
    )  # fmt: skip
    return ClipEvidence(
        truth=truth, motion=motion, phrases=(), boxes=np.tile(WHOLE, (frames, 1)), frame_size=(112, 112)
    )


def _localise(plan: np.ndarray, heat: np.ndarray) -> dict[str, float]:
    phrases = tuple(
        Phrase(
            text=t,
            action_unit=a,
            regions=(),
            start_seconds=0,
            end_seconds=2,
            intensity=0.8,
            start_character=s,
            end_character=s + len(t),
        )
        for t, a, s in (("smile", "AU12", 0), ("frown", "AU4", 7))
    )
    tokens = TextTokens(
        values=torch.zeros(2, 4),
        sentence=torch.zeros(4),
        pieces=("smile", "frown"),
        spans=((0, 5), (7, 12)),
        encoder="x",
    )
    caption = Caption(text="smile; frown", phrases=phrases, source="template")
    peak = np.full(23, 0.8)
    return localisation_claim(phrase_masses(caption, tokens, plan, heat.reshape(23, -1), peak))


def test_weights_that_are_the_expression_flow_correlate_fully_with_it_and_not_with_independent_nuisance():
    rng = np.random.default_rng(1)
    flow, nuisance = (np.repeat(rng.random((8, 14, 14)), 2, axis=0) for _ in range(2))
    result = motion_claim([_evidence(flow[::2], flow, nuisance)])
    # Bilinear sampling mixes neighbouring cells of this white noise a little.
    assert result["spearman_expression"] > 0.9
    assert abs(result["spearman_nuisance"]) < 0.1
    assert result["top10_kept_in_top30"] > 0.95


def test_uniform_plans_sit_at_one_and_plans_on_the_heat_map_far_above_it():
    heat = np.zeros((23, 14, 14))
    heat[AU_NAMES.index("AU12"), 10:12, 4:10] = 1
    heat[AU_NAMES.index("AU4"), 3:5, 4:10] = 1
    flat = np.full((2, 8 * 196), 1 / (16 * 98))
    uniform = _localise(flat, heat)
    assert uniform["times_uniform"] == pytest.approx(1)
    assert uniform["shuffled_times_uniform"] == pytest.approx(1)
    exact = np.stack([np.tile(heat[AU_NAMES.index(a)].ravel(), 8) for a in ("AU12", "AU4")])
    found = _localise(exact, heat)
    assert found["times_uniform"] > 8
    assert found["shuffled_times_uniform"] < 0.5
