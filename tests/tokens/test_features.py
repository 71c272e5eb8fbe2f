"""From labelled videos to cached features.

One bad file stops nothing, and what is cached is what would be made again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dferkit.datasets import read_manifest
from dferkit.encoders.box import WEIGHTS, BoxEncoder
from dferkit.encoders.box_net import BoxNet
from dferkit.encoders.network_files import save_network
from dferkit.encoders.open import BACKBONES
from dferkit.encoders.protocols import EncoderReading, VisualEncoder
from dferkit.errors import BackendError, ConfigError, DataError
from dferkit.faces import build_detector
from dferkit.motion import motion_weights, steady_faces
from dferkit.schema import FaceClip, Record, VisualTokens
from dferkit.synthetic import BenchmarkConfig, render_benchmark, write_video
from dferkit.tokens import features
from dferkit.tokens.dataset import TokenDataset
from dferkit.tokens.features import TokenConfig, extract_features


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A box whose video network knows nothing: the cache does not care."""
    folder = tmp_path_factory.mktemp("box")
    torch.manual_seed(0)
    save_network(BoxNet(), folder / WEIGHTS)
    return folder


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    folder = tmp_path_factory.mktemp("clips")
    return read_manifest(render_benchmark(BenchmarkConfig(clips=5), folder, workers=1))


@pytest.fixture
def config(box: Path, monkeypatch: pytest.MonkeyPatch) -> TokenConfig:
    monkeypatch.setattr(features, "CLIPS_PER_SHARD", 2)
    return TokenConfig(box=str(box))


def same(a: TokenDataset, b: TokenDataset) -> bool:
    tensors = all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("visual",))
    arrays = all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("units", "timestamps", "boxes", "frame_sizes"))
    return tensors and arrays and a.records == b.records and a.statuses == b.statuses


def times(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in sorted(folder.glob("features-*.safetensors"))}


