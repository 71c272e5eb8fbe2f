"""Intervals and verdicts of the rule, on results made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dferkit.mechanism.grid import PRIMARY, Cell, cells
from dferkit.mechanism.rule import Right, accuracy, best_transport, decide, difference
from dferkit.mechanism.tasks import TASKS
from dferkit.reports.mechanism_table import mechanism_page


def answers(share: float, *, seed: int = 0, seeds: int = 3, people: int = 20, each: int = 10) -> Right:
    right = np.random.default_rng(seed).random((seeds, people * each)) < share
    return Right(of_clips=right, people=[f"p{i // each}" for i in range(people * each)])


def test_interval_is_that_of_a_plain_bootstrap_over_people_and_seeds() -> None:
    one = answers(0.7)
    rng, means = np.random.default_rng(1), []
    by_person = one.of_clips.reshape(3, 20, 10)
    for _ in range(4000):
        drawn = by_person[rng.integers(3, size=3)][:, rng.integers(20, size=20)]
        means.append(drawn.mean())
    found = accuracy(one)
    assert found.mean == pytest.approx(one.of_clips.mean())
    assert [found.low, found.high] == pytest.approx(np.percentile(means, [2.5, 97.5]).tolist(), abs=0.008)


def test_a_constant_difference_has_no_width_and_pairs_cancel() -> None:
    none, every = answers(0.0), answers(1.0)
    found = difference(every, none)
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0)
    noisy = answers(0.5)
    same = difference(noisy, noisy)
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)


def test_a_difference_is_paired_seed_by_seed() -> None:
    few, many = answers(0.6, seeds=2), answers(0.6, seeds=2)
    more = Right(of_clips=np.concatenate([many.of_clips, np.zeros((1, 200), bool)]), people=many.people)
    assert difference(few, more).mean == 0.0


def results(above: int, below: int) -> dict[str, dict[str, Right]]:
    """Cosine is beaten on some tasks, wins on others, and ties on the rest; all other cells are equal."""
    found = {}
    for number, task in enumerate(TASKS):
        rival = 0.2 if number < above else 0.95 if number < above + below else 0.7
        found[task] = {
            cell.name: answers(rival if cell.aligner == "cosine" and cell.unit == "phrase" else 0.7, seed=3)
            for cell in cells()
        }
    return found


@pytest.mark.parametrize(
    ("above", "below", "verdict"), [(3, 0, "holds"), (2, 2, "open"), (1, 3, "falls"), (0, 0, "open")]
)
def test_three_tasks_decide(above: int, below: int, verdict: str) -> None:
    claims = decide(results(above, below))
    assert claims[0].verdict == verdict
    assert [claim.verdict for claim in claims[1:]] == ["open", "open"]
    assert all(set(claim.differences) == set(TASKS) for claim in claims)


def test_the_best_transport_is_chosen_on_the_first_task_alone() -> None:
    found = results(0, 0)
    found["which_when"]["unbalanced"] = answers(0.9)
    found["order"]["learned mass"] = answers(1.0)
    assert best_transport(found) == "unbalanced"
    assert decide(found)[0].cell == "unbalanced"


def test_cells_have_names_of_their_own_and_cross_aligner_with_unit() -> None:
    grid = cells()
    assert grid[0] == PRIMARY
    assert len({cell.name for cell in grid}) == len(grid) == 28
    assert sum(c.clips == 400 and c.start == "labels only" and c.has_motion and not c.control for c in grid) == 15
    assert Cell(aligner="cosine", unit="word").name == "cosine, word"


def test_the_page_of_a_small_run_states_that_its_figures_say_nothing() -> None:
    def page(videos: int) -> str:
        task = {
            "test_clips": 8,
            "test_people": 2,
            "text_only": 0.5,
            "video_only": None,
            "accuracy": {"primary": {"mean": 0.5, "low": 0.25, "high": 0.75}},
        }
        config = {"seeds": 1, "data": {"train_videos": videos, "test_videos": 2}}
        results = {"config": config, "tasks": {"order": task}, "version": "0", "claims": [], "localisation": {}}
        return mechanism_page(results)

    assert "figures say nothing" in page(48)
    assert "figures say nothing" not in page(400)
    assert "| primary | 0.500 (0.250 to 0.750) |" in page(48)
