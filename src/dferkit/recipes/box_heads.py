"""The last stage of the box: for every front end a joint space, a coarse classifier and a GRACE head, calibrated and measured on looks that no
part was trained on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dferkit.encoders.box import BoxEncoder
from dferkit.encoders.combined import CombinedEncoder, fit_pixel_share, save_combined
from dferkit.encoders.landmarks import LandmarkEncoder
from dferkit.encoders.open import open_visual_encoder
from dferkit.encoders.text import TextEncoder
from dferkit.evaluation.calibration import at_temperature, fit_temperature
from dferkit.evaluation.claims import localisation_claim, phrase_masses
from dferkit.evaluation.metrics import evaluate_predictions, expected_calibration_error
from dferkit.evaluation.selective import ACCURACY_IN_DOUBT, abstention_threshold
from dferkit.labels import BASIC
from dferkit.models.checkpoint import Checkpoint, save_checkpoint
from dferkit.models.coarse import CoarseClassifier, fit_coarse, unit_statistics
from dferkit.models.grace import Grace, GraceConfig
from dferkit.models.joint_space import save_joint_space
from dferkit.models.shipped import HEADS, head_folder
from dferkit.pretraining.face_shards import PROFILES, FaceShard
from dferkit.pretraining.joint import JointPretrainingConfig, KnownClips, pretrain_joint_space
from dferkit.pretraining.shard_tokens import FrontEndClips, combine, encode_landmarks, encode_pixels
from dferkit.reports.card import write_card
from dferkit.reports.gallery import write_gallery
from dferkit.storage import read_json, write_json
from dferkit.synthetic.benchmark import BenchmarkConfig, draw_clip, fingerprint, plan_clips
from dferkit.synthetic.identity import SKIN_TONES
from dferkit.synthetic.motion import Profile
from dferkit.tokens.captioned import (
    Captioned,
    caption_other_clips,
    caption_training_clips,
    caption_unseen,
    fit_guide,
    with_texts,
)
from dferkit.tokens.dataset import TokenDataset
from dferkit.tokens.features import one_thread
from dferkit.training.fit import fit
from dferkit.training.score import predict_logits, predict_outputs, whole_plans
from dferkit.training.spec import TrainingSpec

if TYPE_CHECKING:
    from dferkit.recipes.pretrain import PretrainConfig

TRAINED_ON = "rendered faces (dferkit generator, version 1 and its training profile); no real person"
_CALIBRATION_SHARE = 5  # every fifth person of the held-back looks calibrates, the others measure
_CEILING_CLIPS = 1200
_NUM_FAILURES = 10
_JOINT_EPOCHS = {"box": 20, "landmarks": 40, "box+landmarks": 20}  # areas are few and alike: words find theirs later
_LOCALISED = 600  # clips whose plans are looked at

Tell = Callable[[str, int, int, str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadFaces:
    """Rendered faces: the heads are trained on ``train``, calibrated on some people of ``held`` and measured on its others, on ``measure``, and
    on ``measure_large``, the same clips in larger pictures."""

    train: FaceShard
    held: FaceShard
    measure: FaceShard
    measure_large: FaceShard

    @property
    def unseen(self) -> dict[str, FaceShard]:
        """What no part is trained on."""
        return {"held": self.held, "measure": self.measure, "measure_large": self.measure_large}


def build_heads(faces: HeadFaces, box: Path, work: Path, config: PretrainConfig, *, on_progress: Tell) -> None:
    """Train every front end's head, measure it, and write the folders of ``models.shipped.HEADS``, ``card.json`` and ``CARD.md``."""
    with one_thread():
        encoder = TextEncoder(box / "text")
        train = encode_front_ends(faces.train, box, is_new=True)
        unseen = {name: encode_front_ends(part, box) for name, part in faces.unseen.items()}
        held = unseen["held"]
        calibrating = faces.held.subject % _CALIBRATION_SHARE == 0
        card: dict[str, Any] = {}
        answers: dict[str, dict[str, np.ndarray]] = {}
        for name in HEADS:
            head = _train_head(
                name, train[name], faces.train.au, held[name], calibrating, box, encoder, config, on_progress
            )
            save_checkpoint(head, head_folder(box, name))
            answers[name] = {
                key: _filled(
                    _answer(head, clips[name], encoder),
                    clips[name].rows,
                    answers.get("box", {}).get(key),
                    len(faces.unseen[key].label),
                )
                for key, clips in unseen.items()
            }
            card[name] = {
                **_measure(answers[name], faces, ~calibrating),
                "au_correlation": _au_correlation(held[name], faces.held),
                "localisation": _localise(head, held[name], faces.held, encoder, config.seed),
                "temperature": head.temperature,
                "abstention": {
                    "threshold": head.about["abstain_below"],
                    "threshold_in_doubt": head.about["abstain_below_in_doubt"],
                    "coverage": head.about["answered_share"],
                },
                "no_landmarks": 1 - len(held[name].rows) / len(faces.held.label),
            }
    for name, file in (("box", "pixels"), ("landmarks", "landmarks")):
        _show_failures(work / f"failures-{file}.jpg", faces.held, answers[name]["held"], ~calibrating, file)
    write_json(
        box / "card.json",
        {
            "front_ends": card,
            "networks": {name: read_json(work / f"{name}.json") for name in ("visual", "landmarks")},
            "text_encoder": read_json(work / "text.json"),
            "generator": fingerprint(),
            "seed": config.seed,
            "clips": {
                "heads": len(faces.train.label),
                "calibration": int(calibrating.sum()),
                "held": int((~calibrating).sum()),
                "measure": len(faces.measure.label),
            },
        },
    )
    write_card(box)


