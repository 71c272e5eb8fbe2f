"""The demo's models: one for every row of its tables, each trained in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.text import TextEncoder
from dferkit.models.checkpoint import Checkpoint, save_checkpoint
from dferkit.models.coarse import CoarseClassifier
from dferkit.models.grace import Grace
from dferkit.models.joint_space import load_joint_space
from dferkit.parallel import run_parallel
from dferkit.recipes.demo_data import DemoSide
from dferkit.recipes.demo_plan import CONTROLS, NATURAL_TABLE, TABLE, DemoConfig, Report
from dferkit.recipes.provenance import about_checkpoint
from dferkit.storage import atomic_path
from dferkit.tokens.files import load_clips, load_texts
from dferkit.training.loop import TrainingConfig
from dferkit.training.row import base_config, train_row


def _jobs(out: Path, config: DemoConfig) -> list[tuple[str, str, str, str, TrainingConfig]]:
    """(profile folder, row name, variant, texts, budget) of every row."""
    jobs = [(str(out / "posed"), name, name, "box", config.training) for name in TABLE]
    jobs += [(str(out / "posed"), name, "grace", name, config.training) for name in CONTROLS]
    return jobs + [(str(out / "natural"), name, name, "box", config.training) for name in NATURAL_TABLE]


def _row_path(folder: Path, name: str) -> Path:
    return folder / "rows" / f"{name}.safetensors"


def _train_job(job: tuple[str, str, str, str, TrainingConfig]) -> str:
    """Train one row from its token files; runs in a process of its own with one thread, so that no row depends on another."""
    folder, name, kind, texts, training = Path(job[0]), *job[1:]
    torch.set_num_threads(1)
    tokens = folder / "tokens"
    train, test = load_clips(tokens / "train.safetensors"), load_clips(tokens / "test.safetensors")
    train_texts, test_texts = (load_texts(tokens / f"{texts}-{side}.safetensors") for side in ("train", "test"))
    base = base_config(train, TextEncoder(BOX_FOLDER / "text"), has_joint=True)
    row = train_row(kind, train, test, train_texts, test_texts, base, training, joint=load_joint_space(BOX_FOLDER))
    _save_model(folder, name, row.model)
    with atomic_path(_row_path(folder, name)) as temporary:
        save_file({"probabilities": row.probabilities}, temporary)
    return f"{folder.name} {name}"


def _save_model(folder: Path, name: str, model: Grace) -> None:
    about = about_checkpoint(
        name, box=BOX_FOLDER, trained_on=f"rendered faces ({folder.name} profile of the demo); no real person"
    )
    target = folder.parent / "checkpoints" / (name if folder.name == "posed" else f"{name}-{folder.name}")
    save_checkpoint(
        Checkpoint(model=model, coarse=CoarseClassifier.load(folder / "tokens" / "coarse.safetensors"), about=about),
        target,
    )


def train_rows(out: Path, config: DemoConfig, workers: int, tell: Report) -> None:
    """Train what is not there yet."""
    jobs = _jobs(out, config)
    todo = [job for job in jobs if not _row_path(Path(job[0]), job[1]).is_file()]
    done = len(jobs) - len(todo)
    tell("training GRACE and its rivals", done, len(jobs), "")
    for name in run_parallel(_train_job, todo, workers, in_order=False):
        done += 1
        tell("training GRACE and its rivals", done, len(jobs), name)


def row_probabilities(side: DemoSide, name: str) -> np.ndarray:
    """Answers of a row on the test clips (clips, classes)."""
    return load_file(_row_path(side.folder, name))["probabilities"]
