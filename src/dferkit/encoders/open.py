"""A visual encoder by name, from one table.

A new encoder is a class with the base ``VisualEncoder`` in a file of this folder, and one line in ``BACKBONES``; ``docs/how-to/add-an-encoder.md``
shows both. What an encoder offers is read from its attributes, never from its name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.encoders.clip_model import ClipEncoder
from dferkit.encoders.combined import CombinedEncoder
from dferkit.encoders.landmarks import LandmarkEncoder
from dferkit.encoders.model_folder import find_text_folder
from dferkit.encoders.patches import KINDS, PatchEncoder
from dferkit.encoders.protocols import DescribingEncoder, VisualEncoder, require_attributes
from dferkit.encoders.text import TextEncoder
from dferkit.encoders.videomae import PRECISIONS, VideoMAEEncoder
from dferkit.errors import ConfigError
from dferkit.labels import check_name

BUNDLED: dict[str, type[BoxEncoder] | type[LandmarkEncoder] | type[CombinedEncoder]] = {
    "box": BoxEncoder,
    "landmarks": LandmarkEncoder,
    "box+landmarks": CombinedEncoder,
}
"""Name → encoder in the folder of the bundled model; ``front_end`` gives these the names that users choose by."""
BACKBONES: dict[str, Callable[..., VisualEncoder]] = {
    "clip": ClipEncoder,
    "clip-interpolate": partial(ClipEncoder, size="interpolate"),
    **{kind: partial(PatchEncoder, kind) for kind in KINDS},
    **{name: partial(VideoMAEEncoder, precision=precision) for precision, name in PRECISIONS.items()},
}
"""Name → how it is opened: with the text after ``name:`` (a folder, or a name in the hub cache), or without an argument for the name alone."""
BUNDLED_TEXT, OWN_TEXT = "box", "same"
"""Names of text encoders: the bundled one, and the text tower of the visual encoder. Anything else is a folder, or a name in the hub cache."""


def open_visual_encoder(spec: str, *, box: Path | str = BOX_FOLDER, device: str = "cpu") -> VisualEncoder:
    """An encoder by its name in ``BUNDLED`` or ``BACKBONES``; any other text is a folder or hub-cache name of a VideoMAE.

    Args:
        spec: ``box``, ``videomae`` (small and random), ``clip:FOLDER``, ``path/to/videomae``. box: Folder of the bundled model.

    Raises:
        ConfigError: An unknown name before a colon, or an attribute is missing. CheckpointError: The model cannot be loaded.
    """
    name, colon, source = spec.partition(":")
    if spec in BUNDLED:
        return BUNDLED[spec](box).to(device)
    if colon and not Path(spec).is_dir():
        check_name("encoder", name, BACKBONES)
    if name in BACKBONES:
        opened = BACKBONES[name](source) if colon else BACKBONES[name]()
        return require_attributes(opened, name).to(device)
    return VideoMAEEncoder(spec).to(device)


def with_full_path(spec: str) -> str:
    """The same backbone with its folder as a full path: a checkpoint that names it is used from any working directory."""
    name, colon, source = spec.partition(":") if spec.partition(":")[0] in BACKBONES else ("", "", spec)
    folder = Path(source).expanduser()
    return f"{name}{colon}{folder.resolve()}" if source and folder.is_dir() else spec


def describer_of(encoder: VisualEncoder, box: Path | str = BOX_FOLDER, *, device: str = "cpu") -> DescribingEncoder:
    """The encoder that measures the action units: this one where it does, else the bundled video network on a device."""
    return encoder if isinstance(encoder, DescribingEncoder) else BoxEncoder(box).to(device)


def choose_text_encoder(text: str | None, encoder: str) -> str:
    """The text encoder that goes with a visual one: ``box``, ``same`` (the visual encoder's own text tower) or a folder as a full path.

    Args:
        text: As the user named it; None takes the own text tower where there is one, else ``box``. encoder: As ``open_visual_encoder`` takes it.

    Raises:
        ConfigError: ``same`` for an encoder without a text tower.
    """
    name, _, source = encoder.partition(":")
    opened = BACKBONES.get(name)
    has_own = bool(getattr(getattr(opened, "func", opened), "has_text", False))
    if text is None:
        return OWN_TEXT if has_own else BUNDLED_TEXT
    if text == OWN_TEXT and not has_own:
        raise ConfigError(
            f"--text-encoder same: {encoder} has no text tower of its own; give box, or the folder of a text model"
        )
    if text in (OWN_TEXT, BUNDLED_TEXT):
        return text
    folder = Path(text).expanduser()
    if not folder.is_dir():
        return text
    is_own = has_own and Path(source).expanduser().resolve() == folder.resolve()
    return OWN_TEXT if is_own else str(folder.resolve())


def text_folder(text: str, encoder: str, box: Path | str = BOX_FOLDER) -> Path:
    """Folder of a text encoder as ``choose_text_encoder`` names it.

    Raises:
        CheckpointError: There is none.
    """
    if text == BUNDLED_TEXT:
        return Path(box) / "text"
    return find_text_folder(encoder.partition(":")[2] if text == OWN_TEXT else text)


def open_text_encoder(text: str, encoder: str, *, box: Path | str = BOX_FOLDER, device: str = "cpu") -> TextEncoder:
    """A text encoder as ``choose_text_encoder`` names it.

    Raises:
        CheckpointError: It cannot be loaded.
    """
    return TextEncoder(text_folder(text, encoder, box), device=device)
