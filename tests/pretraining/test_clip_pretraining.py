"""The small CLIP: what it is told, and that it comes back from its folder. That it learns is a benchmark's matter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dferkit.encoders.clip_model import ClipEncoder
from dferkit.facs import AU_NAMES, load_facs
from dferkit.labels import BASIC
from dferkit.pretraining.clip import ClipPretrainingConfig, _contrast, pretrain_clip, tell
from dferkit.pretraining.face_shards import CROP_SIZE, FaceShard

SHORT = ClipPretrainingConfig(
    width=16, layers=1, heads=2, text_width=16, text_layers=1, dim=12, steps=4, clips=3, frames=2, save_every=2
)


@pytest.fixture(scope="module")
def data() -> FaceShard:
    rng, clips, frames = np.random.default_rng(0), 36, 6
    empty = np.zeros((clips, frames, 1), np.float32)
    return FaceShard(
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


def test_a_frame_is_told_by_its_strongest_movements() -> None:
    units, rng = np.zeros(len(AU_NAMES)), np.random.default_rng(0)
    assert tell(units, rng) == "a still face"
    units[AU_NAMES.index("AU4")], units[AU_NAMES.index("AU12")], units[AU_NAMES.index("AU25")] = 0.5, 0.9, 0.1
    first, second = tell(units, rng).removeprefix("a face: ").split(", ")
    assert first in load_facs().action_units["AU12"].phrases
    assert second in load_facs().action_units["AU4"].phrases


def test_frames_told_alike_are_not_told_apart() -> None:
    """With two frames of one text the best answer gives each half; the loss of that answer is known: log 2 for these two, 0 for the third."""
    images = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    loss = _contrast(images, images, ["a", "a", "b"], torch.tensor(60.0))
    assert float(loss) == pytest.approx(2 / 3 * np.log(2), abs=1e-5)


def test_an_interruption_changes_nothing_and_the_result_is_a_clip(data: FaceShard, tmp_path: Path) -> None:
    whole = pretrain_clip(data, tmp_path / "a", tmp_path / "work-a", SHORT)

    class Stop(Exception):
        pass

    calls: list[int] = []
    import dferkit.pretraining.clip as module

    real = module.save_state

    def stop(*args: object, **kwargs: object) -> None:
        real(*args, **kwargs)  # type: ignore[arg-type]
        calls.append(1)
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "save_state", stop)
        with pytest.raises(Stop):
            pretrain_clip(data, tmp_path / "b", tmp_path / "work-b", SHORT)
    assert calls == [1]
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
