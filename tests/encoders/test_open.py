"""The table of encoders, and what an encoder offers where it declares nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_faces import NUM_FRAMES, clip_of, head, seen
from small_models import save

from dferkit.encoders.attribution import cell_attribution
from dferkit.encoders.box import BoxEncoder
from dferkit.encoders.front_end import joint_space_file
from dferkit.encoders.open import BACKBONES, BUNDLED, describer_of, open_visual_encoder
from dferkit.encoders.protocols import DescribingEncoder, VisualEncoder, check_declared, num_tokens
from dferkit.encoders.videomae import VideoMAEEncoder
from dferkit.errors import CheckpointError, ConfigError
from dferkit.labels import BASIC
from dferkit.models.grace_fused import FusedConfig, GraceFused
from dferkit.schema import FaceClip, TokenBatch, TokenShape, VisualTokens


class FrameBrightness(VisualEncoder):
    """One token per frame: its brightness."""

    name, digest, dim, num_frames, grid = "brightness", "1", 1, NUM_FRAMES, (1, 1)

    def encode(self, clips: Sequence[FaceClip]) -> list[VisualTokens]:
        """Mean of the pixels of each frame."""
        return [
            VisualTokens(
                values=torch.from_numpy(clip.images.mean((1, 2, 3), dtype=np.float32)).reshape(-1, 1, 1),
                summary=torch.zeros(len(clip.images), 0),
                grid=self.grid,
                timestamps=clip.timestamps,
                encoder=self.name,
            )
            for clip in clips
        ]


@pytest.fixture
def clip() -> FaceClip:
    rng = np.random.default_rng(0)
    return clip_of(seen(np.repeat(head(rng)[None], NUM_FRAMES, 0), rng))


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"dim": 3}, "dim must be 3, but encode gave 1"),
        ({"num_frames": 8}, "num_frames must be 8, but encode gave 16"),
        ({"grid": (4, 4)}, r"grid must be \(4, 4\), but encode gave \(1, 1\)"),
        ({"areas": ("mouth",)}, "areas\\) must be 2, but encode gave 1"),
        ({"summary_dim": 5}, "summary_dim must be 5, but encode gave 0"),
    ],
)
def test_what_an_encoder_declares_is_compared_with_its_tokens(
    declared: dict[str, object], message: str, clip: FaceClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = FrameBrightness()
    tokens = encoder.encode([clip])[0]
    check_declared(encoder, tokens)
    for name, value in declared.items():
        monkeypatch.setattr(encoder, name, value, raising=False)
    with pytest.raises(ConfigError, match=message):
        check_declared(encoder, tokens)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(NUM_FRAMES, 1, 1, dtype=torch.float64), "must be torch.float32, but encode gave torch.float64"),
        (torch.zeros(NUM_FRAMES, 1, 1, 1), r"values are \(16, 1, 1, 1\)"),
    ],
)
def test_values_of_another_form_are_refused(values: torch.Tensor, message: str, clip: FaceClip) -> None:
    encoder = FrameBrightness()
    tokens = encoder.encode([clip])[0]
    object.__setattr__(tokens, "values", values)  # tests check shapes in the constructor, users' encoders do not
    with pytest.raises(ConfigError, match=message):
        check_declared(encoder, tokens)


def test_a_missing_attribute_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutDigest(VisualEncoder):
        name, dim, num_frames, grid = "short", 1, 16, (1, 1)

        def encode(self, clips: Sequence[FaceClip]) -> list[VisualTokens]:
            return []

    monkeypatch.setitem(BACKBONES, "short", WithoutDigest)
    with pytest.raises(ConfigError, match="the encoder short has no attribute digest; WithoutDigest must declare it"):
        open_visual_encoder("short")


def test_one_line_in_the_table_is_enough(monkeypatch: pytest.MonkeyPatch, clip: FaceClip) -> None:
    monkeypatch.setitem(BACKBONES, "brightness", FrameBrightness)
    encoder = open_visual_encoder("brightness")
    assert encoder.encode([clip])[0].values.unique().tolist() == [128.0]
    assert (encoder.summary_dim, encoder.areas, encoder.needs_landmarks, num_tokens(encoder)) == (0, (), False, 1)
    assert encoder.trace(clip) is None
    assert joint_space_file("brightness") is None
    describer = describer_of(encoder, device="meta")
    assert isinstance(describer, BoxEncoder)
    assert {value.device.type for value in describer.net.parameters()} == {"meta"}, "on the device of the encoder"


def test_the_bundled_encoders_describe_and_have_a_joint_space() -> None:
    for name in BUNDLED:
        encoder = open_visual_encoder(name)
        assert isinstance(encoder, DescribingEncoder)
        assert describer_of(encoder) is encoder
        path = joint_space_file(name)
        assert path is not None
        assert path.is_file()


def test_videomae_has_no_vector_of_its_own(clip: FaceClip) -> None:
    encoder = VideoMAEEncoder()
    assert not isinstance(encoder, DescribingEncoder)
    tokens = encoder.encode([clip])[0]
    assert tokens.summary.shape == (encoder.num_frames, encoder.summary_dim) == (8, 0)
    trace = encoder.trace(clip)
    torch.testing.assert_close(trace.tokens()[0], tokens.values, atol=1e-5, rtol=1e-5)
    assert trace.tokens()[1].shape == tokens.summary.shape


@pytest.mark.parametrize("name", [*BUNDLED, *BACKBONES])
def test_motion_weights_reach_the_video_vector_of_grace_fused(name: str, tmp_path: Path) -> None:
    """In time with every encoder; in space unless the encoder's own vector per step stands in for the mean of its tokens."""
    image_text = name.partition("-")[0] if name in BACKBONES and not name.startswith("videomae") else ""
    encoder = open_visual_encoder(f"{name}:{save(image_text, tmp_path)}" if image_text else name)
    shape = TokenShape(
        labels=BASIC, visual_dim=encoder.dim, num_frames=encoder.num_frames, grid=encoder.grid, num_areas=len(encoder.areas), summary_dim=encoder.summary_dim
    )  # fmt: skip
    rng = torch.Generator().manual_seed(0)
    visual = torch.randn(2, 1, num_tokens(encoder), shape.visual_dim, generator=rng).repeat(1, shape.num_frames, 1, 1)
    visual[:, 3, : 1 + num_tokens(encoder) // 4] += 2.0 * torch.randn(
        shape.visual_dim, generator=rng
    )  # some cells move
    batch = TokenBatch(
        visual=visual,
        summary=torch.randn(2, shape.num_frames, encoder.summary_dim, generator=rng),
        text=torch.randn(2, 3, shape.text_dim, generator=rng),
        text_mask=torch.ones(2, 3, dtype=torch.bool),
        sentence=torch.randn(2, shape.text_dim, generator=rng),
    )
    config = FusedConfig.for_shape(shape)
    still = GraceFused(replace(config, motion="none")).eval()
    with torch.inference_mode():
        expected = still(batch).visual_logits
        for motion in ("both", "temporal") if encoder.summary_dim else ("both", "temporal", "spatial"):
            moving = GraceFused(replace(config, motion=motion)).eval()
            moving.load_state_dict(still.state_dict())
            assert (moving(batch).visual_logits - expected).abs().max() > 1e-4, motion


