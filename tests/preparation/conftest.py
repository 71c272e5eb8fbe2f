"""Small releases for the preparation tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_release import face_folders

from dferkit.preparation import shards
from dferkit.schema import Release


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four clips to a shard, so that few clips make several."""
    monkeypatch.setattr(shards, "CLIPS_PER_SHARD", 4)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Release, Path]:
    """Eleven folders of cut faces, one of them empty, one missing; and their root."""
    root = tmp_path_factory.mktemp("faces")
    return face_folders(root), root
