"""``dferkit ablate mechanism`` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dferkit.mechanism.grid import cells
from dferkit.recipes.mechanism import QUICK


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "dferkit", *words], capture_output=True, text=True, check=False)


def test_an_unknown_task_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    done = run("ablate", "mechanism", "--task", "which_whem", "--out", str(tmp_path / "m"))
    assert done.returncode == 2
    assert "did you mean 'which_when'" in done.stderr
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_quick_run_makes_all_tables_and_a_second_call_does_no_work(tmp_path: Path) -> None:
    out = tmp_path / "m"
    done = run("ablate", "mechanism", "--quick", "--out", str(out))
    assert done.returncode == 0, done.stderr
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert len(results["claims"]) == 3
    assert all(len(task["accuracy"]) == len(cells(QUICK.clips)) for task in results["tasks"].values())
    page = (out / "results.md").read_text(encoding="utf-8")
    assert page.count("**open**") + page.count("**holds**") + page.count("**falls**") == 3
    before = {path: path.stat().st_mtime_ns for path in (out / "answers").rglob("*.json")}
    assert run("ablate", "mechanism", "--quick", "--out", str(out)).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    other = run("ablate", "mechanism", "--out", str(out))
    assert other.returncode == 2
    assert "holds another run" in other.stderr
