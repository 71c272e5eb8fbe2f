"""The small CLIP: the texts it is trained on, its loss, and its folder. How well it learns is measured by a benchmark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dferkit.encoders.clip_model import ClipEncoder
from dferkit.errors import ConfigError
from dferkit.facs import AU_NAMES, load_facs
from dferkit.labels import BASIC
from dferkit.pretraining.clip import ClipPretrainingConfig, _contrast, describe_frame, new_clip, pretrain_clip
from dferkit.pretraining.rendered_faces import CROP_SIZE, RenderedFaces
from dferkit.storage import read_json

SHORT = ClipPretrainingConfig(
    width=16, layers=1, heads=2, text_width=16, text_layers=1, dim=12, steps=4, clips=3, frames=2, save_every=2
)


@pytest.fixture(scope="module")
def data() -> RenderedFaces:
    rng, clips, frames = np.random.default_rng(0), 36, 6
    empty = np.zeros((clips, frames, 1), np.float32)
    return RenderedFaces(
        crops=rng.integers(0, 255, (clips, frames, CROP_SIZE, CROP_SIZE, 3)).astype(np.uint8),
        au=rng.random((clips, frames, len(AU_NAMES))).astype(np.float16),
        label=np.arange(clips) % len(BASIC),
        subject=np.arange(clips) // 2,
        tone=np.zeros(clips, int),
        profile=np.zeros(clips, int),
        heat=empty,
        landmarks=empty,
        boxes=empty,
    )


def test_a_frame_is_described_by_its_strongest_movements() -> None:
    units, rng = np.zeros(len(AU_NAMES)), np.random.default_rng(0)
    assert describe_frame(units, rng) == "a still face"
    units[AU_NAMES.index("AU4")], units[AU_NAMES.index("AU12")], units[AU_NAMES.index("AU25")] = 0.5, 0.9, 0.1
    first, second = describe_frame(units, rng).removeprefix("a face: ").split(", ")
    assert first in load_facs().action_units["AU12"].phrases
    assert second in load_facs().action_units["AU4"].phrases


def test_frames_with_one_text_share_their_target() -> None:
    """With two frames of one text the best answer gives each half; the loss of that answer is known: log 2 for these two, 0 for the third."""
    images = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    loss = _contrast(images, images, ["a", "a", "b"], torch.tensor(60.0))
    assert float(loss) == pytest.approx(2 / 3 * np.log(2), abs=1e-5)


def test_an_interruption_changes_nothing_and_the_result_is_a_clip(data: RenderedFaces, tmp_path: Path) -> None:
    whole = pretrain_clip(data, tmp_path / "a", tmp_path / "work-a", SHORT)

    class StopError(Exception):
        pass

    def stop(step: int, of: int, note: str) -> None:
        if step == SHORT.save_every:
            raise StopError

    with pytest.raises(StopError):
        pretrain_clip(data, tmp_path / "b", tmp_path / "work-b", SHORT, on_progress=stop)
    assert read_json(tmp_path / "work-b" / "state.json")["step"] == SHORT.save_every
    again = pretrain_clip(data, tmp_path / "b", tmp_path / "work-b", SHORT)
    assert whole == again
    assert 0 <= whole["probe_posed"] <= 1
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert one == two
    encoder = ClipEncoder(tmp_path / "a")
    assert (encoder.dim, encoder.token_width) == (12, 16)
    features = encoder.encode_texts(["a still face", "a face: brows lowered"])
    assert features.shape == (2, 12)
    assert not torch.allclose(features[0], features[1])
    other = pretrain_clip(data, tmp_path / "c", tmp_path / "work-c", replace(SHORT, seed=1))
    assert (tmp_path / "c" / "model.safetensors").read_bytes() != one
    assert set(other) == {"probe_posed"}


def test_the_contrastive_scale_stays_in_range_and_keeps_its_gradient(
    data: RenderedFaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scale that starts above the limit of 100 is brought back to it, and the next step can move it."""

    def too_sharp(config: ClipPretrainingConfig, folder: Path) -> torch.nn.Module:
        clip = new_clip(config, folder)
        clip.logit_scale.data.fill_(np.log(1000.0))
        return clip

    monkeypatch.setattr("dferkit.pretraining.clip.new_clip", too_sharp)
    scales = []
    for steps in (1, 2):
        folder = tmp_path / str(steps)
        pretrain_clip(data, folder, tmp_path / f"work-{steps}", replace(SHORT, steps=steps, learning_rate=0.5))
        scales.append(float(load_file(folder / "model.safetensors")["logit_scale"]))
    assert scales[0] == pytest.approx(np.log(100.0), abs=1e-6)
    assert abs(scales[1] - scales[0]) > 1e-3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patch": 12}, "patch is 12; give a multiple of 8"),
        ({"width": 50}, "width is 50; give a multiple of its 4 attention heads"),
        ({"save_every": 0}, "save_every is 0; give at least 1"),
        ({"learning_rate": 2.0}, "learning_rate is 2.0; give at least 0 and below 1"),
        ({"weight_words": -1.0}, "weight_words is -1.0; give at least 0"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClipPretrainingConfig(**wrong)
