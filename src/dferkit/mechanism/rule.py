"""The rule by which the grid decides the three claims; ``docs/explanation/mechanism.md`` states it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from dferkit.mechanism.grid import PRIMARY, TRANSPORTS, Cell

_DRAWS = 2000
_ENOUGH = 3  # tasks


@dataclass(frozen=True, kw_only=True, slots=True)
class Right:
    """Which answers of one cell on one task are right: ``of_clips`` (seeds, clips). ``people``: Of the clips."""

    of_clips: Bool[np.ndarray, "seeds clips"]
    people: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One claim of the paper: a cell minus another one, on every task.

    Attributes:
        verdict: ``holds``, ``falls`` or ``open``.
    """

    name: str
    cell: str
    rival: str
    differences: Mapping[str, Interval]
    verdict: str


Results = Mapping[str, Mapping[str, Right]]
"""Task → name of the cell → answers."""


def accuracy(right: Right, *, seed: int = 0) -> Interval:
    """Mean over seeds and clips."""
    return _interval(right.of_clips.astype(np.float64), right.people, seed)


def difference(right: Right, rival: Right, *, seed: int = 0) -> Interval:
    """Accuracy minus that of a rival on the same clips; seed by seed for the seeds that both have."""
    seeds = min(len(right.of_clips), len(rival.of_clips))
    values = right.of_clips[:seeds].astype(np.float64) - rival.of_clips[:seeds]
    return _interval(values, right.people, seed)


def _interval(values: Float[np.ndarray, "seeds clips"], people: Sequence[str], seed: int) -> Interval:
    """Mean with a bootstrap interval: people and, where there are several, seeds are drawn again."""
    names, number = np.unique(np.asarray(people), return_inverse=True)
    sums = np.stack([np.bincount(number, row, len(names)) for row in values])
    counts = np.bincount(number, minlength=len(names)).astype(np.float64)
    rng = np.random.default_rng(seed)
    drawn_people = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), _DRAWS).astype(np.float64)
    drawn_seeds = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), _DRAWS) / len(values)
    of_seeds = drawn_people @ sums.T / (drawn_people @ counts)[:, None]
    low, high = np.percentile((of_seeds * drawn_seeds).sum(1), [2.5, 97.5])
    return Interval(mean=float(values.mean()), low=float(low), high=float(high))


def best_transport(results: Results) -> str:
    """The form of transport with the highest accuracy on ``which_when``."""
    cells = results["which_when"]
    return max(TRANSPORTS, key=lambda name: float(cells[Cell(aligner=name).name].of_clips.mean()))


def decide(results: Results) -> tuple[Claim, ...]:
    """The three claims."""
    best = best_transport(results)
    pairs = {
        "transport over cosine similarity": (Cell(aligner=best), Cell(aligner="cosine")),
        "phrases over one sentence vector": (Cell(aligner=best), Cell(aligner=best, unit="sentence")),
        "motion weights": (PRIMARY, Cell(has_motion=False)),
    }
    return tuple(_claim(name, cell, rival, results) for name, (cell, rival) in pairs.items())


def _claim(name: str, cell: Cell, rival: Cell, results: Results) -> Claim:
    found = {task: difference(cells[cell.name], cells[rival.name]) for task, cells in results.items()}
    above = sum(one.low > 0 for one in found.values())
    below = sum(one.high < 0 for one in found.values())
    verdict = "holds" if above >= _ENOUGH else "falls" if below >= _ENOUGH else "open"
    return Claim(name=name, cell=cell.name, rival=rival.name, differences=found, verdict=verdict)
