"""Reading a store."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_release import SIDE, face_folders, picture

from dferkit.errors import CheckpointError, DataError
from dferkit.faces import Crop, build_detector, read_clip_faces
from dferkit.preparation import FaceStore, PrepareConfig, Work, prepare_faces
from dferkit.preparation import store as store_file
from dferkit.preparation.part import make_part, read_part, write_part
from dferkit.preparation.shards import StoreFolder, merge_shard
from dferkit.schema import FaceGeometry, Record, Release


@pytest.fixture
def made(faces: tuple[Release, Path], tmp_path: Path) -> FaceStore:
    prepare_faces(*faces, tmp_path / "store", PrepareConfig(size=SIDE), work=Work(workers=1))
    return FaceStore.open(tmp_path / "store")


def test_the_release_comes_back(faces: tuple[Release, Path], made: FaceStore) -> None:
    release, root = faces
    wanted = tuple(replace(r, video=r.video.relative_to(root)) for r in release.records)
    assert made.release == replace(release, records=wanted)


def test_clips_come_back(made: FaceStore) -> None:
    for clip in (0, 3, 10):
        name = f"{clip:05d}"
        found = made.read(name)
        assert found.images.dtype == np.uint8
        for frame in range(5):
            assert np.abs(found.images[frame].astype(int) - picture(clip, frame)).mean() < 2
        np.testing.assert_allclose(found.timestamps, np.arange(5) / 25)
        assert made.num_frames(name) == 5
        assert found.end_seconds == pytest.approx(0.2)
        assert found.quality.coverage == 1
        assert found.track.found.all()
        assert np.isnan(found.track.scores).all()
        assert made.statuses[name].has_features


def test_only_the_asked_frames_are_decoded(made: FaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made.read("00003")
    decoded = []
    decode = store_file.decode_picture
    monkeypatch.setattr(store_file, "decode_picture", lambda data: decoded.append(len(data)) or decode(data))
    some = made.read("00003", frames=[4, 1, 1])
    assert len(decoded) == 2
    np.testing.assert_array_equal(some.images, whole.images[[4, 1, 1]])
    np.testing.assert_array_equal(some.timestamps, whole.timestamps[[4, 1, 1]])
    np.testing.assert_array_equal(some.track.boxes, whole.track.boxes[[4, 1, 1]])
    assert len(some.track.found) == 3


def test_what_is_not_there(made: FaceStore) -> None:
    assert made.num_frames("00004") == 0
    assert made.statuses["00004"].status == "unreadable"
    with pytest.raises(DataError, match=r"00004 has no faces \(unreadable\): 00004/ holds no picture"):
        made.read("00004")
    with pytest.raises(DataError, match="is no clip of store/"):
        made.read("12")
    for frames in ([5], [-1], []):
        with pytest.raises(DataError, match="has frames 0 to 4"):
            made.read("00003", frames=frames)


def test_a_store_goes_to_another_process(made: FaceStore) -> None:
    made.read("00003")
    other = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(other.read("00003").images, made.read("00003").images)


@pytest.mark.parametrize("name", ["store.json", "release.json"])
def test_a_damaged_table_is_one_sentence(name: str, made: FaceStore) -> None:
    path = made.path / name
    text = path.read_text()
    for damaged in (text[: len(text) // 2], "{}"):
        path.write_text(damaged)
        with pytest.raises(CheckpointError):
            FaceStore.open(made.path)
    path.unlink()
    with pytest.raises(CheckpointError, match="not a complete store: run dferkit prepare LAYOUT ROOT"):
        FaceStore.open(made.path)


def test_a_release_changed_by_hand_is_found(made: FaceStore) -> None:
    path = made.path / "release.json"
    value = json.loads(path.read_text())
    value["records"][0]["label"] = "joy"
    path.write_text(json.dumps(value))
    with pytest.raises(CheckpointError, match="not that of the store"):
        FaceStore.open(made.path)


def test_optional_arrays_go_round(tmp_path: Path) -> None:
    """What a landmarker tells comes back as it was, for all frames and for some."""
    release = face_folders(tmp_path / "r", num_clips=2)
    out = tmp_path / "store"
    prepare_faces(release, tmp_path / "r", out, PrepareConfig(size=SIDE, landmarker="none"), work=Work(workers=1))
    folder = StoreFolder(out)
    record = release.records[1]
    found = read_clip_faces(
        Record(clip_id=record.clip_id, video=record.video), build_detector("cropped"), crop=Crop(size=SIDE)
    )
    rng = np.random.default_rng(0)
    geometry = FaceGeometry(
        landmarks=rng.random((5, 468, 3), np.float32),
        blend_shapes=rng.random((5, 52), np.float32),
        head_pose=rng.random((5, 4, 4), np.float32),
        blend_shape_names=tuple(f"shape{i}" for i in range(52)),
    )
    assert found.clip is not None
    measured = replace(found, clip=replace(found.clip, geometry=geometry))
    part = make_part(record.clip_id, "key", measured, quality=90)
    write_part(folder.part(0, 1), part)
    again = read_part(folder.part(0, 1))
    assert again is not None
    assert again.about == part.about
    from dferkit.preparation.shards import read_header

    first = (read_header(folder.shard(0)) or [])[0]["key"]
    about = folder.about.read_bytes()
    merge_shard(folder, 0, {0: first, 1: "key"})
    folder.about.write_bytes(about)
    store = FaceStore.open(out)
    assert store.read("00000").geometry is None
    back, some = store.read("00001").geometry, store.read("00001", frames=[3, 1]).geometry
    assert back is not None
    assert some is not None
    assert back.blend_shape_names == geometry.blend_shape_names
    for name in ("landmarks", "blend_shapes", "head_pose"):
        np.testing.assert_array_equal(getattr(back, name), getattr(geometry, name))
        np.testing.assert_array_equal(getattr(some, name), getattr(geometry, name)[[3, 1]])
    np.testing.assert_array_equal(store.read("00001").images.shape, (5, SIDE, SIDE, 3))


def test_a_cell_is_never_a_formula(tmp_path: Path) -> None:
    release = face_folders(tmp_path / "r", num_clips=1)
    record = replace(release.records[0], clip_id="=HYPERLINK()")
    made = replace(release, records=(record,))
    prepare_faces(made, tmp_path / "r", tmp_path / "s", PrepareConfig(size=SIDE), work=Work(workers=1))
    assert "\n'=HYPERLINK()," in (tmp_path / "s" / "index.csv").read_text()
    assert FaceStore.open(tmp_path / "s").read("=HYPERLINK()").images.shape[0] == 5
