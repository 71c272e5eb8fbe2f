"""Real files and the real command line; the box does the work."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from dferkit.cli.main import main
from dferkit.encoders.box import BOX_FOLDER
from dferkit.synthetic import BenchmarkConfig, render_benchmark

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def dferkit(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, without a terminal."""
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dferkit.cli.main", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


def in_this_process(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The same command line without the start of an interpreter, which takes most of the time of a short command."""
    told, out = io.StringIO(), io.StringIO()
    words, place = sys.argv, Path.cwd()
    sys.argv = ["dferkit", *map(str, arguments)]
    try:
        os.chdir(cwd or place)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
            main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os.chdir(place)
        sys.argv = words
    return subprocess.CompletedProcess(list(map(str, arguments)), code, out.getvalue(), told.getvalue())


@pytest.fixture(scope="session")
def run() -> Run:
    return dferkit


@pytest.fixture(scope="session")
def run_here() -> Run:
    """For many short commands; whole flows use ``run``."""
    return in_this_process


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small rendered benchmark: the folder with ``clips.csv``."""
    folder = tmp_path_factory.mktemp("clips")
    render_benchmark(BenchmarkConfig(clips=84, seed=77), folder, workers=2)
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP with random weights and the tokenizer of the bundled text encoder."""
    path = tmp_path_factory.mktemp("clip")
    vocabulary = json.loads((BOX_FOLDER / "text" / "tokenizer.json").read_text())["model"]["vocab"]
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config=CLIPTextConfig(
            **tower, vocab_size=len(vocabulary), max_position_embeddings=77, bos_token_id=vocabulary["[CLS]"], eos_token_id=vocabulary["[SEP]"],
            pad_token_id=vocabulary["[PAD]"],
        ).to_dict(),
        vision_config=CLIPVisionConfig(**tower, image_size=48, patch_size=16).to_dict(),
        projection_dim=32,
    )  # fmt: skip
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(path)
    shutil.copy(BOX_FOLDER / "text" / "tokenizer.json", path)
    (path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return path
