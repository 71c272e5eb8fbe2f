"""Paths on the command line → videos with their names; options that several commands share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dferkit.errors import ConfigError
from dferkit.storage import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from dferkit.readings import ExternalTools

LandmarkerOption = Annotated[
    str, typer.Option("--landmarker", help="Face landmarker: auto (the file in DFERKIT_MODELS), none, or a .task file.")
]
NeutralOption = Annotated[
    Path | None, typer.Option("--neutral", help="A video of the same person at rest, as reference for the landmarks.")
]
UnitsOption = Annotated[
    Path | None,
    typer.Option(
        "--units",
        help="Action units that another tool measured (OpenFace, py-feat, Live Link Face, ARKit): a CSV, or a folder with one CSV of the same name per video.",
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


def open_tools(
    units: Path | None, guide: Path | None, guide_labels: Path | None, videos: Sequence[str]
) -> ExternalTools:
    """Other tools in place of the describer of action units (``--units``) and of the coarse classifier (``--guide``).

    Raises:
        ConfigError: Class names without a classifier, or a file that is neither.
    """
    from dferkit.readings import ExternalTools, open_classifier, open_units

    if guide_labels is not None and guide is None:
        raise ConfigError("--guide-labels names the classes of --guide; give --guide MODEL.onnx")
    return ExternalTools(
        units=None if units is None else open_units(units, videos),
        guide=None if guide is None else open_classifier(guide, guide_labels, videos=videos),
    )


def expand_inputs(paths: Sequence[Path]) -> tuple[list[tuple[Path, str]], list[str]]:
    """The videos to read, each once and with a name of its own, and a sentence for each folder without a video.

    A file is always tried, whatever its suffix; of a folder see ``find_videos``. A name is the end of the path: the file's name, or the
    path from the given folder on, and as many folders before it as are needed to make all names differ.
    """
    from dferkit.video import display_name, find_videos

    sizes: dict[Path, int] = {}
    empty: list[str] = []
    places: set[str] = set()
    for path in paths:
        videos = find_videos(path) if os.path.isdir(path) else [path]
        if not videos:
            name = display_name(Path(os.path.abspath(path)))
            empty.append(
                f"{name}/ holds no video ({', '.join(VIDEO_SUFFIXES)}) and no folder with only numbered pictures"
            )
        for video in videos:
            place = os.path.join(os.path.realpath(video.parent), video.name)
            if place not in places:
                places.add(place)
                sizes[video] = 1 + len(video.relative_to(path).parts)
    return list(zip(sizes, _distinct_names(sizes), strict=True)), empty


def _distinct_names(sizes: Mapping[Path, int]) -> list[str]:
    """The last parts of each path, as many as asked for, and more where names would be equal."""
    from dferkit.video import printable

    parts, lengths = [Path(os.path.abspath(path)).parts[1:] for path in sizes], list(sizes.values())
    while True:
        names = [printable("/".join(own[-size:])) for own, size in zip(parts, lengths, strict=True)]
        count = Counter(names)
        longer = [i for i, name in enumerate(names) if count[name] > 1 and lengths[i] < len(parts[i])]
        if not longer:
            return names
        for i in longer:
            lengths[i] += 1


def refuse_options(data: Path, *, of_store: Mapping[str, object], of_manifest: Mapping[str, object]) -> None:
    """Refuse options that have no effect on this kind of data.

    Args:
        of_store, of_manifest: Values by option; None and False mean that the option was not given.

    Raises:
        ConfigError: An option for the other kind of data was given.
    """
    given, kind = (of_manifest, "clips.csv") if data.is_dir() else (of_store, "a store of dferkit prepare")
    wrong = [option for option, value in given.items() if value is not None and value is not False]
    if wrong:
        raise ConfigError(
            f"{' and '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} for {kind}; --data is {data.name}"
        )