def encode_front_ends(data: FaceShard, box: Path, *, is_new: bool = False) -> dict[str, FrontEndClips]:
    """Tokens of every front end. ``is_new``: these clips decide how the action units of both networks are mixed."""
    pixels, landmarks = encode_pixels(data, BoxEncoder(box)), encode_landmarks(data, LandmarkEncoder(box))
    if is_new:
        sides = (pixels.clips.units[landmarks.rows], landmarks.clips.units, data.au[landmarks.rows].astype(np.float32))
        seen, measured, truth = (side.reshape(-1, side.shape[-1]) for side in sides)
        save_combined(fit_pixel_share(seen, measured, truth), box)
    both = combine(pixels, landmarks, CombinedEncoder(box).pixel_share)
    return {"box": pixels, "landmarks": landmarks, "box+landmarks": both}


def _train_head(
    name: str,
    train: FrontEndClips,
    truth: np.ndarray,
    held: FrontEndClips,
    calibrating: np.ndarray,
    box: Path,
    encoder: TextEncoder,
    config: PretrainConfig,
    on_progress: Tell,
) -> Checkpoint:
    def tell(stage: str) -> Callable[[int, int, float], None]:
        return lambda a, b, loss: on_progress(f"{stage}, {name}", a, b, f"loss {loss:.3f}")

    few = held.clips.take(np.flatnonzero(calibrating[held.rows]))
    coarse, captioned = fit_guide(train.clips), caption_training_clips(train.clips, encoder)
    data = with_texts(train.clips, captioned)
    base = GraceConfig.for_shape(data.shape(text_dim=encoder.dim, has_joint_space=True))
    aligned = pretrain_joint_space(
        base,
        KnownClips(data=data, captions=captioned.captions, units=truth[train.rows].astype(np.float32), heat=train.heat),
        JointPretrainingConfig(seed=config.seed, epochs=_JOINT_EPOCHS[name]),
        on_progress=tell("words and tokens"),
    )
    save_joint_space(aligned.space, box, name)
    spec = TrainingSpec(
        encoder=name, box=box, seed=config.seed, settings=(f"training.epochs={config.head_epochs}",)
    )  # the joint space is read from the file, as it will be in use
    fitted = fit(data, spec, stage=f"head, {name}", on_progress=on_progress)
    few = with_texts(few, caption_other_clips(few, coarse, encoder))
    logits = predict_logits(fitted.model, few).numpy()
    temperature = fit_temperature(logits, few.target).value
    probabilities = at_temperature(logits, temperature)
    threshold, coverage = abstention_threshold(probabilities, few.target)
    return fitted.checkpoint(
        TRAINED_ON,
        name="box",
        encoder_digest=open_visual_encoder(name, box=box).digest,
        abstain_below=threshold,
        answered_share=coverage,
        abstain_below_in_doubt=abstention_threshold(probabilities, few.target, accuracy=ACCURACY_IN_DOUBT)[0],
        temperature=temperature,
        generator=fingerprint(),
    )


def _show_failures(path: Path, held: FaceShard, told: np.ndarray, is_test: np.ndarray, front_end: str) -> None:
    """The wrong answers that the model was surest of."""
    wrong = np.flatnonzero(is_test & (told.argmax(1) != held.label))
    worst = wrong[np.argsort(-told[wrong].max(1), kind="stable")][:_NUM_FAILURES]
    titles = [f"{BASIC[held.label[i]]}: read as {BASIC[told[i].argmax()]} ({told[i].max():.2f})" for i in worst]
    clips = [held.crops[i] for i in worst]
    write_gallery(path, clips, titles, title=f"Surest mistakes on held-back looks, {front_end}")


