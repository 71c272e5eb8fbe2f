"""The demo's models: one for every row of its tables, each trained in a process of its own."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from dferkit.parallel import run_parallel
from dferkit.recipes.demo_data import DemoSide
from dferkit.recipes.demo_plan import CONTROLS, NATURAL_TABLE, TABLE, DemoConfig
from dferkit.schema import ReportProgress
from dferkit.storage import atomic_path
from dferkit.tokens.files import load_dataset, load_texts
from dferkit.training.fit import fit
from dferkit.training.loop import TrainingConfig
from dferkit.training.score import score
from dferkit.training.spec import TrainingSpec


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
    train, test = (
        replace(
            load_dataset(tokens / f"{side}.safetensors"),
            texts=tuple(load_texts(tokens / f"{texts}-{side}.safetensors")),
        )
        for side in ("train", "test")
    )
    settings = tuple(f"training.{key}={value}" for key, value in asdict(training).items() if key != "seed")
    fitted = fit(train, TrainingSpec(model=kind, settings=settings, seed=training.seed))
    target = folder.parent / "checkpoints" / (name if folder.name == "posed" else f"{name}-{folder.name}")
    checkpoint = fitted.save(target, f"rendered faces ({folder.name} profile of the demo); no real person", name=name)
    with atomic_path(_row_path(folder, name)) as temporary:
        save_file({"probabilities": score(checkpoint, test).probabilities}, temporary)
    return f"{folder.name} {name}"


def train_rows(out: Path, config: DemoConfig, workers: int, report: ReportProgress) -> None:
    """Train what is not there yet."""
    jobs = _jobs(out, config)
    todo = [job for job in jobs if not _row_path(Path(job[0]), job[1]).is_file()]
    done = len(jobs) - len(todo)
    report("training the models of the tables", done, len(jobs), "")
    for name in run_parallel(_train_job, todo, workers, in_order=False):
        done += 1
        report("training the models of the tables", done, len(jobs), name)


def row_probabilities(side: DemoSide, name: str) -> np.ndarray:
    """Answers of a row on the test clips (clips, classes)."""
    return load_file(_row_path(side.folder, name))["probabilities"]
