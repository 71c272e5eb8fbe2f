"""``dferkit prepare``."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.options import FrontEndOption
from dferkit.cli.progress import Stages, note, plural


def prepare(
    layout: Annotated[str, typer.Argument(help="Name of the data set, such as dfew.", show_default=False)],
    root: Annotated[Path, typer.Argument(help="Folder of the release.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the store.")],
    media: Annotated[str, typer.Option("--media", help="Folder of frames or videos to use.")] = "",
    captions: Annotated[bool, typer.Option("--with-captions", help="Keep human captions in the store (MAFW).")] = False,
    votes: Annotated[bool, typer.Option("--votes", help="Keep votes in the store, for soft labels (DFEW).")] = False,
    face: Annotated[
        str,
        typer.Option("--face", help="auto (cut faces are kept whole), haar, yunet, cropped, or a CSV of boxes."),
    ] = "auto",
    front_end: FrontEndOption = None,
    landmarker: Annotated[
        str | None,
        typer.Option("--landmarker", help="Task file of the face landmarker; by default the one in DFERKIT_MODELS."),
    ] = None,
    size: Annotated[int, typer.Option("--size", help="Side of the stored faces in pixels.")] = 224,
    quality: Annotated[int, typer.Option("--quality", help="JPEG quality, 1 to 100.")] = 90,
    frames: Annotated[int, typer.Option("--frames", help="Frames kept of a clip, spread evenly; 0 for all.")] = 64,
    shard: Annotated[
        str, typer.Option("--shard", help="i/n: this process makes every n-th shard file, from the i-th on.")
    ] = "0/1",
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores by default.")] = None,
    backend: Annotated[str, typer.Option("--backend", help="local, or ray (a cluster with shared files).")] = "local",
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every stored picture, make damaged ones again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate bytes and hours.")] = False,
) -> None:
    """Find, cut and store the faces of a data set once; later commands read the store.

    With --front-end landmarks or both, landmarks are measured and stored too; with pixels they are not.
    After an interruption, run the same command again. Exit code: 0 when every clip was read, 1 when some could not be read, 3 when none could.
    """
    from dferkit.datasets import Options, read_release, require_sound
    from dferkit.preparation import PrepareConfig, Work, estimate_preparation, prepare_faces
    from dferkit.preparation.estimate import in_bytes

    work = Work(shard=parse_shard(shard), workers=workers or os.cpu_count() or 1, backend=backend, verify=verify)
    config = PrepareConfig(
        face=face, landmarker=_task_file(front_end, landmarker), size=size, quality=quality, max_frames=frames
    )
    release = read_release(layout, root, Options(media=media, with_captions=captions, with_votes=votes))
    require_sound(release.findings, f"{layout} in {root.name}/")
    for finding in release.findings:
        note(f"{finding.severity}: {finding}")
    if dry_run:
        note(str(estimate_preparation(release, root, out, config, work=work)))
        return
    with Stages() as progress:
        done = prepare_faces(
            release,
            root,
            out,
            config,
            work=work,
            on_estimate=lambda estimate: progress.say(str(estimate)),
            on_progress=lambda a, b: progress("clips", a, b),
        )
    if not done.num_clips:
        typer.echo(f"shard {shard} has no clip of {layout}: {done.path}")
        return
    counts = ", ".join(f"{n:,} {status}" for status, n in Counter(done.statuses).most_common())
    speed = f", {done.num_frames / done.cpu_seconds:.0f} frames/s/core" if done.num_frames and done.cpu_seconds else ""
    typer.echo(f"{plural(done.num_clips, 'clip')}: {counts}; {in_bytes(done.num_bytes)}{speed}: {done.path}")
    if done.missing:
        shown = ", ".join(map(str, done.missing[:8])) + (", …" if len(done.missing) > 8 else "")
        note(
            f"{plural(len(done.missing), 'shard file')} still missing ({shown}): the store is complete when these are stored"
        )
    unreadable = done.statuses.get("unreadable", 0)
    if unreadable:
        raise typer.Exit(3 if unreadable == done.num_clips else 1)


def _task_file(front_end: str | None, landmarker: str | None) -> str:
    """The landmarker of ``PrepareConfig`` that a front end needs.

    Raises:
        ConfigError: The options exclude each other. BackendError: Landmarks are requested and cannot be measured.
    """
    from dferkit.encoders.front_end import choose_front_end
    from dferkit.errors import ConfigError

    if landmarker is not None and (front_end == "pixels" or not landmarker.endswith(".task")):
        raise ConfigError(
            f"--landmarker {landmarker} with --front-end {front_end or 'auto'}: --landmarker takes a .task file and needs "
            "--front-end auto, landmarks or both; --front-end pixels stores no landmarks"
        )
    return str(choose_front_end(front_end, landmarker=landmarker or "auto").landmarker or "none")


def parse_shard(text: str) -> tuple[int, int]:
    """``2/8`` as numbers.

    Raises:
        ConfigError: It is something else.
    """
    from dferkit.errors import ConfigError

    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or not int(match.group(1)) < int(match.group(2)):
        raise ConfigError(f"--shard {text} is not usable: give i/n with i from 0 to n - 1, such as 0/4")
    return int(match.group(1)), int(match.group(2))
