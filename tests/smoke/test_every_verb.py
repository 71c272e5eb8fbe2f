"""Every verb of ``dferkit --help`` once, on real files, by the installed command. ``.ci/run`` runs them on the newest Python: ``pytest -m smoke``.

The commands run in the order in which a user gives them: each one reads what earlier ones wrote, so a failure may bring others with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import typer

from dferkit.cli.main import app

COMMAND = Path(sys.executable).with_name("dferkit")
ENVIRONMENT = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
INTERRUPTED = 130

# A command, and a file that it must write.
STEPS = (
    ("doctor --dir .", ""),
    ("models list", ""),
    ("synth clips --clips 60", "clips/clips.csv"),
    ("train grace --data clips/clips.csv --out own --set training.epochs=1", "own/checkpoints/grace/model.safetensors"),
    ("evaluate --data clips/clips.csv --checkpoint own/checkpoints/grace --out own/scores", "own/scores/metrics.json"),
    ("calibrate --data clips/own.csv --out sure", "sure/calibration.json"),
    ("compare own/scores own/scores --out pair", "pair/compare.json"),
    ("bench --data clips/clips.csv --models class_prior,mean_pooled --out bench", "bench/results.csv"),
    ("predict clips/videos/clip00000.mp4 --checkpoint own/checkpoints/grace --out answers", "answers/predictions.csv"),
    ("explain clips/videos/clip00000.mp4 --out why", "why/report.html"),
    ("report answers", "answers/report.html"),
    ("demo --quick --out demo", "demo/first/report.html"),
    ("data mini dfew dfew --clips-per-class 1 --frames 12 --size 64", ""),
    ("data check dfew dfew", ""),
    ("prepare dfew dfew --out store", ""),
    ("encode store", ""),
    ("train grace --data store --fold 1 --set training.epochs=1 --out official", "official/fold-1/metrics.json"),
    ("prepare folder clips --out own-store", ""),
    ("transfer --train store --test own-store --set training.epochs=1 --out across", "across/own-store/metrics.json"),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("smoke")


@pytest.mark.smoke
@pytest.mark.parametrize(("command", "written"), STEPS, ids=[command for command, _ in STEPS])
def test_a_command_ends_well(command: str, written: str, folder: Path) -> None:
    done = subprocess.run(
        [COMMAND, *command.split()], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert (folder / written).exists()
    if command.startswith("synth"):
        clips = pd.read_csv(folder / written)
        clips[["video", "label"]].to_csv(folder / "clips" / "own.csv", index=False)  # calibrate uses every row here


@pytest.mark.smoke
@pytest.mark.parametrize("command", ["pretrain --what clip", "ablate mechanism --quick"])
def test_a_long_command_starts_and_can_be_interrupted(command: str, folder: Path) -> None:
    """All of it takes long; this stops it during its first stage."""
    out = command.split()[0]
    with subprocess.Popen(
        [COMMAND, *command.split(), "--out", out],
        cwd=folder,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores the signal, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:
        while running.poll() is None and not any((folder / out).rglob("*.safetensors")):
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        _, message = running.communicate()
    assert running.returncode == INTERRUPTED, message
    assert "run the same command again to resume" in message
    assert "Traceback" not in message


def test_every_verb_is_tried() -> None:
    tried = {command.split()[0] for command, _ in STEPS} | {"pretrain", "ablate"}
    assert tried == set(typer.main.get_command(app).commands)
