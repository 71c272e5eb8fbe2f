"""What ``--help`` prints."""

from __future__ import annotations

from itertools import pairwise

import click
import pytest
import typer.main
from typer.testing import CliRunner

from dferkit.cli.main import app

COMMANDS = typer.main.get_command(app)


def leaves(command: click.Command, *path: str) -> list[tuple[str, ...]]:
    inside = getattr(command, "commands", {})
    return [leaf for name, found in inside.items() for leaf in leaves(found, *path, name)] or [path]


@pytest.mark.parametrize("path", leaves(COMMANDS), ids=" ".join)
def test_paragraphs_are_broken_by_the_terminal_only(path: tuple[str, ...]) -> None:
    """In a terminal wide enough, every paragraph above the options is one line."""
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "1000", "TERMINAL_WIDTH": "1000"})
    assert done.exit_code == 0
    text = [line.strip() for line in done.output.split("╭")[0].splitlines()]
    assert len(text) > 3
    assert not [pair for pair in pairwise(text) if all(pair)]


@pytest.mark.parametrize("verb", ["train", "evaluate", "bench", "transfer"])
def test_options_for_one_kind_of_data_are_marked(verb: str) -> None:
    found = {option.name: getattr(option, "help", "") for option in COMMANDS.commands[verb].params}  # type: ignore[attr-defined]
    for name, kind in (
        ("views", "stores"),
        ("flip", "stores"),
        ("fold", "stores"),
        ("labels", "clips.csv"),
        ("face", "clips.csv"),
    ):
        assert found.get(name, f"For {kind} only").startswith(f"For {kind} only"), name
