"""Probe sets as files: one nuisance, or the direction of time, and nothing else."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from dferkit.errors import ConfigError
from dferkit.storage import digest_file
from dferkit.synthetic import BenchmarkConfig, read_truth
from dferkit.synthetic.probes import render_order_probe, render_probe
from dferkit.video import clip_window, decode_windows, index_video


def rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def pictures(path: Path) -> np.ndarray:
    index = index_video(path)
    (frames,) = decode_windows(index, [clip_window(index.duration_seconds, 16)])
    return frames.images.astype(float)


@pytest.mark.parametrize("name", ["none", "camera"])
def test_a_probe_has_its_nuisance_in_the_truth(name: str, tmp_path: Path) -> None:
    manifest = render_probe(BenchmarkConfig(clips=4, size=64), tmp_path, name, workers=1)
    moved = [bool(read_truth(tmp_path, Path(row["video"]).stem).flow_nuisance.any()) for row in rows(manifest)]
    assert any(moved) == (name == "camera")
    assert all(row["subject"].startswith("probe-") for row in rows(manifest))


def test_unknown_probe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose none, blink"):
        render_probe(BenchmarkConfig(clips=4), tmp_path, "blinks")


def test_order_pairs_differ_only_in_the_direction_of_time(tmp_path: Path) -> None:
    manifest = render_order_probe(BenchmarkConfig(clips=6, size=64), tmp_path / "a")
    found = rows(manifest)
    assert [row["label"] for row in found] == ["onset", "offset"] * 3
    for first, second in zip(found[::2], found[1::2], strict=True):
        assert first["pair"] == second["pair"]
        assert (first["subject"], first["split"]) == (second["subject"], second["split"])
        onset, offset = (pictures(manifest.parent / row["video"]) for row in (first, second))
        np.testing.assert_array_equal(onset, offset[::-1])
        assert np.abs(onset[0] - onset[-1]).max() > 20
    again = render_order_probe(BenchmarkConfig(clips=6, size=64), tmp_path / "b")
    assert again.read_bytes() == manifest.read_bytes()
    for row in found:
        assert digest_file(tmp_path / "a" / row["video"]) == digest_file(tmp_path / "b" / row["video"])
