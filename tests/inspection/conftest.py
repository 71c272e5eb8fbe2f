"""Mini-releases that tests share: written once per session and copied for every test that spoils one."""

from __future__ import annotations

from pathlib import Path

import pytest

from dferkit.mini_release import MiniConfig, write_mini_release

FULL_SIZE = ("dfew", "ferv39k", "mafw-single", "mafw-compound")


@pytest.fixture(scope="session")
def full_lists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Lists of the four official releases in full size."""
    base = tmp_path_factory.mktemp("lists")
    return {
        layout: write_mini_release(MiniConfig(layout=layout, is_full_size=True), base / layout) for layout in FULL_SIZE
    }


@pytest.fixture(scope="session")
def small_releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """DFEW and FERV39k with faces: one test clip of each class and fold."""
    base = tmp_path_factory.mktemp("small")
    return {
        layout: write_mini_release(
            MiniConfig(layout=layout, clips_per_class=1, num_frames=12, size=64, with_videos=False),
            base / layout,
            workers=2,
        )
        for layout in ("dfew", "ferv39k")
    }