def test_shapes_and_order(rendered: list[Record], config: TokenConfig, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    found = extract_features(rendered, tmp_path, config, workers=1, on_progress=lambda a, b: calls.append((a, b)))
    assert found.records == tuple(rendered)
    assert found.visual.shape == (5, 8, 64, 96)
    assert found.visual.dtype == torch.float16
    assert found.units.shape == (5, 16, 23)
    assert 0 <= found.units.min() <= found.units.max() <= 1
    assert found.timestamps.shape == (5, 16)
    assert found.boxes.shape == (5, 16, 4)
    assert found.frame_sizes.tolist() == [[112, 112]] * 5
    assert found.grid == (8, 8)
    assert calls == [(0, 5), (2, 5), (4, 5), (5, 5)]
    assert all(s.status in ("ok", "low_coverage") and s.has_features for s in found.statuses.values())
    part = found.take([3, 0])
    assert part.records == (rendered[3], rendered[0])
    torch.testing.assert_close(part.visual[0], found.visual[3])


class BackwardsEncoder(BoxEncoder):
    """The video network with its action units in the reverse order, and one fewer."""

    def __init__(self, folder: Path | str) -> None:
        super().__init__(folder)
        self.name, self.au_names = "backwards", self.net.config.au_names[:0:-1]

    def read(self, clips: Sequence[FaceClip], *, batch_size: int = 16) -> list[EncoderReading]:
        return [
            replace(
                reading,
                action_units=replace(
                    reading.action_units, names=self.au_names, intensity=reading.action_units.intensity[:, :0:-1].copy()
                ),
            )
            for reading in super().read(clips, batch_size=batch_size)
        ]


def test_action_units_keep_the_names_of_the_encoder_that_measured_them(
    rendered: list[Record], config: TokenConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKBONES, "backwards", BackwardsEncoder)
    own = extract_features(rendered[:2], tmp_path / "own", config, workers=1)
    spec = replace(config, encoder=f"backwards:{config.box}")
    other = extract_features(rendered[:2], tmp_path / "other", spec, workers=1)
    assert (own.describer, other.describer) == ("box", "backwards")
    assert len(other.au_names) == other.units.shape[2] == len(own.au_names) - 1
    for column, name in enumerate(other.au_names):
        np.testing.assert_array_equal(other.units[:, :, column], own.units[:, :, own.au_names.index(name)])


def test_measured_motion_is_kept_beside_the_tokens(rendered: list[Record], config: TokenConfig, tmp_path: Path) -> None:
    plain = extract_features(rendered[:3], tmp_path, config, workers=1)
    assert plain.motion is None
    found = {
        source: extract_features(rendered[:3], tmp_path, replace(config, motion=source), workers=1)
        for source in ("steady", "pixels")
    }
    for features_ in found.values():
        assert features_.motion is not None
        assert features_.motion.shape == (3, 8, 64)
        torch.testing.assert_close(features_.motion.mean((1, 2)), torch.ones(3))
        assert torch.equal(features_.take([2]).motion, features_.motion[2:])  # type: ignore[arg-type]
        assert torch.equal(features_.visual, plain.visual)
    # By hand for one clip: the tokens of its steadied crops, weighed like a model's own.
    box = BoxEncoder(config.box)
    clip, _, _ = features.read_clip(rendered[1], build_detector("haar"))
    assert clip is not None
    steady = box.encode([replace(clip, images=steady_faces(clip.images))])[0].values
    wanted = motion_weights(torch.nn.functional.layer_norm(steady, steady.shape[-1:])[None])[0]
    torch.testing.assert_close(found["steady"].motion[1], wanted, rtol=1e-3, atol=1e-3)  # type: ignore[index]
    with pytest.raises(ConfigError, match="steady, pixels"):
        extract_features(rendered[:1], tmp_path / "x", replace(config, motion="pixel"), workers=1)


def test_workers_and_shards_change_nothing(
    rendered: list[Record], config: TokenConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = extract_features(rendered, tmp_path / "one", config, workers=1)
    two = extract_features(rendered, tmp_path / "two", config, workers=2)
    assert same(one, two)
    monkeypatch.setattr(features, "CLIPS_PER_SHARD", 60)
    whole = extract_features(rendered, tmp_path / "whole", config, workers=1)
    assert torch.allclose(whole.visual.float(), one.visual.float(), atol=2e-3)


def test_a_second_call_reads_the_cache(rendered: list[Record], config: TokenConfig, tmp_path: Path) -> None:
    first = extract_features(rendered, tmp_path, config, workers=1)
    before = times(tmp_path)
    again = extract_features(rendered, tmp_path, config, workers=1)
    assert same(first, again)
    assert times(tmp_path) == before


def test_an_interrupted_call_goes_on(rendered: list[Record], config: TokenConfig, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def progress(done: int, of: int) -> None:
        if done == 4:
            raise Stop

    with pytest.raises(Stop):
        extract_features(rendered, tmp_path, config, workers=1, on_progress=progress)
    before = times(tmp_path)
    assert len(before) == 2
    found = extract_features(rendered, tmp_path, config, workers=1)
    after = times(tmp_path)
    assert {name: after[name] for name in before} == before
    assert same(found, extract_features(rendered, tmp_path.parent / "fresh", config, workers=1))


@pytest.mark.parametrize("damage", ["truncated", "empty", "bit", "text"])
def test_a_damaged_shard_is_made_again(
    damage: str, rendered: list[Record], config: TokenConfig, tmp_path: Path
) -> None:
    first = extract_features(rendered[:4], tmp_path, config, workers=1)
    path = tmp_path / "features-0001.safetensors"
    good = path.read_bytes()
    bad = {
        "truncated": good[: len(good) // 2],
        "empty": b"",
        "bit": good[:-100] + bytes([good[-100] ^ 1]) + good[-99:],
        "text": b"nothing",
    }[damage]
    path.write_bytes(bad)
    before = times(tmp_path)["features-0000.safetensors"]
    assert same(extract_features(rendered[:4], tmp_path, config, workers=1), first)
    assert path.read_bytes() == good
    assert times(tmp_path)["features-0000.safetensors"] == before


def test_another_video_under_the_same_name_is_read_again(
    rendered: list[Record], config: TokenConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    records = [replace(r, video=Path(shutil.copy(r.video, folder / r.video.name))) for r in rendered[:2]]
    first = extract_features(records, tmp_path / "cache", config, workers=1)
    shutil.copy(rendered[4].video, records[0].video)
    second = extract_features(records, tmp_path / "cache", config, workers=1)
    assert not torch.equal(first.visual[0], second.visual[0])
    torch.testing.assert_close(first.visual[1], second.visual[1])


def test_other_weights_are_other_features(rendered: list[Record], config: TokenConfig, tmp_path: Path) -> None:
    first = extract_features(rendered[:2], tmp_path / "cache", config, workers=1)
    torch.manual_seed(1)
    save_network(BoxNet(), tmp_path / "box" / WEIGHTS)
    second = extract_features(rendered[:2], tmp_path / "cache", replace(config, box=str(tmp_path / "box")), workers=1)
    assert first.encoder_digest != second.encoder_digest
    assert not torch.equal(first.visual, second.visual)


def test_bad_videos_are_recorded_and_the_rest_goes_on(
    rendered: list[Record], config: TokenConfig, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    write_video(tmp_path / "grey.mp4", np.full((16, 64, 64, 3), 128, np.uint8), 8.0)
    odd = [
        Record(clip_id=name, video=tmp_path / name, label="anger") for name in ("text.mp4", "missing.mp4", "grey.mp4")
    ]
    mixed = [odd[0], rendered[0], odd[1], rendered[1], odd[2]]
    found = extract_features(mixed, tmp_path / "cache", config, workers=1)
    assert found.records == (rendered[0], rendered[1])
    assert len(found.visual) == len(found.units) == 2
    statuses = {name: found.statuses[name].status for name in ("text.mp4", "missing.mp4", "grey.mp4")}
    assert statuses == {"text.mp4": "unreadable", "missing.mp4": "unreadable", "grey.mp4": "no_face"}
    for name in statuses:
        status = found.statuses[name]
        assert status.message
        assert str(tmp_path) not in status.message
        assert not status.has_features
    alone = extract_features([rendered[0], rendered[1]], tmp_path / "alone", config, workers=1)
    torch.testing.assert_close(found.visual.float(), alone.visual.float(), atol=2e-3, rtol=0)


def test_a_file_that_appears_is_read(rendered: list[Record], config: TokenConfig, tmp_path: Path) -> None:
    late = replace(rendered[1], video=tmp_path / "late.mp4")
    first = extract_features([rendered[0], late], tmp_path / "cache", config, workers=1)
    assert first.statuses[late.clip_id].status == "unreadable"
    shutil.copy(rendered[1].video, late.video)
    assert len(extract_features([rendered[0], late], tmp_path / "cache", config, workers=1).records) == 2


def test_nothing_usable(config: TokenConfig, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"none of 1 videos could be used; the first: text\.mp4"):
        extract_features(
            [Record(clip_id="text.mp4", video=tmp_path / "text.mp4")], tmp_path / "cache", config, workers=1
        )


def test_a_wrong_detector_is_told_before_any_work(
    rendered: list[Record], config: TokenConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DFERKIT_MODELS", raising=False)
    with pytest.raises(ConfigError, match="face detector"):
        extract_features(rendered, tmp_path, replace(config, face="har"), workers=1)
    with pytest.raises(BackendError, match="DFERKIT_MODELS"):
        extract_features(rendered, tmp_path, replace(config, face="yunet"), workers=1)
    assert not list(tmp_path.iterdir())


def test_features_of_the_cpu_are_not_those_of_another_device(
    rendered: list[Record], config: TokenConfig, tmp_path: Path
) -> None:
    extract_features(rendered, tmp_path, config, workers=1)
    before = times(tmp_path)
    with pytest.raises(NotImplementedError, match="meta"):  # it computes anew, on a device that has no values
        extract_features(rendered, tmp_path, replace(config, device="meta"), workers=1)
    extract_features(rendered, tmp_path, config, workers=1)
    assert times(tmp_path) == before


class Brightness(VisualEncoder):
    """A backbone without a network, which runs anywhere."""

    name, digest, dim, num_frames, grid = "brightness", "brightness-1", 1, 16, (1, 1)

    def encode(self, clips: Sequence[FaceClip]) -> list[VisualTokens]:
        """The mean of each frame."""
        return [
            VisualTokens(
                values=torch.from_numpy(clip.images.mean((1, 2, 3)))[:, None, None].float(),
                summary=torch.zeros(16, 0),
                grid=self.grid,
                timestamps=clip.timestamps,
                encoder=self.name,
            )
            for clip in clips
        ]


def test_action_units_beside_a_foreign_backbone_are_measured_on_the_device(
    rendered: list[Record], config: TokenConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKBONES, "brightness", Brightness)
    spec = replace(config, encoder="brightness")
    extract_features(rendered[:1], tmp_path / "cpu", spec, workers=1)
    with pytest.raises(NotImplementedError, match="meta"):
        extract_features(rendered[:1], tmp_path / "other", replace(spec, device="meta"), workers=1)
