"""The names of VideoMAE's weights: the published files' and both of transformers' → those of the transformers class, every key accounted for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dferkit.errors import CheckpointError

_BLOCK, _LAYER, _PART = r"blocks\.(\d+)\.", r"encoder.layer.\1.", r"(weight|bias)"
_NAMES = (
    # The published files.
    (r"patch_embed\.proj\." + _PART, r"embeddings.patch_embeddings.projection.\1"),
    (_BLOCK + r"norm1\." + _PART, _LAYER + r"layernorm_before.\2"),
    (_BLOCK + r"norm2\." + _PART, _LAYER + r"layernorm_after.\2"),
    (_BLOCK + r"attn\.q_bias", _LAYER + "attention.attention.query.bias"),
    (_BLOCK + r"attn\.v_bias", _LAYER + "attention.attention.value.bias"),
    (_BLOCK + r"attn\.proj\." + _PART, _LAYER + r"attention.output.dense.\2"),
    (_BLOCK + r"mlp\.fc1\." + _PART, _LAYER + r"intermediate.dense.\2"),
    (_BLOCK + r"mlp\.fc2\." + _PART, _LAYER + r"output.dense.\2"),
    (r"norm\." + _PART, r"layernorm.\1"),
    # Transformers: the biases of files made before version 5, then the names as they are.
    (r"encoder\.layer\.(\d+)\.attention\.attention\.q_bias", _LAYER + "attention.attention.query.bias"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.v_bias", _LAYER + "attention.attention.value.bias"),
    (r"((?:embeddings\.patch_embeddings|encoder\.layer|layernorm)\..+)", r"\1"),
)
_FUSED = re.compile(_BLOCK + r"attn\.qkv\.weight")
_LEFT_OUT = {
    r"(decoder\..+|encoder_to_decoder\.weight|mask_token)": "part of the decoder, which only pre-training uses",
    r"(head|classifier)\.(weight|bias)": "class scores of the data set that it was trained on",
    r"fc_norm\.(weight|bias)": "norm of the mean of all tokens, before these class scores",
}
_TABLES = ("pos_embed", "embeddings.position_embeddings")
_OTHERS = {
    "MAE-DFER": r"blocks\.\d+\.(first|second|third)_attn|lg_region_tokens",
    "SVFAP": r"(temporal|spatial)_downsamples\.|blocks\.\d+\.cross_attn\.",
    "S2D": r"prompt_(blocks|norms)\.|patch_embed_prompt\.|temporal_embedding",
    "VideoMAE with cosine attention": r"attn\.logit_scale",
    "VideoMAE with layer scale": r"blocks\.\d+\.gamma_[12]",
    "an image transformer with a class token": r"cls_token",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyReport:
    """What became of every key of a file of weights.

    Attributes:
        filled: Parameter of the model → key in the file that it has its values from. Query, key and value have one key in the published files.
        left_out: Key in the file → why the model does not have it.
    """

    filled: Mapping[str, str]
    left_out: Mapping[str, str]


def plain_keys(weights: Mapping[str, Tensor], name: str) -> dict[str, str]:
    """Key without the prefixes of wrappers and of the pre-training model → key in the file.

    Raises:
        CheckpointError: Two keys differ in such a prefix only. ``name``: Of the file, for the message.
    """
    plain: dict[str, str] = {}
    for key in weights:
        short = re.sub(r"^((module|backbone|model|videomae)\.)+", "", key)
        short = re.sub(r"^encoder\.(?=(patch_embed|blocks|norm|pos_embed)\b)", "", short)
        if short in plain:
            raise CheckpointError(f"{name} has {plain[short]} and {key}, two keys for one parameter; keep one")
        plain[short] = key
    return plain


def refuse_other_model(keys: Mapping[str, object], name: str) -> None:
    """Refuse weights of an architecture that is not VideoMAE.

    Raises:
        CheckpointError: One of ``keys`` is a mark of another architecture. ``name``: Of the file, for the message.
    """
    for other, mark in _OTHERS.items():
        if found := next((key for key in keys if re.search(mark, key)), None):
            raise CheckpointError(
                f"{name} holds {other} (it has {found}), another architecture than VideoMAE; dferkit has no module for it"
            )


def fill(
    weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, num_patches: int, name: str
) -> tuple[dict[str, Tensor], KeyReport]:
    """The weights under the names of the model, and what became of every key.

    Args:
        wanted: The model's parameters by name; only their shapes are read. num_patches: Positions of the model. name: Of the file, for messages.

    Raises:
        CheckpointError: A parameter would stay unfilled, a key would stay unused, a shape differs, a value is not finite, or a position table is not the
            fixed one.
    """
    filled: dict[str, str] = {}
    found: dict[str, Tensor] = {}
    left_out: dict[str, str] = {}
    unused: list[str] = []
    for plain, key in plain_keys(weights, name).items():
        if not bool(torch.isfinite(weights[key]).all()):
            raise CheckpointError(f"{name}: {key} holds NaN or infinity; copy the file again")
        if reason := next((why for mark, why in _LEFT_OUT.items() if re.fullmatch(mark, plain)), None):
            left_out[key] = reason
        elif plain in _TABLES:
            _check_positions(weights[key], num_patches, name)
            left_out[key] = "equal to the fixed position table that the model computes"
        else:
            parts = _parts(plain, weights[key])
            if not parts or not parts.keys() <= wanted.keys():
                unused.append(key)
            found.update(parts)
            filled.update(dict.fromkeys(parts, key))
    if missing := sorted(wanted.keys() - filled.keys()):
        raise CheckpointError(
            f"{name}: {_some(missing)} would stay unfilled: no key has their values; it belongs to another version or model"
        )
    if unused:
        raise CheckpointError(
            f"{name}: {_some(unused)} would stay unused; the model has no place for it, so its answers would differ from those of the file's own model"
        )
    for parameter, value in found.items():
        if value.shape != wanted[parameter].shape:
            raise CheckpointError(
                f"{name}: {filled[parameter]} gives {parameter} the shape {tuple(value.shape)}, but the model has {tuple(wanted[parameter].shape)}; "
                "check config.json (sizes, tubelet)"
            )
    return {parameter: value.float() for parameter, value in found.items()}, KeyReport(filled=filled, left_out=left_out)


def _parts(plain: str, value: Tensor) -> dict[str, Tensor]:
    """Parameters that a key has the values of; none for an unknown key."""
    if fused := _FUSED.fullmatch(plain):
        names = [f"encoder.layer.{fused[1]}.attention.attention.{part}.weight" for part in ("query", "key", "value")]
        return dict(zip(names, value.chunk(3), strict=False))
    for pattern, target in _NAMES:
        if match := re.fullmatch(pattern, plain):
            return {match.expand(target): value}
    return {}


def _check_positions(table: Tensor, num_patches: int, name: str) -> None:
    """The table of positions is sinusoidal and has the model's length."""
    if table.shape[-2] != num_patches:
        raise CheckpointError(
            f"{name} has {table.shape[-2]} positions, but the model has {num_patches}; check the picture size and the number of frames"
        )
    width = table.shape[-1]
    angle = np.arange(num_patches)[:, None] / 10000 ** (np.arange(width) // 2 * 2 / width)
    expected = np.where(np.arange(width) % 2 == 0, np.sin(angle), np.cos(angle))
    if np.abs(table.double().reshape(num_patches, width).numpy() - expected).max() > 1e-4:
        raise CheckpointError(
            f"{name} has learned positions, and the transformers class has fixed ones; dferkit has no module for it"
        )


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} of its keys, such as {names[0]},"
