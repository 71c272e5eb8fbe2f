"""The landmark encoder: blind to camera and head, aware of the face, and honest about what it cannot read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_faces import NUM_FRAMES, clip_of, head, seen

from dferkit.encoders.box import WEIGHTS as BOX_WEIGHTS
from dferkit.encoders.box import BoxEncoder
from dferkit.encoders.box_net import BoxNet
from dferkit.encoders.combined import CombinedEncoder, fit_pixel_share, mix_units, save_combined
from dferkit.encoders.face_shape import AREA_NAMES, members
from dferkit.encoders.landmark_net import LandmarkNet, LandmarkNetConfig
from dferkit.encoders.landmarks import WEIGHTS, LandmarkEncoder, seen_share
from dferkit.encoders.network_files import save_network
from dferkit.encoders.protocols import DescribingEncoder, num_tokens
from dferkit.errors import CheckpointError, DataError


@pytest.fixture(scope="module")
def template() -> np.ndarray:
    return head(np.random.default_rng(0)).astype(np.float32)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, template: np.ndarray) -> Path:
    """A box folder with untrained networks."""
    folder = tmp_path_factory.mktemp("box")
    torch.manual_seed(0)
    net = LandmarkNet(LandmarkNetConfig(members=members(template)))
    net.template.copy_(torch.from_numpy(template))
    for basis in (net.own, net.change):
        basis.copy_(torch.randn_like(basis) * 0.3)
    save_network(net, folder / WEIGHTS)
    save_network(BoxNet(), folder / BOX_WEIGHTS)
    save_combined(np.full(23, 0.25), folder)
    return folder


def expression(template: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A face that moves (frames, 478, 3); the rigid points stay."""
    from dferkit.encoders.face_shape import RIGID

    course = np.sin(np.linspace(0, np.pi, NUM_FRAMES))[:, None, None]
    movement = rng.standard_normal((478, 3)) * 0.1
    movement[RIGID] = 0
    return template + course * movement


def test_camera_and_head_do_not_matter(box: Path, template: np.ndarray) -> None:
    """The tokens' values follow the face alone, but for the turn of the head, which the action units may take into account."""
    rng = np.random.default_rng(1)
    encoder, face = LandmarkEncoder(box), expression(template, rng)
    first, second = (encoder.read([clip_of(seen(face, rng))])[0] for _ in range(2))
    torch.testing.assert_close(first.tokens.values, second.tokens.values, atol=2e-3, rtol=1e-3)
    other = encoder.read([clip_of(seen(expression(template, rng), rng))])[0]
    assert float((first.tokens.values - other.tokens.values).abs().max()) > 0.05


def test_tokens_have_the_promised_shapes(box: Path, template: np.ndarray) -> None:
    encoder, rng = LandmarkEncoder(box), np.random.default_rng(2)
    assert isinstance(encoder, DescribingEncoder)
    reading = encoder.read([clip_of(seen(expression(template, rng), rng))])[0]
    assert reading.tokens.values.shape == (8, len(AREA_NAMES), 96)
    assert reading.tokens.values.shape[1] == num_tokens(encoder)
    assert reading.tokens.coverage is not None
    np.testing.assert_allclose(reading.tokens.coverage.sum(2), 1, atol=1e-5)
    assert reading.action_units.intensity.shape == (NUM_FRAMES, 23)


def test_neighbours_in_a_batch_change_nothing(box: Path, template: np.ndarray) -> None:
    encoder, rng = LandmarkEncoder(box), np.random.default_rng(3)
    clips = [clip_of(seen(expression(template, rng), rng)) for _ in range(3)]
    together = encoder.encode(clips)
    for clip, tokens in zip(clips, together, strict=True):
        torch.testing.assert_close(encoder.encode([clip])[0].values, tokens.values)


