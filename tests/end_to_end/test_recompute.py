"""``scripts/recompute`` agrees with ``metrics.json``, and with nothing else."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dferkit.evaluation.scored import ScoredClips
from dferkit.labels import BASIC
from dferkit.recipes.scores import write_scores
from dferkit.reports.tables import Provenance

SCRIPT = Path(__file__).parents[2] / "scripts" / "recompute"


def recompute(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def clips(*, has_subjects=False, num_folds=3, fails_every=13):
    random = np.random.default_rng(0)
    true = random.integers(6, size=150)  # nobody is neutral
    p = random.dirichlet(np.full(7, 0.6), size=150).round(2)  # with equal confidences
    p[np.arange(150), true] += 0.3 * (random.random(150) < 0.4)
    p /= p.sum(1, keepdims=True)
    if fails_every:
        p[::fails_every] = np.nan
    return ScoredClips(
        labels=BASIC,
        clip_ids=tuple(f"-clip {i}" for i in range(150)),
        true=true,
        probabilities=p,
        folds=tuple(f"fd{i % num_folds}" if num_folds else "" for i in range(150)),
        subjects=tuple(f"s{i % 12}" for i in range(150)) if has_subjects else None,
        attributes={"scene": tuple(("school", "", "crisis", "rare")[3 if i < 9 else i % 3] for i in range(150))},
    )


def write(folder, **changes):
    return write_scores(
        folder, clips(**changes), Provenance(model="x", front_end="pixels"), about={"model": "x", "seed": 3}, seed=5
    )


@pytest.mark.parametrize(
    "changes", [{}, {"has_subjects": True}, {"num_folds": 0}, {"fails_every": 0}, {"fails_every": 1}]
)
def test_every_figure_is_worked_out_again(tmp_path, changes):
    write(tmp_path, **changes)
    done = recompute(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 not, from 150 clips" in done.stdout
    done = recompute(tmp_path / "metrics.json", tmp_path / "predictions.csv")
    assert done.returncode == 0


def numbers(value, path=()):
    """Paths of all numbers and truths of a JSON value."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(item, (*path, key))
    elif isinstance(value, int | float):
        yield path


def test_any_altered_number_is_found(tmp_path):
    """One number of each kind is altered by little; all but those that are the question itself must be found."""
    write(tmp_path)
    file = tmp_path / "metrics.json"
    written = json.loads(file.read_text())
    question = {"num_bins", "seed", "num_resamples", "level"}
    kinds = {}
    for path in numbers(written):
        if not question & set(path) and path[0] != "model":
            kinds.setdefault(tuple(step for step in path if isinstance(step, str)), path)
    assert len(kinds) > 80
    chosen = list(kinds.values())[::7] + [path for path in kinds.values() if len(path) < 3]
    for path in chosen:
        altered = json.loads(json.dumps(written))
        place = altered
        for step in path[:-1]:
            place = place[step]
        old = place[path[-1]]
        place[path[-1]] = not old if isinstance(old, bool) else old + (1 if isinstance(old, int) else 1e-9)
        file.write_text(json.dumps(altered))
        done = recompute(tmp_path)
        assert done.returncode == 1, path
        assert str(path[-1] if isinstance(path[-1], str) else path[0]) in done.stdout
        assert " 1 not, from" in done.stdout, path


def test_missing_added_and_emptied_figures_are_found(tmp_path):
    write(tmp_path)
    file = tmp_path / "metrics.json"
    written = json.loads(file.read_text())
    assert written["per_class_recall"]["neutral"] is None
    for change in (
        {"war": None},
        {"war": float("nan")},
        {"f1": 0.5},
        {"confusion": written["confusion"][:6]},
        {"per_class_recall": written["per_class_recall"] | {"neutral": 0.0}},
        {"warnings": []},
        {"folds": None},
    ):
        file.write_text(json.dumps(written | change))
        assert recompute(tmp_path).returncode == 1, change
    del written["uar"]
    file.write_text(json.dumps(written))
    assert recompute(tmp_path).returncode == 1


def test_altered_predictions_are_found(tmp_path):
    found = write(tmp_path)
    whole = clips()
    swapped = replace(whole, true=whole.true[::-1].copy())
    other = write_scores(tmp_path / "other", swapped, Provenance(model="x", front_end="pixels"), seed=5)
    assert other["war"] != found["war"]
    assert recompute(tmp_path / "metrics.json", tmp_path / "other" / "predictions.csv").returncode == 1


def test_another_numpy_leaves_the_intervals_out_and_says_so(tmp_path):
    write(tmp_path)
    file = tmp_path / "metrics.json"
    written = json.loads(file.read_text())
    written["bootstrap"]["numpy"] = "1.0"
    written["uar_ci95"] = [0.0, 1.0]
    file.write_text(json.dumps(written))
    done = recompute(tmp_path)
    assert done.returncode == 0
    assert "not compared: written with NumPy 1.0" in done.stdout
    written["uar_ci95"] = [0.9, 0.1]
    file.write_text(json.dumps(written))
    assert recompute(tmp_path).returncode == 1


def test_wrong_use(tmp_path):
    assert recompute().returncode == 2
    assert recompute(tmp_path).returncode == 2


def test_it_does_not_import_what_it_checks():
    lines = [line for line in SCRIPT.read_text().splitlines() if line.startswith(("import ", "from "))]
    assert lines == [
        "from __future__ import annotations", "import csv", "import json", "import math", "import sys",
        "from pathlib import Path", "import numpy as np",
    ]  # fmt: skip
