"""``scripts/find-python``: which of the installed Pythons a script gets."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "find-python"
OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"


def find(home: Path, *versions: str) -> subprocess.CompletedProcess[str]:
    """Run the script where only ``home/bin`` is on the path."""
    bash = home / "bin" / "bash"
    bash.parent.mkdir(exist_ok=True)
    if not bash.exists():
        bash.symlink_to(shutil.which("bash"))
    environment = {"HOME": str(home), "PATH": str(bash.parent)}
    return subprocess.run([SCRIPT, *versions], env=environment, capture_output=True, text=True)


def install(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_shim_that_fails_is_passed_over(tmp_path: Path) -> None:
    install(
        tmp_path / "bin" / f"python{OWN}", "echo 'pyenv: the command exists in these Python versions' >&2; exit 127"
    )
    assert find(tmp_path, OWN).returncode == 1
    real = install(
        tmp_path / ".pyenv" / "versions" / f"{OWN}.0" / "bin" / f"python{OWN}", f'exec {sys.executable} "$@"'
    )
    done = find(tmp_path, OWN)
    assert (done.returncode, done.stdout) == (0, f"{real}\n")


def test_the_first_version_that_is_installed(tmp_path: Path) -> None:
    real = install(tmp_path / "bin" / f"python{OWN}", f'exec {sys.executable} "$@"')
    (tmp_path / "bin" / "python3.98").symlink_to(real)  # its name is wrong
    done = find(tmp_path, "3.99", "3.98", OWN)
    assert (done.returncode, done.stdout) == (0, f"{real}\n")
    assert find(tmp_path, "3.98").returncode == 1
