"""What is told of long work where nobody watches a terminal."""

from __future__ import annotations

import pytest

from dferkit.cli.progress import Stages


def test_without_a_terminal_a_line_at_the_end_and_one_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with Stages(clock=lambda: now[0]) as tell:
        for done in range(1, 7):
            now[0] += 25.0
            tell("faces", done, 6, f"note {done}")
        tell("faces", 6, 6, "again")
        tell("tokens", 0, 2)
        tell("tokens", 2, 2)
        now[0] += 61.0
        tell("faces", 1, 3, "of another kind")
        tell("faces", 3, 3)
    assert capsys.readouterr().err.splitlines() == [
        "faces: 3 of 6 note 3",
        "faces: 6 of 6 note 6",
        "tokens: 2 of 2",
        "faces: 1 of 3 of another kind",
        "faces: 3 of 3",
    ]