@pytest.mark.parametrize(("name", "error"), [("videomae-bf16", 0.02), ("videomae-int8", 0.05)])
def test_tokens_of_lower_precision_are_near_and_have_another_digest(name: str, error: float, clip: FaceClip) -> None:
    clip.images[:] = np.random.default_rng(1).integers(0, 256, clip.images.shape, np.uint8)
    exact, rounded = open_visual_encoder("videomae"), open_visual_encoder(name)
    check_declared(rounded, rounded.encode([clip])[0])
    assert rounded.digest != exact.digest
    assert rounded.name == f"{name}-random"
    expected, found = (encoder.encode([clip])[0].values for encoder in (exact, rounded))
    assert 1e-4 < (found - expected).norm() / expected.norm() < error
    trace = rounded.trace(clip)
    if name == "videomae-int8":
        assert trace is None
        with pytest.raises(ConfigError, match="computes on the CPU only, not on cuda:0"):
            rounded.to("cuda:0")
    else:
        torch.testing.assert_close(trace.tokens()[0], found, atol=1e-2, rtol=1e-2)
        assert np.isfinite(cell_attribution(trace, lambda values, summary: values.sum())).all()


@pytest.mark.parametrize("spec", ["clip", "clip:", "clip-interpolate", "videomae:"])
def test_a_backbone_without_its_folder_is_one_sentence(spec: str) -> None:
    with pytest.raises(CheckpointError, match=r"no (CLIP|VideoMAE) model is named; give (clip|videomae):FOLDER"):
        open_visual_encoder(spec)


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*BUNDLED, "videomae"])
def test_a_gpu_gives_the_same_tokens_but_for_rounding(name: str, clip: FaceClip) -> None:
    torch.backends.cudnn.allow_tf32 = False
    here, there = (open_visual_encoder(name, device=device) for device in ("cpu", "cuda:0"))
    expected, found = (encoder.encode([clip])[0] for encoder in (here, there))
    assert found.values.device.type == found.summary.device.type == "cpu"
    torch.testing.assert_close(found.values, expected.values, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.summary, expected.summary, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(there.trace(clip).tokens()[0], here.trace(clip).tokens()[0], atol=1e-3, rtol=1e-3)
