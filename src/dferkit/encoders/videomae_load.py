"""VideoMAE from a transformers folder, and from a published file to such a folder. Nothing is unpickled but tensors."""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dferkit.checks import check_range
from dferkit.encoders.model_folder import cannot_load
from dferkit.encoders.videomae_keys import KeyReport, fill, plain_keys, refuse_other_model
from dferkit.errors import CheckpointError, ConfigError
from dferkit.storage import digest_file, read_json, write_json

STATISTICS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and spread of the channels (ImageNet's) with which the published VideoMAE was trained."""
_HEADS = {1280: 16, 1408: 16}  # ViT-H and ViT-g; all others have heads of 64


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedSizes:
    """Sizes that the weights of a published file do not show.

    Attributes:
        size: Side of the pictures in pixels; 0 takes what the file notes of its training, or else 224. frames: Of a clip; 0: noted, or else 16.
        heads: Of an attention; 0 for the published one of this width (of 64 each; 16 in ViT-H and ViT-g).
    """

    size: int = 0
    frames: int = 0
    heads: int = 0

    def __post_init__(self) -> None:
        check_range(self, "size", "frames", "heads", least=0)


def load_videomae(source: str) -> Any:
    """The model of a folder or a name in the hub cache, with every parameter from the file.

    Raises:
        CheckpointError: It is not there, is damaged, is another model, or a key would stay unfilled or unused.
    """
    from transformers import VideoMAEConfig, VideoMAEModel

    try:
        config = VideoMAEConfig.from_pretrained(source, local_files_only=True)
        weights = {key: value for path in _weight_files(source) for key, value in load_file(path).items()}
        model = VideoMAEModel(config)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError, SafetensorError) as error:
        raise cannot_load(source, "videomae", error) from error
    return _filled(model, weights, Path(source).name)[0]


def convert_published(file: Path, out: Path, sizes: PublishedSizes | None = None) -> KeyReport:
    """Write a published file as a folder for transformers: ``config.json``, ``model.safetensors``, ``preprocessor_config.json`` and ``conversion.json``.

    Depth, widths, patch and tubelet are those of the weights. ``conversion.json`` has the SHA-256 of the file, the sizes, and what became of every key.

    Raises:
        CheckpointError: The file cannot be read without unpickling, is another model, or a key would stay unfilled or unused.
        ConfigError: The folder exists, or the sizes do not go together.
    """
    from transformers import VideoMAEModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    if out.exists():
        raise ConfigError(f"{out.name} exists already; give another --out")
    weights, noted = read_published(file)
    config = published_config(weights, noted, sizes or PublishedSizes(), file.name)
    model, report = _filled(VideoMAEModel(config), weights, file.name)
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        model.save_pretrained(temporary)
        mean, std = STATISTICS
        side = {"height": config.image_size, "width": config.image_size}
        write_json(
            temporary / "preprocessor_config.json",
            {"image_processor_type": "VideoMAEImageProcessor", "image_mean": mean, "image_std": std, "size": {"shortest_edge": config.image_size}, "crop_size": side},
        )  # fmt: skip
        about = {"file": file.name, "sha256": digest_file(file), "heads": config.num_attention_heads}
        write_json(temporary / "conversion.json", {**about, **asdict(report)})
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return report


