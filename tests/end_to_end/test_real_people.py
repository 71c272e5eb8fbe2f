"""Real people's clips, where the folder is at hand: right statuses, never a label for a cartoon."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

MEDIA = os.environ.get("DFERKIT_MEDIA")
pytestmark = pytest.mark.skipif(not MEDIA, reason="DFERKIT_MEDIA is not set")


def test_every_real_file_gets_its_row_and_status(run, tmp_path):
    files = sorted(p for p in Path(str(MEDIA)).iterdir() if p.suffix != ".md")
    done = run("predict", *files, "--out", tmp_path, "--face", "haar")
    assert done.returncode == 1  # the still pictures cannot be read
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert set(table["input"]) == {p.name for p in files}
    pictures = table[table["input"].str.endswith(".jpg")]
    assert (pictures["status"] == "unreadable").all()
    cartoon = table[table["input"] == "pyfeat_no_face.mp4"]
    assert (cartoon["status"] == "no_face").all()
    assert cartoon["label"].isna().all()
    for name in ("pyfeat_single_face.mp4", "openwillis_baseline.mp4", "ravdess_happy_01-01-03-02-02-01-01.gif"):
        assert set(table[table["input"] == name]["status"]) <= {"ok", "abstain", "low_coverage"}
    frames = pd.read_csv(tmp_path / "frames.csv")
    half = frames[frames["input"] == "pyfeat_face_noface.mov"]
    assert 0.2 < half["success"].mean() < 0.7
