"""``dferkit compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.progress import note


def compare(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="predictions.csv, a folder with one, or another system's file.")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="The same for the other system, on the same clips.")],
    order_a: Annotated[
        str | None, typer.Option("--order-a", help="Class order of A, where it numbers its classes: a name or a list.")
    ] = None,
    order_b: Annotated[str | None, typer.Option("--order-b", help="The same for B.")] = None,
    shared_classes: Annotated[
        bool, typer.Option("--shared-classes", help="Use only the classes that both have, and the clips of these.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the intervals.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for compare.json and compare.md.")] = None,
) -> None:
    """Compare two systems on the same clips: scores, paired differences with intervals, McNemar's test.

    Reads predictions.csv of evaluate, CSV files of others (a column per class, or the predicted class), and the text
    files of MAE-DFER, SVFAP, HiCMAE and S2D. At least one of the two needs the true classes.
    """
    from dferkit.evaluation.compare import compare as compare_clips
    from dferkit.evaluation.peers import read_predictions
    from dferkit.evaluation.prediction_file import score_pair
    from dferkit.reports.comparison import comparison_figures, comparison_lines, comparison_markdown
    from dferkit.reports.tables import clean_json, relative_input
    from dferkit.storage import write_json, write_text

    files = [read_predictions(a, order=order_a), read_predictions(b, order=order_b)]
    found = compare_clips(*score_pair(*files, on_shared_classes=shared_classes), seed=seed)
    for file in files:
        for sentence in file.notes:
            note(f"{file.name}: {sentence}")
    for line in comparison_lines(found):
        typer.echo(line)
    if out is not None:
        names = relative_input(a), relative_input(b)
        write_json(out / "compare.json", clean_json(comparison_figures(found, names)))
        write_text(out / "compare.md", comparison_markdown(found, names))
