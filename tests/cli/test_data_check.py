"""What ``dferkit data check`` prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dferkit.cli.main import app
from dferkit.mini_release import MiniConfig, write_mini_release


@pytest.mark.parametrize(("layout", "has_published"), [("mafw-single", True), ("folder", False)])
def test_published_counts_are_a_column_where_there_are_some(layout: str, has_published: bool, tmp_path: Path) -> None:
    config = MiniConfig(layout=layout, clips_per_class=1, is_full_size=has_published)
    root = write_mini_release(config, tmp_path / layout, workers=1)
    done = CliRunner().invoke(app, ["data", "check", layout, str(root), "--depth", "lists"])
    header = next(line.split() for line in done.output.splitlines() if line.split()[:2] == ["class", "clips"])
    assert ("published" in header) == has_published
