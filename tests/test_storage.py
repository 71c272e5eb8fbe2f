from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dferkit.storage import (
    atomic_path,
    digest_file,
    digest_json,
    guard_cell,
    read_json,
    unguard_cell,
    write_json,
    write_text,
)


def test_a_file_is_there_completely(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "folder" / "a.txt", "grüße\n")
    assert (tmp_path / "new" / "folder" / "a.txt").read_bytes() == "grüße\n".encode()
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_content(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")

    def fail() -> None:
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_writer_that_wrote_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        pass
    assert not list(tmp_path.iterdir())


def test_temporary_name_keeps_the_suffix_and_hides(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "clip.mp4") as temporary:
        assert temporary.suffix == ".mp4"
        assert temporary.name.startswith(".")
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"x")


def test_a_kill_leaves_old_or_new(tmp_path: Path) -> None:
    """Two long texts are written over each other without end; whenever the process dies, one of them is there."""
    path = tmp_path / "a.json"
    loop = f"while True:\n    for c in 'ab':\n        write_json({str(path)!r}, [c * 300000])\n"
    program = "from dferkit.storage import write_json\n" + loop
    for wait in (0.0, 0.004, 0.011):
        child = subprocess.Popen([sys.executable, "-c", program])
        while not path.exists():
            time.sleep(0.002)
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        child.wait()
        (text,) = read_json(path)
        assert set(text) in ({"a"}, {"b"})
        assert len(text) == 300000


def test_json_is_canonical(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": "ü"})
    write_json(tmp_path / "b.json", {"a": "ü", "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert "ü" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "a.json").read_text()) == read_json(tmp_path / "b.json")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_nan_in_json(value: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not JSON compliant|Out of range"):
        write_json(tmp_path / "a.json", {"x": value})
    assert not list(tmp_path.iterdir())


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert digest_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_json({"a": 1, "b": [2]}) == digest_json({"b": [2], "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": 2})


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        write_text(tmp_path / "a.txt", "x")


@given(st.text(alphabet="'=+-@\t\n a＝", max_size=6))
def test_guarded_cells_are_no_formula_and_come_back(text):
    guarded = guard_cell(text)
    assert unguard_cell(guarded) == text
    assert not guarded.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\n", "＝"))
