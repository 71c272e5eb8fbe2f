"""The pages ``docs/how-to/add-*.md`` run as they stand: the blocks of a page one after another, in one namespace."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dferkit

PAGES = sorted((Path(__file__).parents[2] / "docs" / "how-to").glob("add-*.md"))
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    blocks = _BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks, f"{page.name} has no block of Python"
    script = tmp_path / "page.py"  # a process of its own: a page may add to the tables of the package
    script.write_text("\n".join(blocks), encoding="utf-8")
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(dferkit.__file__).parents[1])}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
