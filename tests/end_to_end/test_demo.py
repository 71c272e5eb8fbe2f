"""The whole demo, small."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SMALL = "from dferkit.recipes.demo import DemoConfig, run_demo; from dferkit.training.loop import TrainingConfig; import sys\nif __name__ == '__main__': run_demo(sys.argv[1], DemoConfig(clips=140, natural_clips=140, training=TrainingConfig(epochs=2), deletion_clips=4, shown_clips=2), workers=2)\n"


def _start(folder: Path, script: Path) -> subprocess.Popen[bytes]:
    script.write_text(SMALL)
    return subprocess.Popen(
        [sys.executable, str(script), str(folder)], env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True
    )


def test_demo_writes_everything(tmp_path):
    whole = tmp_path / "whole"
    assert _start(whole, tmp_path / "run.py").wait(timeout=400) == 0
    results = json.loads((whole / "results.json").read_text())
    for name in ("grace", "grace_cosine", "grace_sentence", "grace_no_motion", "vision_only", "text_only", "coarse"):
        assert {"uar", "war", "uar_ci95", "per_class_recall"} <= set(results["models"][name])
    assert {"true_au_captions", "shuffled_captions", "shuffled_topk"} == set(results["controls"])
    assert {"motion", "localisation", "deletion"} == set(results["claims"])
    assert 0 < results["ceiling"]["uar"] <= 1
    assert (whole / "report.html").stat().st_size < 5_000_000
    assert (whole / "checkpoints" / "grace" / "model.safetensors").is_file()
    assert json.loads((whole / "run.json").read_text())["seconds"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_results_also_after_a_kill(tmp_path):
    """Killed in the middle and run again, it ends with the same results as an uninterrupted run."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    first = _start(killed, tmp_path / "run.py")
    deadline = time.monotonic() + 240
    while (
        not (killed / "posed" / "rows" / "grace.safetensors").exists()
        and time.monotonic() < deadline
        and first.poll() is None
    ):
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert _start(killed, tmp_path / "run.py").wait(timeout=400) == 0
    assert _start(whole, tmp_path / "run.py").wait(timeout=400) == 0
    assert (killed / "results.json").read_bytes() == (whole / "results.json").read_bytes()


@pytest.mark.slow
def test_full_demo_reaches_its_floor(tmp_path):
    from dferkit.recipes.demo import run_demo

    results = run_demo(tmp_path / "demo")
    assert 0.80 <= results["ceiling"]["uar"] <= 0.95
    assert results["share_of_ceiling"]["grace"] >= 0.90
