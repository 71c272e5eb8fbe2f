"""The last stage of the box: coarse classifier and GRACE head on people the video network has never seen, and the card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import reduce

from dferkit.encoders.box import TUBELET, BoxEncoder
from dferkit.encoders.text import TextEncoder
from dferkit.evaluation.claims import localisation_claim, phrase_masses
from dferkit.evaluation.metrics import evaluate_predictions, expected_calibration_error
from dferkit.labels import BASIC
from dferkit.models.checkpoint import Checkpoint, save_checkpoint
from dferkit.models.coarse import fit_coarse, unit_statistics
from dferkit.models.grace import Grace
from dferkit.models.joint_space import load_joint_space, save_joint_space
from dferkit.recipes.provenance import about_checkpoint
from dferkit.reports.card import write_card
from dferkit.storage import read_json, write_json
from dferkit.synthetic.benchmark import fingerprint
from dferkit.synthetic.identity import SKIN_TONES
from dferkit.training.captioned import Captioned
from dferkit.training.face_shards import FaceShard, read_shards
from dferkit.training.joint_pretraining import JointPretrainingConfig, KnownClips, pretrain_joint_space
from dferkit.training.loop import TrainingConfig, predict_plans
from dferkit.training.table import ClipSet, base_config, caption_split, train_row
from dferkit.training.visual_pretraining import predict_clips

if TYPE_CHECKING:
    from dferkit.recipes.pretrain import PretrainConfig

TRAINED_ON = "rendered faces (dferkit generator, version 1); no real person"
_TARGET_ACCURACY = 0.8


def encode_shards(data: FaceShard, box: BoxEncoder, *, fps: float = 8.0) -> ClipSet:
    """Tokens and action units of rendered crops, as ``BoxEncoder.read`` would give them."""
    visual, summary, units = [], [], []
    for first in range(0, len(data.label), 64):
        output = predict_clips(box.net, data.crops[first : first + 64])
        visual.append(reduce(output.tokens, "b (t k) p d -> b t p d", "mean", k=TUBELET).half())
        summary.append(reduce(output.hidden, "b (t k) d -> b t d", "mean", k=TUBELET).half())
        units.append(output.action_units.clamp(0, 1))
    times = np.tile(np.arange(data.crops.shape[1]) / fps, (len(data.label), 1))
    return ClipSet(
        visual=torch.cat(visual),
        summary=torch.cat(summary),
        units=torch.cat(units).numpy(),
        timestamps=times,
        target=data.label.astype(int),
        subjects=data.subject.astype(str),
        au_names=box.net.config.au_names,
        grid=box.grid,
        labels=BASIC,
    )


def abstention_threshold(
    probabilities: np.ndarray, target: np.ndarray, *, accuracy: float = _TARGET_ACCURACY
) -> tuple[float, float]:
    """Smallest confidence from which on answers are right at least this often, and the share of clips that get one."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == target
    for threshold in np.arange(0.15, 0.95, 0.01):
        kept = confidence >= threshold
        if kept.any() and right[kept].mean() >= accuracy:
            return round(float(threshold), 2), float(kept.mean())
    return 0.95, float((confidence >= 0.95).mean())


def build_heads(
    shards: list[Path],
    box_folder: Path,
    work: Path,
    config: PretrainConfig,
    *,
    workers: int,
    on_progress: Callable[[str, int, int, str], None],
) -> None:
    """Train the coarse classifier and GRACE, measure them on held-out people, write ``grace/``, ``card.json`` and ``CARD.md``."""

    def tell(name: str) -> Callable[[int, int, float], None]:
        return lambda a, b, loss: on_progress(name, a, b, f"loss {loss:.3f}")

    torch.set_num_threads(workers)
    data = read_shards(shards)
    box, encoder = BoxEncoder(box_folder), TextEncoder(box_folder / "text")
    clips = encode_shards(data, box)
    held = data.subject % 4 == 1
    train, test = clips.take(np.flatnonzero(~held)), clips.take(np.flatnonzero(held))
    sides = caption_split(train, test, encoder)
    base = base_config(train, encoder, has_joint=True)
    known = _known(train, sides.train, data, ~held), _known(test, sides.test, data, held)
    aligned = pretrain_joint_space(
        base,
        known[0],
        JointPretrainingConfig(seed=config.seed),
        on_progress=tell("words and patches"),
    )
    save_joint_space(aligned.space, box_folder)
    joint = load_joint_space(box_folder)  # as it will be in use
    settings = TrainingConfig(epochs=config.head_epochs, seed=config.seed)
    rows = {}
    for name in ("grace", "vision_only"):
        rows[name] = train_row(
            name,
            train,
            test,
            sides.train.tokens,
            sides.test.tokens,
            base,
            settings,
            joint=joint,
            on_progress=tell(name),
        )
    natural = data.is_natural[held]
    threshold, coverage = abstention_threshold(rows["grace"].probabilities[natural], test.target[natural])
    measured = _measure(
        data,
        held,
        test,
        rows["grace"].probabilities,
        sides.coarse.probabilities(unit_statistics(test.units.astype(float))),
        rows["vision_only"].probabilities,
        train,
        data.au,
    )
    measured["localisation"] = {
        "before_training": _localise(aligned, known[1], config.seed),
        "grace": _localise(rows["grace"].model, known[1], config.seed),
    }
    measured["abstention"] = {"threshold": threshold, "coverage_natural": coverage, "target_accuracy": _TARGET_ACCURACY}
    about = about_checkpoint(
        "box",
        box=box_folder,
        trained_on=TRAINED_ON,
        abstain_below=threshold,
        seed=config.seed,
        generator=fingerprint(),
        per_class_recall=measured["posed"]["per_class_recall"],
    )
    save_checkpoint(Checkpoint(model=rows["grace"].model, coarse=sides.coarse, about=about), box_folder / "grace")
    network, text = read_json(work / "visual.json"), read_json(work / "text.json")
    write_json(
        box_folder / "card.json",
        {
            "measured": measured,
            "video_network": network,
            "text_encoder": text,
            "about": about,
            "clips": {"network": config.clips, "heads": len(train.target), "measured_on": len(test.target)},
        },
    )
    write_card(box_folder)


