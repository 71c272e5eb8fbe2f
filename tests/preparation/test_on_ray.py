"""The Ray backend: the same bytes from a real local Ray; one sentence where it is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from small_release import SIDE, files

from dferkit.errors import MissingExtraError
from dferkit.preparation import PrepareConfig, Work, prepare_faces
from dferkit.schema import Release


def test_without_ray_it_is_one_sentence(
    faces: tuple[Release, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[ray\]'"):
        prepare_faces(*faces, tmp_path / "s", PrepareConfig(size=SIDE), work=Work(backend="ray"))


def test_ray_makes_the_same_bytes(faces: tuple[Release, Path], tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    config = PrepareConfig(size=SIDE)
    prepare_faces(*faces, tmp_path / "local", config, work=Work(workers=1))
    done = prepare_faces(*faces, tmp_path / "ray", config, work=Work(backend="ray"))
    assert done.statuses == {"ok": 9, "unreadable": 2}
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    again = prepare_faces(*faces, tmp_path / "ray", config, work=Work(backend="ray"))
    assert again.num_new == 0