def _captions(head: Checkpoint, clips: TokenDataset, encoder: TextEncoder) -> Captioned:
    return caption_unseen(head, clips, encoder)


def _answer(head: Checkpoint, part: FrontEndClips, encoder: TextEncoder) -> np.ndarray:
    data = with_texts(part.clips, _captions(head, part.clips, encoder))
    return head.probabilities(predict_logits(head.model, data))


def _filled(answer: np.ndarray, rows: np.ndarray, pixels: np.ndarray | None, count: int) -> np.ndarray:
    """Answers for all clips: where the landmarker saw no face, the pixels' answer, as in use."""
    if len(rows) == count:
        return answer
    assert pixels is not None
    filled = pixels.copy()
    filled[rows] = answer
    return filled


def _measure(answers: Mapping[str, np.ndarray], faces: HeadFaces, is_test: np.ndarray) -> dict[str, Any]:
    """Scores on the benchmark's two profiles and on held-back looks, and there by rendered skin tone."""
    result: dict[str, Any] = {}
    for profile in ("posed", "natural"):
        for key, ending in (("measure", ""), ("measure_large", "_large")):
            chosen = faces.unseen[key].of_profile(profile)
            result[profile + ending] = _scores(faces.unseen[key].take(chosen), answers[key][chosen])
    held, told = faces.held.take(is_test), answers["held"][is_test]
    result["held_back"] = _scores(held, told)
    result["skin_tones"] = {
        tone: _scores(held.take(held.tone == number), told[held.tone == number])
        for number, tone in enumerate(SKIN_TONES)
        if (held.tone == number).any()
    }
    return result


def _scores(data: FaceShard, told: np.ndarray) -> dict[str, Any]:
    subjects = data.subject.astype(str)
    scores = evaluate_predictions(BASIC, data.label, told, subjects=subjects)
    ceiling = _ceiling(str(np.array(PROFILES)[data.profile[0]])).probabilities(unit_statistics(data.au.astype(float)))
    ceiling_uar = evaluate_predictions(BASIC, data.label, ceiling).uar
    recalls = zip(BASIC, scores.per_class_recall, strict=True)
    return {
        "num_clips": len(told),
        "uar": scores.uar,
        "uar_ci95": list(scores.uar_ci95),
        "war": scores.war,
        "ceiling_uar": ceiling_uar,
        "share_of_ceiling": scores.uar / ceiling_uar,
        "per_class_recall": {label: None if np.isnan(value) else float(value) for label, value in recalls},
        "calibration_error": expected_calibration_error(told, data.label),
    }


@functools.cache
def _ceiling(profile: str) -> CoarseClassifier:
    """A linear model on the true action units of other clips of a profile: the score that perfect action units would give."""
    config = BenchmarkConfig(clips=_CEILING_CLIPS, profile=cast(Profile, profile), namespace="pretrain", seed=999)
    plans = plan_clips(config)
    truth = np.stack([draw_clip(config, plan).au for plan in plans]).astype(float)
    return fit_coarse(unit_statistics(truth), np.array([BASIC.index(plan.label) for plan in plans]))


def _au_correlation(part: FrontEndClips, data: FaceShard) -> dict[str, float]:
    predicted = part.clips.units.reshape(-1, part.clips.units.shape[-1])
    truth = data.au[part.rows].astype(np.float32).reshape(predicted.shape)
    return {
        name: float(np.corrcoef(truth[:, i], predicted[:, i])[0, 1])
        for i, name in enumerate(part.clips.au_names)
        if truth[:, i].std() > 0.02
    }


def _localise(
    head: Checkpoint, part: FrontEndClips, data: FaceShard, encoder: TextEncoder, seed: int
) -> dict[str, float]:
    chosen = np.arange(min(len(part.rows), _LOCALISED))
    clips = part.clips.take(chosen)
    captioned = _captions(head, clips, encoder)
    assert isinstance(head.model, Grace)
    read = with_texts(clips, captioned)
    plans = whole_plans(predict_outputs(head.model, read), captioned.tokens)
    phrases = []
    for i, plan in enumerate(plans):
        peak = data.au[part.rows[i]].astype(np.float32).max(0)
        phrases += phrase_masses(captioned.captions[i], captioned.tokens[i], plan, part.heat[i], peak)
    return localisation_claim(phrases, seed=seed)
