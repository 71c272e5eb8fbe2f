"""The demo's figures, from the answers of its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from dferkit.datasets import read_manifest
from dferkit.encoders.box import BOX_FOLDER, WEIGHTS
from dferkit.evaluation.metrics import evaluate_predictions, paired_difference
from dferkit.evaluation.summary import evaluation_figures
from dferkit.labels import BASIC
from dferkit.models.checkpoint import load_checkpoint
from dferkit.models.coarse import CoarseClassifier, fit_coarse, unit_statistics
from dferkit.models.shipped import head_folder
from dferkit.recipes.demo_data import DemoSide, true_units
from dferkit.recipes.demo_plan import CONTROLS, NATURAL_TABLE, TABLE, DemoConfig, benchmark_of
from dferkit.recipes.demo_rows import row_probabilities
from dferkit.reports.tables import own_version
from dferkit.schema import Evaluation
from dferkit.storage import digest_file
from dferkit.synthetic import describe_config, read_truth
from dferkit.training.score import score as answer


def score(out: Path, config: DemoConfig, sides: dict[str, DemoSide]) -> tuple[dict[str, Any], dict[str, Evaluation]]:
    """``results.json`` but for the claims, and the evaluations of the posed rows."""
    posed = sides["posed"]
    evaluations = {name: _evaluate(posed, row_probabilities(posed, name), config.seed) for name in TABLE}
    evaluations["coarse"] = _evaluate(posed, _coarse_probabilities(posed), config.seed)
    models = {name: _short(evaluation) for name, evaluation in evaluations.items()}
    for name in TABLE:
        models[name]["num_parameters"] = sum(
            p.numel() for p in load_checkpoint(out / "checkpoints" / name).model.parameters()
        )
    ceiling = _ceiling(posed)
    profiles = {profile: _profile_scores(side, config) for profile, side in sides.items()}
    results: dict[str, Any] = {
        "models": models,
        "ceiling": {"uar": ceiling, "what": "linear model on the true action units of the same clips"},
        "share_of_ceiling": {"grace": models["grace"]["uar"] / ceiling},
        "controls": {name: _short(_evaluate(posed, row_probabilities(posed, name), config.seed)) for name in CONTROLS},
        "comparisons": _comparisons(posed, config.seed),
        "profiles": profiles,
        "skin_tones": _skin_tones(posed, row_probabilities(posed, "grace")),
        "ambiguous": _ambiguous(posed),
        "claims": {},
        "data": {
            profile: {
                "benchmark": describe_config(benchmark_of(config, profile)),
                "train_clips": len(side.train.target),
                "test_clips": len(side.test.target),
                "test_subjects": len(set(side.test.subjects.tolist())),
                "failed_test_clips": side.num_failed,
            }
            for profile, side in sides.items()
        },
        "seed": config.seed,
        "versions": {
            "dferkit": own_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "box": digest_file(BOX_FOLDER / WEIGHTS)[:16],
        },
    }
    return results, evaluations


def _evaluate(side: DemoSide, probabilities: np.ndarray, seed: int) -> Evaluation:
    return evaluate_predictions(BASIC, side.test.target, probabilities, subjects=side.test.subjects.tolist(), seed=seed)


def _short(evaluation: Evaluation) -> dict[str, Any]:
    full = evaluation_figures(evaluation)
    return {name: full[name] for name in ("uar", "war", "uar_ci95", "war_ci95", "per_class_recall")}


def _coarse_probabilities(side: DemoSide) -> np.ndarray:
    coarse = CoarseClassifier.load(side.folder / "tokens" / "coarse.safetensors")
    return coarse.probabilities(unit_statistics(side.test.units.astype(np.float64)))


def _ceiling(side: DemoSide) -> float:
    statistics = [unit_statistics(true_units(side, data).astype(np.float64)) for data in (side.train, side.test)]
    model = fit_coarse(statistics[0], side.train.target, name="ceiling")
    return evaluate_predictions(BASIC, side.test.target, model.probabilities(statistics[1])).uar


def _profile_scores(side: DemoSide, config: DemoConfig) -> dict[str, Any]:
    rows = {name: _short(_evaluate(side, row_probabilities(side, name), config.seed)) for name in NATURAL_TABLE}
    rows["coarse"] = _short(_evaluate(side, _coarse_probabilities(side), config.seed))
    bundled = answer(load_checkpoint(head_folder(BOX_FOLDER, "pixels")), side.test)
    rows["box_without_training"] = _short(_evaluate(side, bundled.probabilities, config.seed))
    ceiling = _ceiling(side)
    return {
        "models": rows,
        "ceiling": {"uar": ceiling},
        "share_of_ceiling": {name: row["uar"] / ceiling for name, row in rows.items()},
    }


def _comparisons(side: DemoSide, seed: int) -> dict[str, Any]:
    """UAR of GRACE minus each rival, paired over subjects."""
    pairs = [("grace", name) for name in (*TABLE[1:], *CONTROLS)]
    pairs += [(name, "vision_only") for name in CONTROLS]
    result = {}
    for name, rival in pairs:
        difference, low, high = paired_difference(
            side.test.target,
            row_probabilities(side, rival).argmax(1),
            row_probabilities(side, name).argmax(1),
            len(BASIC),
            groups=side.test.subjects,
            seed=seed,
        )
        result[f"{name} minus {rival}"] = {
            "difference": round(difference, 12),
            "low": round(low, 12),
            "high": round(high, 12),
        }
    return result


def _skin_tones(side: DemoSide, probabilities: np.ndarray) -> dict[str, Any]:
    tones = {r.clip_id: r.attributes["skin_tone"] for r in read_manifest(side.folder / "video" / "clips.csv")}
    of_clip = np.array([tones[clip_id] for clip_id in side.test.clip_ids])
    result = {}
    for tone in sorted(set(of_clip.tolist())):
        chosen = of_clip == tone
        scores = evaluate_predictions(
            BASIC, side.test.target[chosen], probabilities[chosen], subjects=side.test.subjects[chosen].tolist()
        )
        result[tone] = {"uar": scores.uar, "uar_ci95": list(scores.uar_ci95), "num_clips": int(chosen.sum())}
    return result


def _ambiguous(side: DemoSide) -> dict[str, Any]:
    """GRACE on clips with a second class mixed in, and its cross-entropy to the soft label."""
    truths = [read_truth(side.folder / "video", Path(c).stem) for c in side.test.clip_ids]
    mixed = np.array([t.is_ambiguous for t in truths])
    probabilities = row_probabilities(side, "grace")
    soft = np.stack([t.soft_label for t in truths])
    entropy = -(soft * np.log(np.maximum(probabilities, 1e-12))).sum(1)
    result: dict[str, Any] = {}
    for name, chosen in (("ambiguous", mixed), ("clear", ~mixed)):
        if chosen.any():
            result[name] = {
                "uar": evaluate_predictions(BASIC, side.test.target[chosen], probabilities[chosen]).uar,
                "cross_entropy_to_soft_label": float(entropy[chosen].mean()),
                "num_clips": int(chosen.sum()),
            }
    return result
