"""The benchmark on disk: same bytes, resumable, and readable by the package's own video reader."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from class_words import find_class_words
from dferkit.datasets import check_disjoint, read_manifest
from dferkit.errors import DataError
from dferkit.faces import build_detector
from dferkit.faces.read import read_faces
from dferkit.facs import AU_NAMES, load_facs
from dferkit.labels import BASIC
from dferkit.storage import digest_file, read_json
from dferkit.synthetic import BenchmarkConfig, Nuisances, fingerprint, plan_clips, read_truth, render_benchmark
from dferkit.synthetic.anatomy import REGIONS
from dferkit.synthetic.sheet import contact_sheet
from dferkit.video import clip_window, decode_windows, index_video

CONFIG = BenchmarkConfig(clips=8)


def digests(folder: Path) -> dict[str, str]:
    """Every finished file (temporary ones start with a dot)."""
    return {
        str(p.relative_to(folder)): digest_file(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.startswith(".")
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark") / "one"
    render_benchmark(CONFIG, folder, workers=1)
    return folder


def test_same_bytes_with_one_and_two_workers(rendered: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    render_benchmark(CONFIG, tmp_path / "two", workers=2, on_progress=lambda a, b: calls.append((a, b)))
    assert digests(tmp_path / "two") == digests(rendered)
    assert calls[-1] == (8, 8)
    assert [a for a, _ in calls] == sorted(a for a, _ in calls)


def test_files_are_those_of_the_dictionary(rendered: Path) -> None:
    found = set(digests(rendered))
    assert found == {"clips.csv", "benchmark.json", "data_dictionary.md"} | {
        f"videos/clip{i:05d}.mp4" for i in range(8)
    } | {f"truth/clip{i:05d}.safetensors" for i in range(8)}
    about = read_json(rendered / "benchmark.json")
    assert about["version"] == 1
    assert about["fingerprint"] == fingerprint()


def test_manifest_reads_as_a_manifest(rendered: Path) -> None:
    records = read_manifest(rendered / "clips.csv")
    check_disjoint(records)
    plans = plan_clips(CONFIG)
    assert [(r.label, r.split) for r in records] == [(p.label, p.split) for p in plans]
    assert all(r.video.is_file() and r.subject for r in records)
    with (rendered / "clips.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["is_ambiguous"] for row in rows} <= {"true", "false"}
    assert all(row["skin_tone"].startswith("tone") for row in rows)


def test_deleted_files_come_back_as_they_were(rendered: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    render_benchmark(CONFIG, folder, workers=1)
    before = digests(folder)
    kept = (folder / "videos" / "clip00003.mp4").stat().st_mtime_ns
    for name in ("videos/clip00001.mp4", "truth/clip00005.safetensors", "clips.csv"):
        (folder / name).unlink()
    render_benchmark(CONFIG, folder, workers=1)
    assert digests(folder) == before
    assert (folder / "videos" / "clip00003.mp4").stat().st_mtime_ns == kept


def test_killed_rendering_goes_on_to_the_same_bytes(rendered: Path, tmp_path: Path) -> None:
    """The process group gets SIGKILL as soon as one video is there; the same call then finishes the rest."""
    folder = tmp_path / "killed"
    program = (
        "from dferkit.synthetic import BenchmarkConfig, render_benchmark\n"
        f"if __name__ == '__main__':\n    render_benchmark(BenchmarkConfig(clips=8), {str(folder)!r}, workers=1)\n"
    )
    (tmp_path / "render.py").write_text(program)
    child = subprocess.Popen([sys.executable, str(tmp_path / "render.py")], start_new_session=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(folder.glob("videos/clip*.mp4")):
        time.sleep(0.005)
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    done = len(list(folder.glob("videos/clip*.mp4")))
    assert 0 < done < 8
    assert not (folder / "clips.csv").exists(), "the manifest comes last: a folder that has one is complete"
    render_benchmark(CONFIG, folder, workers=1)
    assert digests(folder) == digests(rendered)


def test_other_settings_are_refused(rendered: Path) -> None:
    before = digests(rendered)
    for config, nuisances in (
        (BenchmarkConfig(clips=8, seed=1), None),
        (BenchmarkConfig(clips=9), None),
        (CONFIG, Nuisances.only("blink")),
    ):
        with pytest.raises(DataError, match="other settings"):
            render_benchmark(config, rendered, workers=1, nuisances=nuisances)
    assert digests(rendered) == before


def test_a_users_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("video,label\n")
    with pytest.raises(DataError, match="not rendered by dferkit"):
        render_benchmark(CONFIG, tmp_path, workers=1)
    assert (tmp_path / "clips.csv").read_text() == "video,label\n"


def test_truth_has_the_shapes_of_the_dictionary(rendered: Path) -> None:
    for plan in plan_clips(CONFIG):
        truth = read_truth(rendered, plan.clip_id)
        f, a = 16, len(AU_NAMES)
        shapes = {
            "au": (f, a),
            "soft_label": (7,),
            "timestamps": (f,),
            "blink": (f,),
            "speech": (f, 4),
            "gaze": (f, 2),
            "pose": (f, 3),
            "exposure": (f,),
            "flow_expression": (f, 14, 14),
            "flow_nuisance": (f, 14, 14),
            "regions": (14, 14),
            "heat": (a, 14, 14),
            "visible": (14, 14),
        }
        for name, shape in shapes.items():
            value = getattr(truth, name)
            assert value.shape == shape, name
            assert np.isfinite(value).all(), name
        assert truth.label == plan.label
        assert BASIC[int(truth.soft_label.argmax())] == plan.label
        assert truth.regions.min() >= -1
        assert truth.regions.max() < len(REGIONS)
        assert truth.heat.max() <= 1 + 1e-6
        np.testing.assert_allclose(truth.timestamps, np.arange(f) / 8)
        for event in truth.events:
            assert 0 <= event["start_seconds"] < event["end_seconds"] <= 2.0
            assert event["phrase"] in load_facs().action_units[event["action_unit"]].phrases
        assert not find_class_words(" ".join(truth.captions.values()))


def test_dictionary_names_every_array(rendered: Path) -> None:
    text = (rendered / "data_dictionary.md").read_text(encoding="utf-8")
    truth = read_truth(rendered, "clip00000")
    arrays = [name for name in truth.__slots__ if isinstance(getattr(truth, name), np.ndarray)]
    assert [name for name in arrays if f"| `{name}` |" not in text] == []


def test_missing_truth_says_so(rendered: Path) -> None:
    with pytest.raises(DataError, match="only rendered clips"):
        read_truth(rendered, "clip99999")


@pytest.mark.parametrize(("seconds", "fps", "size"), [(2.0, 8.0, 112), (1.0, 25.0, 64)])
def test_video_decodes_to_its_frames_and_times(tmp_path: Path, seconds: float, fps: float, size: int) -> None:
    config = BenchmarkConfig(clips=1, seconds=seconds, fps=fps, size=size)
    render_benchmark(config, tmp_path, workers=1)
    index = index_video(tmp_path / "videos" / "clip00000.mp4")
    assert (index.width, index.height) == (size, size)
    assert not index.is_truncated
    assert index.duration_seconds == pytest.approx(seconds, abs=1e-3)
    (frames,) = decode_windows(index, [clip_window(index.duration_seconds, config.num_frames)])
    assert frames.indices.tolist() == list(range(config.num_frames))
    np.testing.assert_allclose(frames.timestamps, np.arange(config.num_frames) / fps, atol=1e-3)
    np.testing.assert_allclose(frames.timestamps, read_truth(tmp_path, "clip00000").timestamps, atol=1e-3)


def test_faces_are_found_in_the_files(rendered: Path) -> None:
    detector = build_detector("haar")
    coverage = []
    for record in read_manifest(rendered / "clips.csv"):
        index = index_video(record.video)
        (faces,) = read_faces(index, [clip_window(index.duration_seconds, 16)], detector)
        coverage.append(faces.clips[0].quality.coverage if faces.clips else 0.0)
    assert np.mean(coverage) >= 0.95


def test_contact_sheet() -> None:
    sheet = contact_sheet(BenchmarkConfig(clips=12), people=1, size=64)
    assert sheet.shape == (64, 7 * 64, 3)
    assert sheet.dtype == np.uint8