def _known(clips: ClipSet, captioned: Captioned, data: FaceShard, chosen: np.ndarray) -> KnownClips:
    heat = data.heat[chosen]
    return KnownClips(
        visual=clips.visual_in_memory(),
        summary=clips.summary,
        captions=captioned.captions,
        texts=captioned.tokens,
        units=data.au[chosen].astype(np.float32),
        heat=heat.reshape(*heat.shape[:2], -1).astype(np.float32),
    )


def _localise(model: Grace, known: KnownClips, seed: int) -> dict[str, float]:
    plans = predict_plans(model, known.visual, known.texts, summary=known.summary)
    phrases = []
    for i, plan in enumerate(plans):
        phrases += phrase_masses(known.captions[i], known.texts[i], plan, known.heat[i], known.units[i].max(0))
    return localisation_claim(phrases, seed=seed)


def _measure(
    data: FaceShard,
    held: np.ndarray,
    test: ClipSet,
    grace: np.ndarray,
    coarse: np.ndarray,
    vision: np.ndarray,
    train: ClipSet,
    au: np.ndarray,
) -> dict[str, Any]:
    """Scores per profile, and per class and rendered skin tone."""
    result: dict[str, Any] = {}
    true_stats = unit_statistics(au.astype(np.float64))
    ceiling = fit_coarse(true_stats[~held], train.target)
    for profile, natural in (("posed", False), ("natural", True)):
        chosen = data.is_natural[held] == natural
        scores = evaluate_predictions(BASIC, test.target[chosen], grace[chosen], subjects=test.subjects[chosen])
        ceiling_scores = evaluate_predictions(
            BASIC, test.target[chosen], ceiling.probabilities(true_stats[held][chosen])
        )
        result[profile] = {
            "uar": scores.uar,
            "war": scores.war,
            "uar_ci95": list(scores.uar_ci95),
            "num_clips": int(chosen.sum()),
            "ceiling_uar": ceiling_scores.uar,
            "share_of_ceiling": scores.uar / ceiling_scores.uar,
            "per_class_recall": dict(zip(BASIC, scores.per_class_recall.tolist(), strict=True)),
            "calibration_error": expected_calibration_error(grace[chosen], test.target[chosen]),
            "coarse_uar": evaluate_predictions(BASIC, test.target[chosen], coarse[chosen]).uar,
            "vision_only_uar": evaluate_predictions(BASIC, test.target[chosen], vision[chosen]).uar,
        }
    tones = {}
    for number, tone in enumerate(SKIN_TONES):
        chosen = data.tone[held] == number
        if chosen.any():
            scores = evaluate_predictions(BASIC, test.target[chosen], grace[chosen], subjects=test.subjects[chosen])
            tones[tone] = {
                "uar": scores.uar,
                "uar_ci95": list(scores.uar_ci95),
                "num_clips": int(chosen.sum()),
                "per_class_recall": {
                    label: None if np.isnan(r) else float(r)
                    for label, r in zip(BASIC, scores.per_class_recall, strict=True)
                },
            }
    result["skin_tones"] = tones
    predicted, truth = (
        test.units.reshape(-1, test.units.shape[-1]),
        au[held].astype(np.float32).reshape(-1, test.units.shape[-1]),
    )
    result["au_correlation"] = {
        name: float(np.corrcoef(truth[:, i], predicted[:, i])[0, 1])
        for i, name in enumerate(test.au_names)
        if truth[:, i].std() > 0.02
    }
    return result
