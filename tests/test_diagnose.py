"""``dferkit doctor``: a finding for everything, an exception for nothing."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import cv2
import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from dferkit import diagnose as subject
from dferkit.cli.doctor import doctor
from dferkit.diagnose import BROKEN, NOTE, OK, Check, diagnose
from dferkit.encoders.box import BOX_FOLDER, WEIGHTS
from dferkit.encoders.box_net import BoxNet
from dferkit.encoders.network_files import save_network

NAMES = [
    "versions",
    "device",
    "video library",
    "face detector",
    "landmarker",
    "box",
    "writing",
    "decoding",
    "disk",
    "extras",
]


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(doctor)
    return made


@pytest.fixture
def all_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """The box may not be there yet: its check has tests of its own."""
    monkeypatch.setattr(subject, "check_box", lambda: Check(name="box", state=OK, text="verified"))


@pytest.mark.usefixtures("all_well")
def test_this_installation_is_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DFERKIT_MODELS", raising=False)
    found = diagnose(tmp_path)
    assert [check.name for check in found.checks] == NAMES
    assert found.is_usable, [c for c in found.checks if c.state == BROKEN]
    states = {check.name: check for check in found.checks}
    assert states["face detector"].state == NOTE
    assert "DFERKIT_MODELS is not set" in states["face detector"].text
    assert states["decoding"].details == {"frames_written": 8, "frames_decoded": 8, "frames_with_face": 8}
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("all_well")
def test_json_and_exit_code(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["--json"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["is_usable"] is True
    assert [row["name"] for row in found["checks"]] == NAMES


@pytest.mark.usefixtures("all_well")
def test_plain_text_without_a_terminal(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 0
    assert "\x1b" not in done.stdout
    assert "Ready." in done.stdout


def test_broken_is_exit_code_1(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "check_box", lambda: Check(name="box", state=BROKEN, text="gone"))
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 1
    assert "Not usable yet: box." in done.stdout


@pytest.mark.usefixtures("all_well")
def test_opencv_without_cascades_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DFERKIT_MODELS", raising=False)
    monkeypatch.delattr(cv2, "CascadeClassifier")
    states = {check.name: check for check in diagnose().checks}
    assert states["face detector"].state == states["decoding"].state == BROKEN
    assert "opencv-python-headless<5" in states["face detector"].text


def test_a_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Check:
        raise OSError("no such disk")

    monkeypatch.setattr(subject, "check_writing", fail)
    states = {check.name: check for check in diagnose().checks}
    assert states["writing"].state == BROKEN
    assert "OSError: no such disk" in states["writing"].text


def test_no_box(tmp_path: Path) -> None:
    check = subject.check_box(tmp_path / "nothing")
    assert check.state == BROKEN
    assert "dferkit pretrain" in check.text


def test_half_a_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    save_network(BoxNet(), tmp_path / WEIGHTS)
    original = subject.check_box
    monkeypatch.setattr(subject, "check_box", lambda: original(tmp_path))
    states = {check.name: check for check in diagnose().checks}
    assert states["box"].state == BROKEN
    assert "grace" in states["box"].text


@pytest.mark.parametrize(("front_end", "file", "part"), [
    ("both", "combined.json", "visual encoder"), ("landmarks", "joint-landmarks.safetensors", "joint space"), ("pixels", "joint.safetensors", "joint space"),
])  # fmt: skip
def test_weights_of_another_version_are_found(tmp_path: Path, front_end: str, file: str, part: str) -> None:
    """The head of every front end is checked against the files that it was trained on."""
    shutil.copytree(BOX_FOLDER, tmp_path / "box")
    assert subject.check_box(tmp_path / "box").state == OK
    changed = tmp_path / "box" / file
    if changed.suffix == ".json":
        changed.write_text(changed.read_text().replace("0.", "0.1"))
    else:
        save_file({name: value * 2 for name, value in load_file(changed).items()}, changed)
    check = subject.check_box(tmp_path / "box")
    assert check.state == BROKEN
    assert f"front end {front_end}: " in check.text
    assert f"another {part}" in check.text


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert subject.check_disk(tmp_path / "new" / "folder").state == OK
    assert not (tmp_path / "new").exists()


def test_how_to_get_a_landmarker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DFERKIT_MODELS", raising=False)
    check = subject.check_landmarker()
    assert check.state == NOTE
    assert "dferkit models get face-landmarker" in check.text
    monkeypatch.setenv("DFERKIT_MODELS", str(tmp_path))
    (tmp_path / "face_landmarker.task").write_bytes(b"no landmarker")
    check = subject.check_landmarker()
    assert check.state in (NOTE, BROKEN)
    assert "pip install '.[landmarks]'" in check.text or "is not a face landmarker" in check.text


def test_every_extra_is_looked_for() -> None:
    wanted = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert set(subject.EXTRAS) == set(wanted)