def test_a_neutral_face_is_the_zero(box: Path, template: np.ndarray) -> None:
    """With the clip's own face as neutral one, a still face has no movement; another neutral face changes the answer."""
    encoder, rng = LandmarkEncoder(box), np.random.default_rng(4)
    still = clip_of(seen(np.stack([template] * NUM_FRAMES), rng))
    own, none = encoder.with_neutral(template), encoder.with_neutral(None)
    torch.testing.assert_close(own.encode([still])[0].values, none.encode([still])[0].values, atol=3e-3, rtol=1e-3)
    other = encoder.with_neutral(template + 0.2)
    assert float((other.encode([still])[0].values - none.encode([still])[0].values).abs().max()) > 0.05
    assert encoder.neutral is None, "the encoder itself stays as it was"


def test_held_still_the_face_rests_and_the_head_moves_on(box: Path, template: np.ndarray) -> None:
    encoder, rng = LandmarkEncoder(box), np.random.default_rng(5)
    clip = clip_of(seen(expression(template, rng), rng))
    everything = np.ones((8, 8, 8), bool)
    kept, held = encoder.hold_still(clip, everything), encoder.hold_still(clip, ~everything)
    np.testing.assert_allclose(kept.geometry.landmarks, clip.geometry.landmarks, atol=2e-2)
    before, after = encoder.shape(clip), encoder.shape(held)
    assert before.points.std(0).max() > 0.02
    assert after.points.std(0).max() < 1e-3
    np.testing.assert_allclose(after.turn, before.turn, atol=1e-3)
    np.testing.assert_allclose(after.points.mean(0), before.points.mean(0), atol=1e-3)


def test_what_was_not_measured_is_refused(box: Path, template: np.ndarray) -> None:
    encoder, rng = LandmarkEncoder(box), np.random.default_rng(6)
    clip = clip_of(seen(expression(template, rng), rng))
    with pytest.raises(DataError, match="--landmarker"):
        encoder.encode([replace(clip, geometry=None)])
    empty = replace(clip, geometry=replace(clip.geometry, landmarks=np.full_like(clip.geometry.landmarks, np.nan)))
    with pytest.raises(DataError, match="found no face"):
        encoder.encode([empty])
    assert seen_share(empty) == seen_share(replace(clip, geometry=None)) == 0
    half = clip.geometry.landmarks.copy()
    half[::2] = np.nan
    partly = replace(clip, geometry=replace(clip.geometry, landmarks=half))
    assert seen_share(partly) == 0.5
    assert torch.isfinite(encoder.encode([partly])[0].values).all()


def test_a_damaged_network_is_refused(box: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="dferkit pretrain"):
        LandmarkEncoder(tmp_path)
    for name in ("landmarks.json", "landmarks.safetensors"):
        (tmp_path / name).write_bytes((box / name).read_bytes())
    (tmp_path / "landmarks.safetensors").write_bytes((box / "landmarks.safetensors").read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        LandmarkEncoder(tmp_path)


def test_both_networks_side_by_side(box: Path, template: np.ndarray) -> None:
    encoder, rng = CombinedEncoder(box), np.random.default_rng(7)
    clip = clip_of(seen(expression(template, rng), rng))
    both, pixels, landmarks = (e.read([clip])[0] for e in (encoder, BoxEncoder(box), LandmarkEncoder(box)))
    torch.testing.assert_close(both.tokens.values[:, :64], pixels.tokens.values)
    torch.testing.assert_close(both.tokens.values[:, 64:], landmarks.tokens.values)
    assert both.tokens.values.shape[1] == num_tokens(encoder) == 78
    expected = 0.25 * pixels.action_units.intensity + 0.75 * landmarks.action_units.intensity
    np.testing.assert_allclose(both.action_units.intensity, expected, atol=1e-6)


def test_the_mixture_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(8)
    pixels, landmarks = rng.random((500, 3)), rng.random((500, 3))
    wanted = np.array([0.3, 0.9, 0.0])
    share = fit_pixel_share(pixels, landmarks, mix_units(pixels, landmarks, wanted).astype(float))
    np.testing.assert_allclose(share, wanted, atol=1e-6)
    beyond = fit_pixel_share(pixels, landmarks, mix_units(pixels, landmarks, np.array([1.6, -0.4, 0.5])).astype(float))
    np.testing.assert_allclose(beyond, [1, 0, 0.5], atol=1e-6)
