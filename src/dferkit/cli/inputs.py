"""What a user names on the command line → video files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dferkit.errors import ConfigError
from dferkit.storage import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from dferkit.models.checkpoint import Checkpoint
    from dferkit.readings import Guide, UnitTables

LandmarkerOption = Annotated[
    str, typer.Option("--landmarker", help="Face landmarker: auto (the file in DFERKIT_MODELS), none, or a .task file.")
]
NeutralOption = Annotated[
    Path | None, typer.Option("--neutral", help="A video of the same person at rest: the zero of the landmarks.")
]
UnitsOption = Annotated[
    Path | None,
    typer.Option(
        "--units",
        help="Action units that another tool measured (OpenFace, py-feat, Live Link Face, ARKit): a CSV, or a folder with one per video, named like it.",
    ),
]
GuideOption = Annotated[
    Path | None,
    typer.Option(
        "--guide",
        help="Classifier whose top classes guide the caption, instead of the coarse one: a CSV of classes, a folder of them, or an ONNX model.",
    ),
]
GuideLabelsOption = Annotated[
    Path | None, typer.Option("--guide-labels", help="Class names of the ONNX model of --guide, one per line.")
]


def open_outside(
    units: Path | None, guide: Path | None, guide_labels: Path | None, videos: Sequence[str]
) -> tuple[UnitTables | None, Guide | None]:
    """What stands in for our own describer and coarse classifier.

    Raises:
        ConfigError: Class names without a classifier, or a file that is neither.
    """
    from dferkit.readings import open_classifier, open_units

    if guide_labels is not None and guide is None:
        raise ConfigError("--guide-labels names the classes of --guide; give --guide MODEL.onnx")
    return (
        None if units is None else open_units(units, videos),
        None if guide is None else open_classifier(guide, guide_labels, videos=videos),
    )


def expand_inputs(paths: Sequence[Path]) -> tuple[list[tuple[Path, str]], list[str]]:
    """Files to read with the names that outputs use, and folders without any video.

    A file that is named is always tried, whatever its ending; a folder gives its videos, sorted, also from folders below.
    """
    found: dict[Path, str] = {}
    empty: list[str] = []
    for path in paths:
        if path.is_dir():
            videos = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
            if not videos:
                empty.append(f"{path.name or path}/ holds no video ({', '.join(VIDEO_SUFFIXES)})")
            for video in videos:
                found.setdefault(video, f"{path.name}/{video.relative_to(path).as_posix()}")
        else:
            found.setdefault(path, path.name)
    names = list(found.values())
    # Two files of one name from different folders keep enough of their path to be told apart.
    return [(p, n if names.count(n) == 1 else f"{p.parent.name}/{p.name}") for p, n in found.items()], empty


def open_checkpoint(name: str) -> Checkpoint:
    """A head of the box (``box`` and ``box-pixels``, ``box-landmarks``, ``box-combined``), or a checkpoint folder.

    Raises:
        CheckpointError: No such checkpoint, or a damaged one.
    """
    from dferkit.encoders.box import BOX_FOLDER
    from dferkit.models.checkpoint import load_checkpoint
    from dferkit.models.shipped import NAMES, head_folder

    known = {"box": "box", **NAMES}
    return load_checkpoint(head_folder(BOX_FOLDER, known[name]) if name in known else Path(name))


def refuse_options(data: Path, *, of_store: Mapping[str, object], of_manifest: Mapping[str, object]) -> None:
    """Refuse options that would be without effect on this kind of data.

    Args:
        of_store, of_manifest: Values by option; None and False are those that were not given.

    Raises:
        ConfigError: One of the other kind was given.
    """
    given, kind = (of_manifest, "clips.csv") if data.is_dir() else (of_store, "a store of dferkit prepare")
    wrong = [option for option, value in given.items() if value is not None and value is not False]
    if wrong:
        raise ConfigError(
            f"{' and '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} for {kind}; --data is {data.name}"
        )
