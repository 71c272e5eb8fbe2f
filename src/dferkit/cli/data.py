"""``dferkit data check`` and ``dferkit data mini``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dferkit.cli.progress import Stages, plural

if TYPE_CHECKING:
    from dferkit.inspection import CheckReport

data = typer.Typer(
    name="data",
    no_args_is_help=True,
    add_completion=False,
    help="Check a data set on your disk, or write a small example of one.",
)
_MOST_SHOWN = 20
_LAYOUT_HELP = "Name of the data set, such as dfew; the message for an unknown name lists all."


@data.command()
def check(
    layout: Annotated[str, typer.Argument(help=_LAYOUT_HELP)],
    root: Annotated[Path, typer.Argument(help="Folder of the unpacked release.")],
    strict: Annotated[bool, typer.Option("--strict", help="Compare every count with the published one.")] = False,
    depth: Annotated[
        str,
        typer.Option("--depth", help="lists (annotations), media (also missing clips), contents (also duplicates)."),
    ] = "contents",
    media: Annotated[str, typer.Option("--media", help="Folder of frames or videos to use.")] = "",
    captions: Annotated[bool, typer.Option("--with-captions", help="Also check human captions (MAFW).")] = False,
    votes: Annotated[bool, typer.Option("--votes", help="Also check the annotators' votes (DFEW).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores by default.")] = None,
) -> None:
    """Report errors, warnings and notes about a release, with file and line.

    Exit code: 0 without errors and warnings, 1 with some, 2 for wrong usage or without a release.
    """
    import os

    from dferkit.datasets import Options
    from dferkit.inspection import check_release
    from dferkit.inspection.check import DEPTHS
    from dferkit.labels import check_name

    check_name("depth", depth, DEPTHS)
    with Stages(quiet=as_json) as progress:
        report = check_release(
            layout,
            root,
            options=Options(media=media, strict=strict, with_captions=captions, with_votes=votes),
            depth=depth,  # type: ignore[arg-type]
            workers=workers or os.cpu_count() or 1,
            on_progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2, ensure_ascii=False))
    else:
        _print(report)
    raise typer.Exit(0 if report.is_clean else 1)


def _print(report: CheckReport) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    about = report.as_dict()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    published = "" if about["published_clips"] is None else f" of {about['published_clips']:,} published"
    source = f" ({about['published_source']})" if about["published_source"] else ""
    console.print(f"{about['layout']}: {about['num_clips']:,} clips{published}{source}", markup=False, soft_wrap=True)
    console.print(_media_line(about), markup=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    folds: list[dict[str, Any]] = about["folds"]
    table.add_column("class", no_wrap=True)
    classes = about["classes"]
    has_published = any(row["published"] is not None for row in classes.values())
    columns = ["clips", "published"] if has_published else ["clips"]
    for name in (*columns, *(f"test {fold['name']}" for fold in folds)):
        table.add_column(name, justify="right")
    for label, row in classes.items():
        tests = [f"{fold['test_per_class'].get(label, 0):,}" for fold in folds]
        table.add_row(label, *(_count(row[name]) for name in columns), *tests)
    if folds:
        empty = [""] * len(columns)
        table.add_section()
        table.add_row("test", *empty, *(f"{fold['test']:,}" for fold in folds))
        table.add_row("training", *empty, *(f"{fold['train']:,}" for fold in folds))
        if any(fold["published"] for fold in folds):
            table.add_row("published test", *empty, *(_count((fold["published"] or [None, None])[1]) for fold in folds))
    console.print(table)
    seen: Counter[str] = Counter()
    for finding in report.findings:
        seen[finding.code] += 1
        if seen[finding.code] <= _MOST_SHOWN:
            console.print(f"{finding.severity}: {finding}", markup=False, soft_wrap=True)
    for code, count in seen.items():
        if count > _MOST_SHOWN:
            console.print(f"… and {count - _MOST_SHOWN:,} more [{code}]; --json lists all", markup=False)
    severities = Counter(finding.severity for finding in report.findings)
    verdict = "clean" if report.is_clean else "not clean"
    numbers = ", ".join(plural(severities[s], s) for s in ("error", "warning", "note") if severities[s])
    console.print(f"{verdict}{': ' + numbers if numbers else ''}", markup=False)


def _media_line(about: dict[str, Any]) -> str:
    media = about["media"]
    if not media["folder"]:
        return f"media: {media['reason']}"
    line = f"media: {media['folder']} ({media['kind']}): {media['reason']}"
    if frames := media["frames"]:
        line += f"; {frames['min']} to {frames['max']} frames a clip, median {frames['median']:g}, {frames['fewer_than_16']:,} clips with fewer than 16"
    if media["unlisted"]:
        line += f"; {media['unlisted']:,} clips are in no list"
    return line


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


@data.command()
def mini(
    layout: Annotated[str, typer.Argument(help=_LAYOUT_HELP)],
    out: Annotated[Path, typer.Argument(help="New folder.")],
    clips_per_class: Annotated[
        int, typer.Option("--clips-per-class", min=1, help="Test clips of each class and fold.")
    ] = 2,
    frames: Annotated[int, typer.Option("--frames", help="Frames of a clip.")] = 20,
    size: Annotated[int, typer.Option("--size", help="Side of the frames in pixels.")] = 112,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same bytes.")] = 0,
    full_lists: Annotated[bool, typer.Option("--full-lists", help="Lists of the real size, without media.")] = False,
    votes: Annotated[bool, typer.Option("--votes", help="Also the annotators' votes (DFEW).")] = False,
    fault: Annotated[
        list[str] | None, typer.Option("--fault", help="Add a deliberate error, such as dfew-leak (repeat).")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores by default.")] = None,
) -> None:
    """Write a small example of a release, with rendered faces in the form of the official files.

    Scores on it do not carry over to the real data set.
    """
    from dferkit.datasets import find_data_set
    from dferkit.errors import ConfigError
    from dferkit.labels import hint
    from dferkit.mini_release import FAULTS, MiniConfig, plant_fault, write_mini_release

    layout = find_data_set(layout).name
    known = [name for name, planted in FAULTS.items() if planted.layout == layout]
    for name in fault or []:
        if name not in known:
            there_is = f"{hint(name, known)} Known: {', '.join(known)}" if known else f"; {layout} has none"
            raise ConfigError(f"no fault {name!r} of {layout}{there_is}")
    config = MiniConfig(
        layout=layout, clips_per_class=clips_per_class, num_frames=frames, size=size, seed=seed, is_full_size=full_lists, with_votes=votes
    )  # fmt: skip
    with Stages() as progress:
        root = write_mini_release(config, out, workers=workers, on_progress=lambda a, b: progress("rendering", a, b))
    for name in fault or []:
        plant_fault(name, root)
    typer.echo(f"{layout}: {root}. Look at it, or try: dferkit data check {layout} {root}")
