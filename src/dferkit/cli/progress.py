"""Progress on stderr: one bar per stage on a terminal, else one line per stage and minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_SECONDS_BETWEEN = 60.0


class Stages:
    """Bars of a run's stages, in the order in which they start; without a terminal one line per finished stage, and one a minute."""

    def __init__(self, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._last_told = clock, clock()
        self._console = Console(stderr=True, quiet=quiet)
        self._live = self._console.is_terminal and not quiet
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=self._console, disable=not self._live)
        self._tasks: dict[str, int] = {}
        self._told: set[str] = set()

    def __enter__(self) -> Stages:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, stage: str, done: int, of: int, note: str = "") -> None:
        """Report that ``done`` of ``of`` are finished in a stage."""
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=of, note=note)
        self._progress.update(self._tasks[stage], completed=done, total=of, note=note)  # type: ignore[arg-type]
        if done < of:
            self._told.discard(stage)  # it began again, for something else
        is_due = self._clock() - self._last_told >= _SECONDS_BETWEEN
        if not self._live and stage not in self._told and (done >= of or is_due):
            self._last_told = self._clock()
            if done >= of:
                self._told.add(stage)
            self._console.print(f"{stage}: {done} of {of} {note}".rstrip(), highlight=False)

    def say(self, text: str) -> None:
        """One line for the user."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def plural(count: int, thing: str) -> str:
    """``1 clip``, ``2 clips``."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def note(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr)
