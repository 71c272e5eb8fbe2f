"""Options that several verbs share, and what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dferkit.models.checkpoint import Checkpoint
    from dferkit.recipes.folds import StoreRun

FrontEndOption = Annotated[
    str | None,
    typer.Option(
        "--front-end",
        help="What is read of a face: auto (landmarks if a landmarker is available, else pixels; the default), pixels, landmarks or both.",
    ),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        help="Another backbone in place of the front end: videomae (small, random), a VideoMAE folder, videomae-bf16:FOLDER or videomae-int8:FOLDER (faster, rounded), clip:FOLDER (a token per frame), or clip-patches:FOLDER, siglip:FOLDER, xclip:FOLDER (a token per patch).",
    ),
]
TextEncoderOption = Annotated[
    str | None,
    typer.Option(
        "--text-encoder",
        help="What reads the captions: box (the bundled one), same (the text tower of --encoder, the default where it has one), or the folder of a text model such as MiniLM.",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="auto (a GPU if torch finds one), cpu, cuda or cuda:N. Results are the same byte for byte on cpu only.",
    ),
]
DataOption = Annotated[
    Path, typer.Option("--data", help="clips.csv (video,label[,split,subject]), or a store of dferkit prepare.")
]
CheckpointOption = Annotated[str, typer.Option("--checkpoint", "-c", help="Checkpoint folder, or box.")]
FaceOption = Annotated[
    str | None,
    typer.Option(
        "--face", help="For clips.csv only: face detector haar (default), yunet, auto, cropped, or a CSV of boxes."
    ),
]
DetectorOption = Annotated[
    str, typer.Option("--face", help="Face detector: auto, haar, yunet, cropped, or a CSV of boxes.")
]
ViewsOption = Annotated[
    int | None,
    typer.Option(
        "--views",
        min=1,
        help="For stores only: number of views of a clip, each with other frames of it, 1 by default; the answer to a test clip is the mean over its views.",
    ),
]
FlipOption = Annotated[bool, typer.Option("--flip", help="For stores only: also use each view mirrored.")]
GroupsOption = Annotated[
    Path | None, typer.Option("--groups", help="For stores only: CSV of clip_id and attributes, for scores by group.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same weights.")]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting: training.epochs=50, model.aligner.epsilon=0.05 (repeat)."),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="For clips.csv only: names of your own classes, with commas between them, such as onset,offset.",
    ),
]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores by default.")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoders:
    """``--front-end``, ``--encoder`` and ``--text-encoder`` of a command line, as they were given."""

    front_end: str | None
    encoder: str | None
    text_encoder: str | None


def resolve_encoder(front_end: str | None, encoder: str | None, data: Path | None = None) -> str:
    """The visual encoder of a command line.

    Args:
        data: A store decides by the landmarks that are stored in it.

    Raises:
        ConfigError: Both options are given, or an unknown front end. BackendError: Landmarks cannot be read.
    """
    from dferkit.encoders.front_end import choose_encoder

    return choose_encoder(front_end, encoder, has_landmarks=stored_landmarks(data))


def stored_landmarks(data: Path | None) -> bool | None:
    """Whether a store holds landmarks; None for what is no store."""
    from dferkit.preparation import FaceStore

    if data is None or not (data / "store.json").is_file():
        return None
    store = FaceStore.open(data)
    first = next((r.clip_id for r in store.release.records if store.num_frames(r.clip_id)), None)
    return first is not None and store.landmarks(first) is not None


def open_run(
    recipe: str,
    data: Path | None,
    *,
    encoders: Encoders,
    settings: Sequence[str] | None,
    seed: int,
    device: str,
) -> StoreRun:
    """A recipe, or a model for any data, with the options of a command line.

    Raises:
        ConfigError: An unknown recipe, model, front end or device, or a text encoder for a model without text. BackendError: Landmarks or the device cannot be used.
    """
    from dferkit.devices import choose_device
    from dferkit.encoders.open import BUNDLED_TEXT, choose_text_encoder
    from dferkit.errors import ConfigError
    from dferkit.recipes.folds import recipe as find_recipe

    known = find_recipe(recipe)
    backbone = known.spec.entry.default_encoder
    if backbone is not None and encoders.front_end is not None and encoders.encoder is None:
        raise ConfigError(f"{recipe} reads {backbone}, not the front end; leave out --front-end")
    if encoders.text_encoder is not None and not known.spec.entry.reads_text:
        raise ConfigError(f"{recipe} reads no captions; leave out --text-encoder")
    encoder = resolve_encoder(encoders.front_end, encoders.encoder or backbone, data)
    spec = replace(
        known.spec,
        encoder=encoder,
        text_encoder=choose_text_encoder(encoders.text_encoder, encoder)
        if known.spec.entry.reads_text
        else BUNDLED_TEXT,
        settings=tuple(settings or ()),
        seed=seed,
        device=choose_device(device),
    )
    return replace(known, spec=spec)


def named_labels(labels: str | None) -> tuple[str, ...] | None:
    """The names of ``--labels``."""
    return None if labels is None else tuple(name.strip() for name in labels.split(","))


def open_checkpoint(name: str, front_end: str | None = None, data: Path | None = None) -> Checkpoint:
    """The bundled model, called ``box``, with the head of a front end (``box-pixels``, ``box-landmarks`` and ``box-combined`` name one); or a checkpoint folder.

    Raises:
        CheckpointError: No such checkpoint, or a damaged one. ConfigError: A checkpoint with another front end.
    """
    from dferkit.pipeline.loading import open_checkpoint as find

    return find(name, front_end, has_landmarks=stored_landmarks(data))[0]
