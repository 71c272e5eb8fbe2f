"""``dferkit doctor``: whether this installation can be used, and what would make it better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def doctor(
    folder: Annotated[Path, typer.Option("--dir", help="Where results would be written; its disk is checked.")] = Path(
        "."
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check versions, device, face detector, packaged weights, writing and decoding.

    Ends with 0 when dferkit can be used here, with 1 when something needed is broken.
    """
    from dferkit.diagnose import diagnose

    diagnosis = diagnose(folder)
    if as_json:
        typer.echo(json.dumps(diagnosis.as_dict(), indent=2, sort_keys=True))
    else:
        _show(diagnosis)
    raise typer.Exit(0 if diagnosis.is_usable else 1)


def _show(diagnosis: object) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dferkit.diagnose import BROKEN, NOTE, OK, Diagnosis

    assert isinstance(diagnosis, Diagnosis)
    signs = {OK: ("ok", "green"), NOTE: ("note", "yellow"), BROKEN: ("BROKEN", "bold red")}
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in diagnosis.checks:
        word, style = signs[check.state]
        table.add_row(Text(word, style), Text(check.name, "bold"), Text(check.text))
    # rich leaves out colours where the output is no terminal, and where NO_COLOR is set.
    console = Console()
    console.print(table)
    broken = [check.name for check in diagnosis.checks if check.state == BROKEN]
    console.print(Text("Ready." if not broken else f"Not usable yet: {', '.join(broken)}."))
