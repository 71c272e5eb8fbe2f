"""``dferkit prepare`` as a user runs it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from small_release import files

import dferkit.datasets
from dferkit.cli.main import main
from dferkit.preparation import FaceStore
from dferkit.schema import Release


@pytest.fixture
def run(faces: tuple[Release, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command; returns exit code, stdout, stderr."""
    release, root = faces
    kinds = {
        "all": release,
        "good": replace(release, records=release.records[:4]),
        "bad": replace(release, records=(release.records[4], release.records[7])),
    }
    monkeypatch.setattr(dferkit.datasets, "read_release", lambda layout, root, options: kinds[layout], raising=False)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dferkit", "prepare", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return lambda layout, *words: call(layout, root, *words)


def test_exit_codes_tell_what_was_read(run, tmp_path: Path) -> None:
    code, out, err = run("good", "--out", tmp_path / "good", "--size", 48, "--workers", 1)
    assert code == 0
    assert out.startswith("4 clips: 4 too_short; ")
    assert out.rstrip().endswith(f"frames/s/core: {tmp_path / 'good'}")
    assert "4 clips, about" in err
    assert FaceStore.open(tmp_path / "good").settings["size"] == 48
    code, out, _ = run("all", "--out", tmp_path / "all", "--size", 48, "--workers", 1)
    assert code == 1
    assert "9 too_short, 2 unreadable" in out
    assert run("bad", "--out", tmp_path / "bad", "--workers", 1)[0] == 3


def test_two_halves(run, tmp_path: Path) -> None:
    code, out, err = run("all", "--out", tmp_path / "s", "--shard", "1/2", "--workers", 1)
    assert code == 1
    assert out.startswith("4 clips: ")
    assert "2 shard files still missing (0, 2)" in err
    _, _, err = run("all", "--out", tmp_path / "s", "--shard", "0/2", "--workers", 1)
    assert "missing" not in err
    assert (tmp_path / "s" / "store.json").is_file()


@pytest.mark.parametrize("shard", ["2/2", "a/b", "1", "-1/2", "0/0", "1/2/3"])
def test_a_wrong_shard_is_one_sentence(shard: str, run, tmp_path: Path) -> None:
    code, _, err = run("all", "--out", tmp_path / "s", f"--shard={shard}")
    assert code == 2
    assert err == f"dferkit: --shard {shard} is not usable: give i/n with i from 0 to n - 1, such as 0/4\n"


def test_a_dry_run_only_tells(run, tmp_path: Path) -> None:
    code, out, err = run("all", "--out", tmp_path / "s", "--dry-run", "--workers", 2)
    assert code == 0
    assert not out
    assert err.startswith("note: hand-made [X]\n11 clips, about ")
    assert "with 2 processes;" in err
    assert not (tmp_path / "s").exists()


def test_other_settings_end_with_2(run, tmp_path: Path) -> None:
    run("good", "--out", tmp_path / "s", "--workers", 1)
    before = files(tmp_path / "s")
    code, _, err = run("good", "--out", tmp_path / "s", "--quality", 50)
    assert code == 2
    assert err == (
        "note: hand-made [X]\ndferkit: s/ was started with other settings (quality 90 → 50): give the same ones, or another folder\n"
    )
    assert files(tmp_path / "s") == before


def test_the_front_end_decides_about_landmarks(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``pixels`` needs no landmarker; ``landmarks`` and ``both`` are refused without one, before anything is written."""
    monkeypatch.delenv("DFERKIT_MODELS", raising=False)
    for name in ("landmarks", "both"):
        code, _, err = run("good", "--out", tmp_path / name, "--front-end", name)
        assert code == 2
        assert "no face landmarker: give --landmarker FILE.task" in err
        assert not (tmp_path / name).exists()
    for words in (["--front-end", "pixels", "--landmarker", "a.task"], ["--landmarker", "none"]):
        code, _, err = run("good", "--out", tmp_path / "x", *words)
        assert code == 2
        assert "--landmarker takes a .task file" in err
    code, _, err = run("good", "--out", tmp_path / "x", "--front-end", "pixel")
    assert (code, "did you mean 'pixels'" in err) == (2, True)
    assert run("good", "--out", tmp_path / "pixels", "--front-end", "pixels", "--size", 48, "--workers", 1)[0] == 0
    assert FaceStore.open(tmp_path / "pixels").settings["face"] == "cropped"
