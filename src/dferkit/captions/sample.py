"""Random action-unit curves and their captions: training material for text encoders and tests, without any video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dferkit.captions.describe import DescribeConfig, describe
from dferkit.captions.refine import refine
from dferkit.facs import AU_NAMES, load_facs
from dferkit.labels import MAFW
from dferkit.schema import ActionUnits, Caption, CoarsePrediction

_ENVELOPES = ("onset", "offset", "bump", "sustained", "double", "whole")


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledCaption:
    """Curves with their caption; ``guide`` is None for a coarse caption."""

    units: ActionUnits
    caption: Caption
    guide: CoarsePrediction | None


def sample_caption(
    generator: np.random.Generator,
    *,
    refined_share: float = 0.6,
    synonym_share: float = 0.5,
    config: DescribeConfig | None = None,
) -> SampledCaption:
    """Random curves, described; a share with random synonyms, a share rewritten for a random guide."""
    units = sample_action_units(generator)
    wording_generator = generator if generator.random() < synonym_share else None
    caption = describe(units, config=config, generator=wording_generator)
    if generator.random() >= refined_share:
        return SampledCaption(units=units, caption=caption, guide=None)
    guide = sample_guide(generator)
    return SampledCaption(units=units, caption=refine(caption, guide), guide=guide)


def sample_guide(generator: np.random.Generator) -> CoarsePrediction:
    """Random class probabilities over the seven or eleven classes, mostly with one or two clear candidates."""
    labels = MAFW[:7] if generator.random() < 0.7 else MAFW
    return CoarsePrediction(
        labels=labels,
        probabilities=generator.dirichlet(np.full(len(labels), 0.4)),
        model="random",
        fold=-1,
        is_out_of_fold=True,
    )


def sample_action_units(generator: np.random.Generator, *, num_frames: int = 16, seconds: float = 2.0) -> ActionUnits:
    """Random curves over ``AU_NAMES``: a class's typical set, a mixture of two, an arbitrary set or none, with idle
    movement and measuring noise.

    Args:
        num_frames: Frames at equal distance, the first at 0.
        seconds: Length of the clip.
    """
    times = np.arange(num_frames) * (seconds / num_frames)
    intensity = np.zeros((num_frames, len(AU_NAMES)))
    apex = generator.uniform(0.1, 0.9) * seconds
    strength = generator.uniform(0.25, 1.0)
    envelope = _ENVELOPES[int(generator.integers(len(_ENVELOPES)))]
    for name in _sample_names(generator):
        # Mostly together, as expressions are; sometimes each on its own.
        alone = generator.random() < 0.25
        shape = _ENVELOPES[int(generator.integers(len(_ENVELOPES)))] if alone else envelope
        centre = generator.uniform(0.0, 1.0) * seconds if alone else apex + generator.normal(0.0, 0.1)
        peak = float(np.clip(strength * generator.uniform(0.6, 1.3), 0.15, 1.0))
        intensity[:, AU_NAMES.index(name)] = peak * _sample_envelope(generator, shape, times, centre, seconds)
    for column in generator.choice(len(AU_NAMES), size=int(generator.integers(0, 4)), replace=False):
        intensity[:, column] = np.maximum(intensity[:, column], generator.uniform(0.05, 0.18))
    noise = generator.uniform(0.0, 0.05)
    intensity = np.clip(intensity + generator.normal(0.0, noise, intensity.shape), 0.0, 1.0)
    return ActionUnits(names=AU_NAMES, intensity=intensity, timestamps=times, source="random")


def _sample_names(generator: np.random.Generator) -> list[str]:
    kind = generator.random()
    if kind < 0.08:
        return []
    if kind < 0.45:  # arbitrary sets keep the encoder from learning that a unit implies its usual companions
        return [str(name) for name in generator.choice(AU_NAMES, size=int(generator.integers(1, 8)), replace=False)]
    rules = list(load_facs().classes.values())
    names: list[str] = []
    for number in generator.choice(len(rules), size=1 if kind < 0.85 else 2, replace=False):
        rule = rules[number]
        names += rule.variants[int(generator.integers(len(rule.variants)))]
        names += [name for name, share in rule.optional.items() if generator.random() < share]
    return [name for name in dict.fromkeys(names) if name in AU_NAMES]


def _sample_envelope(
    generator: np.random.Generator, shape: str, times: Float[np.ndarray, " frames"], centre: float, seconds: float
) -> Float[np.ndarray, " frames"]:
    """A curve of height about 1."""
    width = generator.uniform(0.05, 0.35)
    step = 1.0 / (1.0 + np.exp(-np.clip((times - centre) / (width / 2), -50, 50)))
    bump = np.exp(-0.5 * ((times - centre) / (width + 0.1)) ** 2)
    if shape == "onset":
        return step
    if shape == "offset":
        return 1.0 - step
    if shape == "bump":
        return bump
    if shape == "double":
        return np.maximum(bump, np.exp(-0.5 * ((times - (centre + seconds / 2) % seconds) / (width + 0.1)) ** 2))
    floor = generator.uniform(0.4, 0.9)
    return floor + (1.0 - floor) * bump if shape == "sustained" else np.ones_like(times)
