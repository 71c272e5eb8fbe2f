"""Names of models → their configuration: the rows of the ablation table."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace

from dferkit.errors import ConfigError
from dferkit.models.grace import GraceConfig

# Every row has the same layers and is trained alike; only what the name says is changed.
VARIANTS: dict[str, Callable[[GraceConfig], GraceConfig]] = {
    "grace": lambda c: c,
    "grace_cosine": lambda c: replace(c, aligner=replace(c.aligner, method="cosine")),
    "grace_cross_attention": lambda c: replace(c, aligner=replace(c.aligner, method="cross_attention")),
    "grace_phrases": lambda c: replace(c, text="phrases"),
    "grace_sentence": lambda c: replace(c, text="sentence"),
    # Without motion there is nothing to select by: all tokens are kept.
    "grace_no_motion": lambda c: replace(c, motion="none", ratio=1.0),
    "grace_spatial_motion": lambda c: replace(c, motion="spatial"),
    "grace_temporal_motion": lambda c: replace(c, motion="temporal"),
    # As few tokens as hold nine tenths of the motion weights; or all, with those that no word is near left unmatched.
    "grace_adaptive": lambda c: replace(c, selection="mass", ratio=0.9),
    "grace_unbalanced": lambda c: replace(c, ratio=1.0, aligner=replace(c.aligner, visual_relaxation=0.1)),
    "grace_steady_motion": lambda c: replace(c, motion_source="steady"),
    "grace_no_contrastive": lambda c: replace(c, weight_contrastive=0.0),
    "grace_no_auxiliary": lambda c: replace(c, weight_auxiliary=0.0),
    "grace_cross_entropy": lambda c: replace(c, gamma=0.0, class_balance=0.0),
    "vision_only": lambda c: replace(c, text="none"),
    "text_only": lambda c: replace(c, use_visual=False),
}


def variant(name: str, base: GraceConfig) -> GraceConfig:
    """Configuration of a named row.

    Raises:
        ConfigError: The name is unknown; the message names the nearest one.
    """
    if name not in VARIANTS:
        near = difflib.get_close_matches(name, VARIANTS, n=1, cutoff=0.0)[0]
        raise ConfigError(f"unknown model {name!r}; did you mean {near!r}? Known: {', '.join(VARIANTS)}")
    return VARIANTS[name](base)
