"""Every planted fault is found: the right finding, its sentence, its place; and nothing is found where nothing was planted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dferkit.datasets import Options
from dferkit.errors import ConfigError
from dferkit.inspection import check_release
from dferkit.inspection.check import CheckReport
from dferkit.mini_release import FAULTS, plant_fault

LISTS = [name for name, fault in FAULTS.items() if fault.needs == "lists"]
MEDIA = [name for name, fault in FAULTS.items() if fault.needs == "media"]


def options_for(*names: str) -> Options:
    return Options(**dict.fromkeys(names, True))


@pytest.mark.parametrize("layout", ["dfew", "ferv39k", "mafw-single", "mafw-compound"])
def test_full_size_lists_are_clean(full_lists: dict[str, Path], layout: str) -> None:
    names = ["strict", *(["with_captions"] if layout.startswith("mafw") else [])]
    report = check_release(layout, full_lists[layout], options=options_for(*names), depth="lists")
    assert report.is_clean, [str(f) for f in report.findings]
    assert {f.code for f in report.findings} <= {"CAPTION_LEAK"}
    assert report.as_dict()["num_clips"] == report.as_dict()["published_clips"]


def check_planted(name: str, report: CheckReport) -> None:
    fault = FAULTS[name]
    found = [f for f in report.findings if f.code == fault.code]
    assert any(fault.message in f.message for f in found), [str(f) for f in report.findings][:5]
    assert report.is_clean != fault.fails


@pytest.mark.parametrize("name", LISTS)
def test_faults_of_lists(full_lists: dict[str, Path], tmp_path: Path, name: str) -> None:
    fault = FAULTS[name]
    root = Path(shutil.copytree(full_lists[fault.layout], tmp_path / "release"))
    plant_fault(name, root)
    check_planted(name, check_release(fault.layout, root, options=options_for(*fault.options), depth="lists"))


@pytest.mark.parametrize("name", MEDIA)
def test_faults_of_media(small_releases: dict[str, Path], tmp_path: Path, name: str) -> None:
    fault = FAULTS[name]
    root = Path(shutil.copytree(small_releases[fault.layout], tmp_path / "release"))
    plant_fault(name, root)
    check_planted(name, check_release(fault.layout, root, options=options_for(*fault.options)))


def test_small_releases_are_clean(small_releases: dict[str, Path]) -> None:
    for layout, root in small_releases.items():
        report = check_release(layout, root)
        assert report.is_clean, [str(f) for f in report.findings]
        assert report.media is not None
        assert set(report.media.frames.values()) == {11, 12}


def test_there_are_enough_faults() -> None:
    assert sum(fault.fails for fault in FAULTS.values()) >= 25
    with pytest.raises(ConfigError, match="did you mean 'dfew-leak'"):
        plant_fault("dfew-leek", Path())


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("dfew-label-8", "EmoLabel_DataSplit/train(single-labeled)/set_1.csv:4"),
        ("ferv39k-comma", "4_setups/All_scenes/train_All.csv:2"),
        ("mafw-number", "Train & Test Set/single/no_caption/set_1/train.txt:2"),
        ("dfew-nul", "EmoLabel_DataSplit/train(single-labeled)/set_1.csv:5"),
    ],
)
def test_place_of_a_fault_is_its_line(full_lists: dict[str, Path], tmp_path: Path, name: str, where: str) -> None:
    """The line number is counted from 1, with the header, as an editor shows it."""
    fault = FAULTS[name]
    root = Path(shutil.copytree(full_lists[fault.layout], tmp_path / "release"))
    plant_fault(name, root)
    report = check_release(fault.layout, root, depth="lists")
    place = next(f.where for f in report.findings if f.code == fault.code)
    if name == "dfew-nul":
        file, line = place.rsplit(":", 1)
        text = (root / file).read_bytes()
        assert b"\0" in text.split(b"\n")[int(line) - 1]
    else:
        assert place == where


def test_all_faults_of_a_file_are_told_at_once(full_lists: dict[str, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(full_lists["dfew"], tmp_path / "release"))
    planted = ["dfew-label-8", "dfew-clip-20000", "dfew-semicolon", "dfew-leak"]
    for name in planted:
        plant_fault(name, root)
    found = {f.code for f in check_release("dfew", root, depth="lists").findings}
    assert {FAULTS[name].code for name in planted} <= found
