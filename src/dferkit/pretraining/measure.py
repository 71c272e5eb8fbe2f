"""Scores of a head on rendered clips that no part was trained on, beside the score that perfect action units would give."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Float

from dferkit.encoders.text import TextEncoder
from dferkit.evaluation.claims import localisation_claim, phrase_masses
from dferkit.evaluation.metrics import evaluate_predictions, expected_calibration_error
from dferkit.labels import BASIC
from dferkit.models.checkpoint import Checkpoint
from dferkit.models.coarse import CoarseClassifier, fit_coarse, unit_statistics
from dferkit.pretraining.rendered_faces import PROFILES, RenderedFaces
from dferkit.pretraining.rendered_tokens import RenderedTokens
from dferkit.synthetic.benchmark import BenchmarkConfig, draw_clip, plan_clips
from dferkit.synthetic.identity import SKIN_TONES
from dferkit.synthetic.motion import Profile
from dferkit.tokens.captioned import caption_unseen, with_texts
from dferkit.training.score import predict_outputs, score, whole_plans

_CEILING_CLIPS = 1200
_MOST_LOCALISED = 600  # clips whose plans are measured

Answers = Float[np.ndarray, "clips classes"]


def answer_clips(head: Checkpoint, clips: RenderedTokens, text_encoder: TextEncoder, *, device: str = "cpu") -> Answers:
    """Class probabilities, with captions that the head writes as in use."""
    data = with_texts(clips.data, caption_unseen(head, clips.data, text_encoder))
    return score(head, data, device=device).probabilities


def measure_answers(
    faces: Mapping[str, RenderedFaces], answers: Mapping[str, Answers], is_test: Bool[np.ndarray, " held"]
) -> dict[str, Any]:
    """Scores on the benchmark's two profiles, on held-back looks, and there by rendered skin tone.

    Args:
        faces, answers: Clips and probabilities under ``measure``, ``measure_large`` and ``held``. is_test: Which clips of ``held`` count.
    """
    result: dict[str, Any] = {}
    for profile in ("posed", "natural"):
        for key, ending in (("measure", ""), ("measure_large", "_large")):
            chosen = faces[key].of_profile(profile)
            result[profile + ending] = _scores(faces[key].take(chosen), answers[key][chosen])
    held, of_held = faces["held"].take(is_test), answers["held"][is_test]
    result["held_back"] = _scores(held, of_held)
    result["skin_tones"] = {
        tone: _scores(held.take(held.tone == number), of_held[held.tone == number])
        for number, tone in enumerate(SKIN_TONES)
        if (held.tone == number).any()
    }
    return result


def _scores(data: RenderedFaces, answers: Answers) -> dict[str, Any]:
    """``data``: Clips of one profile."""
    scores = evaluate_predictions(BASIC, data.label, answers, subjects=data.subject.astype(str))
    ceiling = _ceiling(PROFILES[data.profile[0]]).probabilities(unit_statistics(data.au.astype(float)))
    ceiling_uar = evaluate_predictions(BASIC, data.label, ceiling).uar
    recalls = zip(BASIC, scores.per_class_recall, strict=True)
    return {
        "num_clips": len(answers),
        "uar": scores.uar,
        "uar_ci95": list(scores.uar_ci95),
        "war": scores.war,
        "ceiling_uar": ceiling_uar,
        "share_of_ceiling": scores.uar / ceiling_uar,
        "per_class_recall": {label: None if np.isnan(value) else float(value) for label, value in recalls},
        "calibration_error": expected_calibration_error(answers, data.label),
    }


@functools.cache
def _ceiling(profile: str) -> CoarseClassifier:
    """A linear model on the true action units of other clips of a profile, for the score that perfect action units would give."""
    config = BenchmarkConfig(clips=_CEILING_CLIPS, profile=cast(Profile, profile), namespace="pretrain", seed=999)
    plans = plan_clips(config)
    truth = np.stack([draw_clip(config, plan).au for plan in plans]).astype(float)
    return fit_coarse(unit_statistics(truth), np.array([BASIC.index(plan.label) for plan in plans]))


def au_correlation(clips: RenderedTokens) -> dict[str, float]:
    """Correlation of predicted and true intensity, over all frames, for each action unit that occurs; 0 for one whose prediction is constant."""
    predicted = clips.data.units.reshape(-1, clips.data.units.shape[-1])
    truth = clips.true_units.reshape(predicted.shape)
    return {
        name: float(np.corrcoef(truth[:, i], predicted[:, i])[0, 1]) if np.ptp(predicted[:, i]) else 0.0
        for i, name in enumerate(clips.data.au_names)
        if truth[:, i].std() > 0.02
    }


def localise(
    head: Checkpoint, clips: RenderedTokens, text_encoder: TextEncoder, *, seed: int, device: str = "cpu"
) -> dict[str, float]:
    """``localisation_claim`` of the head's plans for the first clips."""
    clips = clips.take(np.arange(min(len(clips.rows), _MOST_LOCALISED)))
    captioned = caption_unseen(head, clips.data, text_encoder)
    outputs = predict_outputs(head.model, with_texts(clips.data, captioned), device=device)
    phrases = []
    for i, plan in enumerate(whole_plans(outputs, captioned.tokens)):
        peak = clips.true_units[i].max(0)
        phrases += phrase_masses(captioned.captions[i], captioned.tokens[i], plan, clips.heat[i], peak)
    return localisation_claim(phrases, seed=seed)
