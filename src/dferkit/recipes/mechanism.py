"""``dferkit ablate mechanism``: the five tasks, the grid of models on them, and the verdict of the rule. What is finished is kept."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dferkit.checks import check_counts, check_range
from dferkit.encoders.box import BOX_FOLDER, WEIGHTS
from dferkit.labels import check_name
from dferkit.mechanism.grid import CLIPS, Cell, cells
from dferkit.mechanism.render import TaskData, TaskSide, prepare_tasks, read_side
from dferkit.mechanism.rule import Claim, Results, Right, accuracy, best_transport, decide
from dferkit.mechanism.spaces import space_path, train_spaces
from dferkit.mechanism.tasks import TASKS
from dferkit.mechanism.train import Budget, answer_task
from dferkit.models.joint_space import load_joint_space
from dferkit.parallel import run_parallel
from dferkit.recipes.provenance import claim_run
from dferkit.reports.mechanism_table import mechanism_page
from dferkit.reports.tables import own_version
from dferkit.schema import ReportProgress
from dferkit.storage import digest_file, read_json, write_json, write_text


@dataclass(frozen=True, kw_only=True, slots=True)
class MechanismConfig:
    """Size of the comparison.

    Attributes:
        tasks: Names; the verdict needs all of them. seeds: Each cell is trained with seeds 0, 1, ….
        clips: Numbers of training clips that are compared; the other cells have 400, or as many as there are.
        space_clips: Rendered clips on which the joint spaces of the start ``true maps`` are trained.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    seeds: int = 5
    clips: tuple[int, ...] = CLIPS
    data: TaskData = field(default_factory=TaskData)
    budget: Budget = field(default_factory=Budget)
    space_clips: int = 700

    def __post_init__(self) -> None:
        for task in self.tasks:
            check_name("task", task, TASKS)
        check_counts(self, "seeds")
        check_range(self, "space_clips", least=140)


QUICK = MechanismConfig(
    seeds=1, clips=(25, 100), data=TaskData(train_videos=48, test_videos=24), budget=Budget(steps=60), space_clips=140
)
"""A run of four minutes that shows that all parts work; its figures say nothing."""

_Job = tuple[str, str, Cell, int, MechanismConfig]


def run_mechanism(
    out: Path | str,
    config: MechanismConfig | None = None,
    *,
    workers: int | None = None,
    on_progress: ReportProgress | None = None,
) -> dict[str, Any]:
    """Run or resume the comparison; write ``results.json`` and ``results.md``.

    Returns:
        The content of ``results.json``.

    Raises:
        ConfigError: An unknown task, or a folder that holds another comparison.
    """
    config, out, report = config or MechanismConfig(), Path(out), on_progress or (lambda stage, done, of, note: None)
    workers = workers or os.cpu_count() or 1
    box = digest_file(BOX_FOLDER / WEIGHTS)
    whole = {name: value for name, value in asdict(config).items() if name not in ("tasks", "seeds")}
    claim_run(out, {**whole, "box": box, "version": own_version()}, marker="mechanism.json")
    prepare_tasks(
        out / "tasks", config.tasks, config.data, box=BOX_FOLDER, workers=workers,
        on_progress=lambda done, of: report("videos of the tasks and their tokens", done, of, ""),
    )  # fmt: skip
    grid = cells(config.clips)
    starts = list(dict.fromkeys(cell.aligner for cell in grid if cell.start == "true maps"))
    train_spaces(
        out / "spaces", starts, config.space_clips, box=BOX_FOLDER, workers=workers,
        on_progress=lambda done, of: report("faces for the joint spaces", done, of, ""),
    )  # fmt: skip
    jobs: list[_Job] = [
        (str(out), task, cell, seed, config) for seed in range(config.seeds) for task in config.tasks for cell in grid
    ]
    todo = [job for job in jobs if not _answers_path(job).is_file()]
    done = len(jobs) - len(todo)
    report("models", done, len(jobs), "")
    for name in run_parallel(_train, todo, workers, in_order=False):
        done += 1
        report("models", done, len(jobs), name)
    return _write_results(out, config, grid)


def _answers_path(job: _Job) -> Path:
    out, task, cell, seed, _ = job
    return Path(out) / "answers" / task / cell.name.replace(", ", "_").replace(" ", "-") / f"seed-{seed}.json"


@functools.lru_cache(maxsize=2)
def _side(out: str, task: str, side: str, data: TaskData) -> TaskSide:
    """Clips of a task; the jobs of a worker mostly have the same one."""
    return read_side(Path(out) / "tasks", TASKS[task], side, data)


def _train(job: _Job) -> str:
    """One training, in a process of its own with one thread."""
    out, task, cell, seed, config = job
    torch.set_num_threads(1)
    train, test = (_side(out, task, side, config.data) for side in ("train", "test"))
    start = load_joint_space(space_path(Path(out) / "spaces", cell.aligner)) if cell.start == "true maps" else None
    answers = answer_task(train, test, cell, seed, config.budget, start)
    write_json(
        _answers_path(job), {"predicted": answers.predicted.tolist(), "localisation": dict(answers.localisation)}
    )
    return f"{task}: {cell.name}, seed {seed}"


def _write_results(out: Path, config: MechanismConfig, grid: Sequence[Cell]) -> dict[str, Any]:
    right: dict[str, dict[str, Right]] = {}
    localisation: dict[str, dict[str, float]] = {}
    for task in config.tasks:
        clips = _side(str(out), task, "test", config.data).clips
        right[task] = {}
        for cell in grid:
            files = [read_json(_answers_path((str(out), task, cell, seed, config))) for seed in range(config.seeds)]
            of_clips = np.array([file["predicted"] for file in files]) == clips.target
            right[task][cell.name] = Right(of_clips=of_clips, people=clips.groups.tolist())
            if found := [file["localisation"] for file in files if file["localisation"]]:
                localisation[cell.name] = {key: float(np.mean([f[key] for f in found])) for key in found[0]}
    claims = decide(right) if set(config.tasks) == set(TASKS) else ()
    results = _as_results(config, right, localisation, claims)
    write_json(out / "results.json", results)
    write_text(out / "results.md", mechanism_page(results))
    return results


def _as_results(
    config: MechanismConfig, right: Results, localisation: Mapping[str, Mapping[str, float]], claims: Sequence[Claim]
) -> dict[str, Any]:
    return {
        "tasks": {
            name: {
                "what": TASKS[name].what,
                "labels": list(TASKS[name].labels),
                "text_only": TASKS[name].text_only,
                "video_only": TASKS[name].video_only,
                "test_clips": len(right[name]["primary"].people),
                "test_people": len(set(right[name]["primary"].people)),
                "accuracy": {cell: asdict(accuracy(one)) for cell, one in right[name].items()},
            }
            for name in config.tasks
        },
        "localisation": {name: dict(values) for name, values in localisation.items()},
        "best_transport": best_transport(right) if "which_when" in right else None,
        "claims": [asdict(claim) for claim in claims],
        "config": asdict(config),
        "version": own_version(),
    }