def read_published(file: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """The weights of a published file (``.pth`` or ``.safetensors``), and the settings of its training that it notes, by name.

    Raises:
        CheckpointError: It is not there, cannot be read as tensors alone, or holds none.
    """
    if not file.is_file():
        raise CheckpointError(f"there is no file {file}; give the published .pth or .safetensors file")
    try:
        # The authors' own checkpoints hold the arguments of the training beside the weights: a plain record of values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            is_pickle = file.suffix != ".safetensors"  # VideoMAE V2 is published so as well
            content = torch.load(file, map_location="cpu", weights_only=True) if is_pickle else load_file(file)
    except Exception as error:  # the reader raises whatever it met in the bytes
        raise CheckpointError(
            f"{file.name} cannot be read as a file of tensors, and nothing else is unpickled; copy it again, or save its weights alone"
        ) from error
    noted: Any = content.get("args", {}) if isinstance(content, dict) else {}
    while isinstance(content, dict) and (inner := next((content[k] for k in ("model", "module", "state_dict") if isinstance(content.get(k), dict)), None)):  # fmt: skip
        content = inner
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{file.name} holds no weights by name, at the top or under model, module or state_dict")
    settings = vars(noted) if isinstance(noted, argparse.Namespace) else noted
    return dict(content), settings if isinstance(settings, dict) else {}


def _weight_files(source: str) -> list[str]:
    from transformers.utils import cached_file

    index = cached_file(
        source, "model.safetensors.index.json", local_files_only=True, _raise_exceptions_for_missing_entries=False
    )
    names = sorted(set(read_json(index)["weight_map"].values())) if index else ["model.safetensors"]
    return [str(cached_file(source, name, local_files_only=True)) for name in names]


def _filled(model: Any, weights: Mapping[str, Tensor], name: str) -> tuple[Any, KeyReport]:
    """The model with these weights, for inference."""
    refuse_other_model(weights, name)
    config = model.config
    if not isinstance(config.image_size, int) or not isinstance(config.patch_size, int):
        raise CheckpointError(f"{name}: pictures and patches must be square; config.json gives pairs")
    if config.image_size % config.patch_size or config.num_frames % config.tubelet_size:
        raise CheckpointError(
            f"{name}: pictures of {config.image_size} pixels in patches of {config.patch_size}, {config.num_frames} frames in tubelets of {config.tubelet_size}; both must divide without rest"
        )
    patches = model.embeddings.num_patches
    found, report = fill(weights, model.state_dict(), num_patches=patches, name=name)
    model.load_state_dict(found)
    return model.eval().requires_grad_(False), report


def published_config(weights: Mapping[str, Tensor], noted: Mapping[str, Any], sizes: PublishedSizes, name: str) -> Any:
    """Configuration of the transformers class: sizes from the shapes, from what is given, and from what the file notes.

    Raises:
        CheckpointError: The weights are not those of a VideoMAE. ConfigError: The number of heads is not known or does not divide the width.
    """
    from transformers import VideoMAEConfig

    keys = plain_keys(weights, name)
    refuse_other_model(keys, name)
    try:
        patch, hidden = (weights[keys[key]].shape for key in ("patch_embed.proj.weight", "blocks.0.mlp.fc1.weight"))
    except KeyError as error:
        raise CheckpointError(f"{name} holds no VideoMAE: it has no {error.args[0]}") from error
    if len(patch) != 5 or patch[1] != 3 or patch[3] != patch[4]:
        raise CheckpointError(
            f"{name} holds no VideoMAE: its patches have the shape {tuple(patch)}, expected (width, 3, tubelet, side, side)"
        )
    heads = sizes.heads or _HEADS.get(patch[0], patch[0] // 64 if patch[0] % 64 == 0 else 0)
    if not heads or patch[0] % heads:
        raise ConfigError(
            f"{name} has width {patch[0]}, which no published VideoMAE has; give the number of heads with --heads"
        )
    depth = 1 + max(int(match[1]) for key in keys if (match := re.match(r"blocks\.(\d+)\.", key)))
    noted = {name: value for name, value in noted.items() if isinstance(value, int) and value > 0}
    frames = sizes.frames or noted.get("num_frames", 16) * noted.get("num_segments", 1)
    return VideoMAEConfig(
        image_size=sizes.size or noted.get("input_size", 224),
        patch_size=patch[3],
        num_frames=frames,
        tubelet_size=patch[2],
        hidden_size=patch[0],
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=hidden[0],
        layer_norm_eps=1e-6,  # the default of transformers is another
        qv_bias=any(key.endswith(("q_bias", "v_bias")) for key in keys),
        use_mean_pooling="norm.weight" not in keys,
    )
