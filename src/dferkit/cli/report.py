"""``dferkit report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[
        Path, typer.Argument(help="Folder with results.json of a demo, or predictions.csv of a prediction.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Output page; by default DIR/report.html, or DIR/tables.html if report.html shows faces.",
        ),
    ] = None,
) -> None:
    """Build the report again from its tables, without model, video or faces."""
    from dferkit.recipes.rebuild import rebuild_report

    typer.echo(f"open {rebuild_report(folder, out)}")
