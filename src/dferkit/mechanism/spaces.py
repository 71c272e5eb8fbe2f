"""Joint spaces of words and patches, one per aligner, trained on rendered faces whose moving cells are known: the start ``true maps``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from einops import reduce

from dferkit.encoders.box import BoxEncoder
from dferkit.encoders.text import TextEncoder
from dferkit.mechanism.grid import ALIGNERS
from dferkit.mechanism.render import GRID, POOLED
from dferkit.models.grace import GraceConfig
from dferkit.models.joint_space import save_joint_space
from dferkit.pretraining.joint import JointPretrainingConfig, pretrain_joint_space
from dferkit.pretraining.render import render_shards
from dferkit.pretraining.rendered_faces import read_shards
from dferkit.pretraining.rendered_tokens import RenderedTokens, encode_pixels
from dferkit.synthetic import BenchmarkConfig
from dferkit.tokens.captioned import caption_training_clips, with_texts

_SEED = 700  # of the rendered faces; no part of the bundled model was trained on them


def space_path(folder: Path, aligner: str) -> Path:
    """File of the space that was trained with an aligner."""
    return folder / f"{aligner.replace(' ', '-')}.safetensors"


def train_spaces(
    folder: Path,
    aligners: Sequence[str],
    clips: int,
    *,
    box: Path,
    workers: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Render the faces and train what is not there yet.

    Args:
        clips: Rendered clips of the posed profile.
    """
    todo = [name for name in aligners if not space_path(folder, name).is_file()]
    if not todo:
        return
    faces = BenchmarkConfig(clips=clips, namespace="pretrain", seed=_SEED)
    shards = render_shards(folder / "faces", [faces], landmarker=None, workers=workers, on_progress=on_progress)
    tokens = _pooled(encode_pixels(read_shards(shards), BoxEncoder(box)))
    encoder = TextEncoder(box / "text")
    captioned = caption_training_clips(tokens.data, encoder)
    data = with_texts(tokens.data, captioned)
    shape = data.shape(text_dim=encoder.dim, has_joint_space=True)
    for name in todo:
        config = GraceConfig.for_shape(shape, aligner=ALIGNERS[name])
        model = pretrain_joint_space(config, replace(tokens, data=data), captioned.captions, JointPretrainingConfig())
        save_joint_space(model.space, space_path(folder, name))


def _pooled(tokens: RenderedTokens) -> RenderedTokens:
    """Tokens and maps on the patches of the tasks."""
    axes = {"r": GRID[0], "a": POOLED, "c": GRID[1], "b": POOLED}
    visual = reduce(tokens.data.visual_in_memory().float(), "n t (r a c b) d -> n t (r c) d", "mean", **axes).half()
    heat = reduce(torch.from_numpy(tokens.heat), "n u (r a c b) -> n u (r c)", "mean", **axes).numpy()
    heat = heat / np.maximum(heat.max(2, keepdims=True), 1e-9)
    return replace(tokens, data=replace(tokens.data, visual=visual, grid=GRID), heat=heat)
