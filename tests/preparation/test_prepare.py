"""A release becomes a store: what is in it, and that only the clips and the settings decide its bytes."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load
from small_release import SIDE, face_folders, files, picture

from dferkit.errors import CheckpointError, ConfigError, ManifestError
from dferkit.faces import Crop, HaarDetector, build_detector, read_clip_faces
from dferkit.preparation import FaceStore, PrepareConfig, Work, estimate_preparation, prepare_faces, run, shards
from dferkit.schema import Record, Release
from dferkit.synthetic import BenchmarkConfig, render_benchmark, write_video
from dferkit.tokens.features import read_clip

SMALL = PrepareConfig(size=SIDE)
Faces = tuple[Release, Path]


@pytest.fixture(scope="module")
def store(faces: Faces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of ``faces``, made in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "CLIPS_PER_SHARD", 4)
        out = tmp_path_factory.mktemp("made") / "store"
        prepare_faces(*faces, out, SMALL, work=Work(workers=1))
    return out


def test_what_lies_on_disk(faces: Faces, store: Path) -> None:
    assert list(files(store)) == [
        *(f"faces/faces-{n:05d}.safetensors" for n in range(3)),
        "index.csv",
        "release.json",
        "store.json",
    ]
    assert not [p for p in store.rglob("*") if p.name == "parts"]
    about = json.loads((store / "store.json").read_text())
    assert about["statuses"] == {"too_short": 9, "unreadable": 2}
    assert about["failures"] == {"anger": {"unreadable": 1}, "joy": {"unreadable": 1}}
    assert about["num_clips"] == 11
    assert about["num_bytes"] == sum(len(v) for name, v in files(store).items() if name.startswith("faces/"))
    for name, data in files(store).items():
        assert str(faces[1]).encode() not in data, f"{name} tells a path of this machine"
        assert str(store).encode() not in data


def test_pictures_are_rgb_jpegs_of_the_whole_picture(faces: Faces, store: Path) -> None:
    """Read by another library, straight from the file; nothing of dferkit takes part."""
    arrays = load((store / "faces" / "faces-00002.safetensors").read_bytes())
    for place, clip in enumerate((8, 9, 10)):
        offsets = arrays[f"{place:04d}/offsets"]
        assert len(offsets) == 6
        for frame in range(5):
            data = arrays[f"{place:04d}/jpeg"][offsets[frame] : offsets[frame + 1]].tobytes()
            image = Image.open(io.BytesIO(data))
            assert image.mode == "RGB"
            assert "progressive" not in image.info
            wrong = np.abs(np.asarray(image).astype(int) - picture(clip, frame))
            assert wrong.mean() < 2
            assert wrong.max() < 16
    assert offsets[-1] == len(arrays["0002/jpeg"])


def test_a_cut_face_gets_no_margin_and_loses_none(tmp_path: Path) -> None:
    """Crops before the JPEG: equal where the size is the same, the same ramp from edge to edge where it is not."""
    for number in range(3):
        Image.fromarray(picture(0, number)).save(tmp_path / f"{number}.png")
    record = Record(clip_id="a", video=tmp_path)
    same = read_clip_faces(record, build_detector("cropped"), crop=Crop(size=SIDE)).clip
    assert same is not None
    for number in range(3):
        np.testing.assert_array_equal(same.images[number], picture(0, number))
    for size in (224, 24):
        other = read_clip_faces(record, build_detector("cropped"), crop=Crop(size=size)).clip
        assert other is not None
        at = np.clip((np.arange(size) + 0.5) * SIDE / size - 0.5, 0, SIDE - 1)
        ramp = 40 + 170 * at / (SIDE - 1)
        # Averaging at the edges of a smaller picture is what the 1.5 levels are for.
        np.testing.assert_allclose(other.images[1, size // 2, :, 0], ramp, atol=2.5)


def test_the_index_has_a_row_for_every_clip(faces: Faces, store: Path) -> None:
    with open(store / "index.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["clip_id"] for row in rows] == [record.clip_id for record in faces[0].records]
    assert [(int(r["shard"]), int(r["place"])) for r in rows] == [divmod(i, 4) for i in range(11)]
    good = [row for row in rows if row["status"] == "too_short"]
    assert len(good) == 9
    for row in good:
        assert (row["num_frames"], row["num_face_frames"], float(row["coverage"])) == ("5", "5", 1.0)
        assert row["detector"] == "cropped"
        assert row["message"] == "only 5 different frames, so the result is weak"
        assert float(row["end_seconds"]) == 0.2
    assert (
        rows[4]["message"]
        == "00004/ holds no picture (.jpg, .jpeg, .png, .bmp, .webp): give a video file, or a folder of one video's frames"
    )
    assert rows[7]["message"].startswith("00007: not found")
    assert len({row["digest"] for row in rows}) == 11


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_changes_nothing(workers: int, faces: Faces, store: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    done = prepare_faces(
        *faces, tmp_path / "s", SMALL, work=Work(workers=workers), on_progress=lambda a, b: seen.append((a, b))
    )
    assert files(tmp_path / "s") == files(store)
    assert done.statuses == {"too_short": 9, "unreadable": 2}
    assert (done.num_new, done.num_frames, done.missing) == (11, 45, ())
    assert seen == [(n, 11) for n in range(1, 12)]


def test_shards_of_the_work_add_up(faces: Faces, store: Path, tmp_path: Path) -> None:
    first = prepare_faces(*faces, tmp_path / "s", SMALL, work=Work(shard=(0, 2), workers=1))
    assert first.missing == (1,)
    assert first.num_clips == 7
    assert not (tmp_path / "s" / "store.json").exists()
    with pytest.raises(CheckpointError, match="not a complete store"):
        FaceStore.open(tmp_path / "s")
    second = prepare_faces(*faces, tmp_path / "s", SMALL, work=Work(shard=(1, 2), workers=1))
    assert second.missing == ()
    assert files(tmp_path / "s") == files(store)


def test_folders_of_two_machines_are_copied_together(faces: Faces, store: Path, tmp_path: Path) -> None:
    for i in range(2):
        prepare_faces(*faces, tmp_path / str(i), SMALL, work=Work(shard=(i, 2), workers=1))
    shutil.copytree(tmp_path / "1", tmp_path / "0", dirs_exist_ok=True)
    done = prepare_faces(*faces, tmp_path / "0", SMALL, work=Work(shard=(0, 2), workers=1))
    assert done.num_new == 0
    assert files(tmp_path / "0") == files(store)


def _prepare(faces: Faces, out: Path, shard: tuple[int, int]) -> None:
    shards.CLIPS_PER_SHARD = 4
    prepare_faces(*faces, out, SMALL, work=Work(shard=shard, workers=1))


def test_processes_share_a_folder(faces: Faces, store: Path, tmp_path: Path) -> None:
    context = get_context("spawn")
    for _ in range(2):
        out = tmp_path / "s"
        runs = [context.Process(target=_prepare, args=(faces, out, (i, 3))) for i in range(3)]
        for one in runs:
            one.start()
        for one in runs:
            one.join()
        assert [one.exitcode for one in runs] == [0, 0, 0]
        assert files(out) == files(store)
        shutil.rmtree(out)


def test_a_second_call_changes_nothing(faces: Faces, store: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in store.glob("faces/*")}
    done = prepare_faces(*faces, store, SMALL, work=Work(workers=1))
    assert done.num_new == 0
    assert {p: p.stat().st_mtime_ns for p in store.glob("faces/*")} == before


def test_a_changed_source_is_read_again(tmp_path: Path) -> None:
    root = tmp_path / "release"
    release = face_folders(root)
    out = tmp_path / "store"
    prepare_faces(release, root, out, SMALL, work=Work(workers=1))
    path = release.records[5].video / "2.png"
    Image.fromarray(picture(5, 9)).save(path)
    release.records[7].video.mkdir()
    shutil.copy(path, release.records[7].video / "1.png")
    done = prepare_faces(release, root, out, SMALL, work=Work(workers=1))
    assert done.num_new == 2
    assert done.statuses == {"too_short": 10, "unreadable": 1}
    prepare_faces(release, root, tmp_path / "fresh", SMALL, work=Work(workers=1))
    assert files(out) == files(tmp_path / "fresh")


def test_faces_stay_when_their_source_is_gone(tmp_path: Path) -> None:
    root = tmp_path / "release"
    release = face_folders(root)
    out = tmp_path / "store"
    prepare_faces(release, root, out, SMALL, work=Work(workers=1))
    before = files(out)
    shutil.rmtree(root / "faces")
    done = prepare_faces(release, root, out, SMALL, work=Work(workers=1, verify=True))
    assert done.num_new == 0
    assert files(out) == before


def test_shards_of_other_settings_are_never_mixed_in(faces: Faces, store: Path, tmp_path: Path) -> None:
    """Files copied from another store are made again where their source is there, and where it is not, too."""
    prepare_faces(*faces, tmp_path / "other", replace(SMALL, quality=50), work=Work(workers=1))
    shutil.copytree(store, tmp_path / "s")
    for number in (0, 1):
        name = f"faces/faces-0000{number}.safetensors"
        shutil.copy(tmp_path / "other" / name, tmp_path / "s" / name)
    assert prepare_faces(*faces, tmp_path / "s", SMALL, work=Work(workers=1)).num_new == 8
    assert files(tmp_path / "s") == files(store)


def test_a_process_without_shards_does_nothing(faces: Faces, tmp_path: Path) -> None:
    done = prepare_faces(*faces, tmp_path / "s", SMALL, work=Work(shard=(5, 9), workers=1))
    assert (done.num_clips, done.num_new, done.missing) == (0, 0, (0, 1, 2))


@pytest.mark.parametrize(
    "changed",
    [
        {"size": 64},
        {"quality": 80},
        {"max_frames": 3},
        {"face": "haar"},
    ],
)
def test_other_settings_are_refused(changed: dict[str, object], faces: Faces, store: Path) -> None:
    before = files(store)
    with pytest.raises(ConfigError, match="was started with other settings") as caught:
        prepare_faces(*faces, store, replace(SMALL, **changed), work=Work(workers=1))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert files(store) == before


def test_other_clips_are_refused(faces: Faces, store: Path) -> None:
    release, root = faces
    before = files(store)
    moved = replace(release.records[0], video=release.records[1].video)
    for other in (
        replace(release, records=release.records[:-1]),
        replace(release, records=(moved, *release.records[1:])),
        replace(release, layout="other"),
    ):
        with pytest.raises(ConfigError, match="holds other clips"):
            prepare_faces(other, root, store, SMALL, work=Work(workers=1))
    assert files(store) == before


def test_other_annotations_are_taken_over_without_cutting_again(faces: Faces, tmp_path: Path) -> None:
    """Labels, votes and findings do not change a face."""
    release, root = faces
    prepare_faces(release, root, tmp_path / "store", SMALL, work=Work(workers=1))
    shards = {p: p.stat().st_mtime_ns for p in (tmp_path / "store" / "faces").iterdir()}
    told = replace(
        release,
        annotation_digest="1" * 64,
        media_reason="in other words",
        findings=(),
        records=tuple(replace(r, label="joy", votes=(0.0, 1.0)) for r in release.records),
    )
    prepare_faces(told, root, tmp_path / "store", SMALL, work=Work(workers=1))
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "store" / "faces").iterdir()} == shards
    opened = FaceStore.open(tmp_path / "store").release
    assert (opened.annotation_digest, opened.media_reason) == ("1" * 64, "in other words")
    assert all(r.votes == (0.0, 1.0) for r in opened.records)
    prepare_faces(told, root, tmp_path / "fresh", SMALL, work=Work(workers=1))
    assert files(tmp_path / "fresh") == files(tmp_path / "store")


def test_a_store_in_the_release_is_refused(faces: Faces) -> None:
    release, root = faces
    for out in (root, root / "faces", root / "store"):
        with pytest.raises(ConfigError, match="is inside the release"):
            prepare_faces(release, root, out, SMALL, work=Work(workers=1))
    assert not (root / "store").exists()


def test_a_folder_with_other_faces_is_refused(faces: Faces, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    with pytest.raises(ConfigError, match=r"no release\.json"):
        prepare_faces(*faces, tmp_path, SMALL, work=Work(workers=1))


def test_releases_that_cannot_be_stored(faces: Faces, tmp_path: Path) -> None:
    release, root = faces
    with pytest.raises(ManifestError, match="no clips"):
        prepare_faces(replace(release, records=()), root, tmp_path / "s", SMALL)
    with pytest.raises(ManifestError, match="two clips are named 00001"):
        prepare_faces(replace(release, records=(*release.records, release.records[1])), root, tmp_path / "s", SMALL)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("place", [0.15, 0.5, 0.9, 0.999])
def test_a_flipped_bit_is_found_and_mended(place: float, faces: Faces, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "s")
    path = tmp_path / "s" / "faces" / "faces-00000.safetensors"
    data = bytearray(path.read_bytes())
    start = int.from_bytes(data[:8], "little") + 8
    data[start + int((len(data) - start) * place)] ^= 4
    path.write_bytes(data)
    damaged = FaceStore.open(tmp_path / "s")
    complaints = []
    for clip_id in ("00000", "00001", "00002", "00003"):
        try:
            damaged.read(clip_id, frames=[0])
        except CheckpointError as error:
            complaints.append(str(error))
    assert len(complaints) == 1
    assert "prepare --verify" in complaints[0]
    done = prepare_faces(*faces, tmp_path / "s", SMALL, work=Work(workers=1, verify=True))
    assert done.num_new == 1
    assert files(tmp_path / "s") == files(store)


def test_a_flipped_bit_of_the_header_never_gives_other_faces(store: Path, tmp_path: Path) -> None:
    """Names, types, shapes and places of the arrays stand in the header; a wrong one must not be believed."""
    shutil.copytree(store, tmp_path / "s")
    path = tmp_path / "s" / "faces" / "faces-00000.safetensors"
    good = path.read_bytes()
    names = ("00000", "00001", "00002", "00003")
    wanted = {name: FaceStore.open(store).read(name) for name in names}
    rng = np.random.default_rng(0)
    found = 0
    for at in rng.integers(0, int.from_bytes(good[:8], "little") + 8, 150):
        data = bytearray(good)
        data[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            damaged = FaceStore.open(tmp_path / "s")
            clips = {name: damaged.read(name) for name in names}
        except CheckpointError:
            found += 1
            continue
        for name, clip in clips.items():
            np.testing.assert_array_equal(clip.images, wanted[name].images)
            np.testing.assert_array_equal(clip.track.boxes, wanted[name].track.boxes)
            assert clip.quality == wanted[name].quality
    assert found > 100


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "gone"])
def test_a_damaged_shard_is_made_again(damage: str, faces: Faces, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "s")
    path = tmp_path / "s" / "faces" / "faces-00001.safetensors"
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-1], "empty": b"", "text": b"nothing", "gone": b""}[damage])
    if damage == "gone":
        path.unlink()
    with pytest.raises(CheckpointError, match="run dferkit prepare again"):
        FaceStore.open(tmp_path / "s")
    assert prepare_faces(*faces, tmp_path / "s", SMALL, work=Work(workers=1)).num_new == 4
    assert files(tmp_path / "s") == files(store)


def test_two_shards_that_changed_places_are_found(faces: Faces, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "s")
    a, b = (tmp_path / "s" / "faces" / f"faces-0000{n}.safetensors" for n in (0, 1))
    first = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(first)
    with pytest.raises(CheckpointError, match="another release"):
        FaceStore.open(tmp_path / "s")
    prepare_faces(*faces, tmp_path / "s", SMALL, work=Work(workers=1))
    assert files(tmp_path / "s") == files(store)


def test_an_estimate_before_the_work(faces: Faces, store: Path, tmp_path: Path) -> None:
    told = []
    prepare_faces(*faces, tmp_path / "s", SMALL, work=Work(workers=1), on_estimate=told.append)
    (estimate,) = told
    assert (estimate.num_clips, estimate.num_pending, estimate.workers) == (11, 11, 1)
    stored = sum(p.stat().st_size for p in (tmp_path / "s" / "faces").iterdir())
    assert 0.5 * stored < estimate.num_bytes < 2 * stored
    assert estimate.hours > 0
    prepare_faces(*faces, tmp_path / "s", SMALL, work=Work(workers=1), on_estimate=told.append)
    assert (told[1].num_pending, told[1].num_bytes, told[1].hours) == (0, 0, 0)
    assert "11 clips (11 are there already)" in str(told[1])


def test_a_dry_run_leaves_nothing(faces: Faces, tmp_path: Path) -> None:
    estimate = estimate_preparation(*faces, tmp_path / "s", SMALL, work=Work(workers=2))
    assert estimate.num_pending == 11
    assert not (tmp_path / "s").exists()


def test_what_does_not_fit_is_refused(
    faces: Faces, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "free_bytes", lambda folder: 3000)
    with pytest.raises(ConfigError, match=r"s/ needs about .* kB, but 3 kB are free"):
        prepare_faces(*faces, tmp_path / "s", SMALL, work=Work(workers=1))
    assert not list((tmp_path / "s").glob("faces/*"))
    monkeypatch.undo()
    monkeypatch.setattr(shards, "CLIPS_PER_SHARD", 4)
    # What was timed is kept.
    assert prepare_faces(*faces, tmp_path / "s", SMALL, work=Work(workers=1)).num_new == 3
    assert files(tmp_path / "s") == files(store)


@pytest.mark.parametrize(
    "changed", [{"size": 8}, {"size": 4096}, {"quality": 0}, {"quality": 101}, {"max_frames": -1}, {"margin": 5.0}]
)
def test_settings_out_of_range(changed: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"(size|quality|max_frames|margin) is .*; give "):
        PrepareConfig(**changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 0)])
def test_shards_out_of_range(shard: tuple[int, int], faces: Faces, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give i/n"):
        prepare_faces(*faces, tmp_path / "s", SMALL, work=Work(shard=shard))
    with pytest.raises(ConfigError, match="local, ray"):
        prepare_faces(*faces, tmp_path / "s", SMALL, work=Work(backend="rey"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    """Three rendered people, one video without a face, one that is none."""
    root = tmp_path_factory.mktemp("videos")
    render_benchmark(BenchmarkConfig(clips=3), root, workers=1)
    paths = sorted((root / "videos").glob("*.mp4"))
    write_video(root / "grey.mp4", np.full((16, 64, 64, 3), 128, np.uint8), 8.0)
    (root / "text.mp4").write_text("no video")
    named = [*paths, root / "grey.mp4", root / "text.mp4"]
    records = tuple(Record(clip_id=p.stem, video=p, label="joy") for p in named)
    release = replace(face_folders(root / "unused"), records=records, folds=(), media="videos", media_kind="videos")
    return release, root


def test_faces_are_found_in_videos(videos: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DFERKIT_MODELS", raising=False)
    release, root = videos
    done = prepare_faces(release, root, tmp_path / "s", PrepareConfig(max_frames=6), work=Work(workers=2))
    assert done.statuses == {"ok": 3, "no_face": 1, "unreadable": 1}
    store = FaceStore.open(tmp_path / "s")
    detector = HaarDetector()
    for record in release.records[:3]:
        clip = store.read(record.clip_id)
        assert clip.images.shape == (6, 224, 224, 3)
        assert clip.track.detector == "haar"
        numbers = [int((i + 0.5) * 16 / 6) for i in range(6)]
        np.testing.assert_array_equal(store.frame_numbers(record.clip_id), numbers)
        np.testing.assert_allclose(clip.timestamps, np.array(numbers) / 8, atol=1e-6)
        # The same frames by OpenCV's own reader.
        capture = cv2.VideoCapture(str(record.video))
        frames = [capture.read()[1][..., ::-1] for _ in range(16)]
        assert store.frame_size(record.clip_id) == (frames[0].shape[1], frames[0].shape[0])
        for k, number in enumerate(numbers):
            if not clip.track.found[k]:
                continue
            boxes = detector.detect(np.ascontiguousarray(frames[number]))
            x, y, w, h = clip.track.boxes[k]
            if boxes:
                best = boxes[0]
                assert abs(best.x + best.width / 2 - x - w / 2) < 0.15 * w
                assert abs(best.y + best.height / 2 - y - h / 2) < 0.15 * h
            # The middle of the crop shows the middle of the box, in the same colours.
            middle = frames[number][int(y + h / 2) - 3 : int(y + h / 2) + 3, int(x + w / 2) - 3 : int(x + w / 2) + 3]
            assert np.abs(clip.images[k, 104:120, 104:120].mean((0, 1)) - middle.mean((0, 1))).max() < 20
    assert store.statuses["grey"].status == "no_face"
    assert "no face in 6 sampled frames" in store.statuses["grey"].message
    assert "text.mp4" in store.statuses["text"].message


def test_training_says_the_same_of_a_clip(videos: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen frames of sixteen: both ways of sampling look at the same ones."""
    monkeypatch.delenv("DFERKIT_MODELS", raising=False)
    release, root = videos
    prepare_faces(
        release, root, tmp_path / "s", PrepareConfig(face="haar", size=112, quality=100), work=Work(workers=1)
    )
    store = FaceStore.open(tmp_path / "s")
    for record in release.records:
        clip, status, size = read_clip(record, build_detector("haar"))
        assert store.statuses[record.clip_id] == status
        assert store.frame_size(record.clip_id) == size
        if clip is not None:
            stored = store.read(record.clip_id)
            np.testing.assert_array_equal(stored.track.boxes, clip.track.boxes)
            np.testing.assert_array_equal(stored.timestamps, clip.timestamps)
            assert stored.quality == clip.quality
            assert np.abs(stored.images.astype(int) - clip.images).mean() < 2


def test_boxes_from_a_table(videos: Faces, tmp_path: Path) -> None:
    release, root = videos
    release = replace(release, records=release.records[:1])
    name = release.records[0].clip_id
    table = tmp_path / "boxes.csv"
    rows = [f"{name},{n},20,30,40,40" for n in range(16)]
    table.write_text("\n".join(["input,frame,FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight", *rows]) + "\n")
    prepare_faces(release, root, tmp_path / "s", PrepareConfig(face=str(table)), work=Work(workers=1))
    boxes = FaceStore.open(tmp_path / "s").read(name).track.boxes
    np.testing.assert_allclose(boxes, np.tile([20, 30, 40, 40], (16, 1)))
    assert str(tmp_path).encode() not in b"".join(files(tmp_path / "s").values())
    table.write_text(table.read_text().replace(",20,30", ",22,30"))
    with pytest.raises(ConfigError, match="other settings"):
        prepare_faces(release, root, tmp_path / "s", PrepareConfig(face=str(table)), work=Work(workers=1))
