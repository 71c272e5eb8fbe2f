"""Values of a benchmark for ``templates/benchmark_report.html``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dferkit.reports import charts
from dferkit.reports.claims import claim_tables
from dferkit.reports.formatting import in_words
from dferkit.schema import Evaluation

_SECTIONS = ("models", "ceiling", "controls", "claims", "comparisons", "profiles")
_PARAMETERS = ("num_parameters", "params", "parameters")


def benchmark_view(results: Mapping[str, Any], evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    """What the template shows: scores by model, and all other results as they are."""
    ceiling = results.get("ceiling")
    names = dict.fromkeys([*_mapping(results, "models"), *evaluations])
    models = [_model(name, _scores(results, evaluations, name)) for name in names]
    main = _main_model(names)
    comparisons = _mapping(results, "comparisons")
    drawn = {
        in_words(name): (_float(item["difference"]), _float(item["low"]), _float(item["high"]))
        for name, item in comparisons.items()
        if isinstance(item, Mapping) and {"difference", "low", "high"} <= set(item)
    }
    skin = {key: value for key, value in results.items() if "skin" in key and isinstance(value, Mapping)}
    return {
        "main": next((model for model in models if model["name"] == main), None),
        # A NaN sorts last.
        "models": sorted(models, key=lambda model: -np.nan_to_num(model["uar"], nan=-1.0)),
        "ceiling": _float(ceiling.get("uar") if isinstance(ceiling, Mapping) else ceiling),
        "differences": charts.differences(drawn),
        "other_comparisons": {name: item for name, item in comparisons.items() if in_words(name) not in drawn},
        "confusion": _confusion(evaluations[main]) if main in evaluations else None,
        "controls": _mapping(results, "controls"),
        "claims": claim_tables(_mapping(results, "claims")),
        "profiles": _mapping(results, "profiles"),
        "skin_tones": skin,
        "rest": {key: value for key, value in results.items() if key not in _SECTIONS and key not in skin},
    }


def _main_model(names: Iterable[str]) -> str:
    """The model that the report is about: ``grace``, else the first whose name begins so, else the first."""
    ranked = sorted(names, key=lambda name: (name != "grace", not name.lower().startswith("grace")))
    return next(iter(ranked), "")


def _mapping(results: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = results.get(key, {})
    return value if isinstance(value, Mapping) else {}


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _scores(results: Mapping[str, Any], evaluations: Mapping[str, Evaluation], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if name in evaluations:
        one = evaluations[name]
        recall = dict(zip(one.labels, one.per_class_recall.tolist(), strict=True))
        found = {"uar": one.uar, "war": one.war, "uar_ci95": one.uar_ci95, "num_clips": one.num_clips}
        found["per_class_recall"] = recall
    value = _mapping(results, "models").get(name, {})
    return {**found, **(value if isinstance(value, Mapping) else {"uar": value})}


def _model(name: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of one model; NaN, None and empty where they are unknown."""
    interval = scores.get("uar_ci95")
    low = high = math.nan
    if isinstance(interval, Sequence) and not isinstance(interval, str) and len(interval) == 2:
        low, high = map(_float, interval)
    recall = {label: _float(value) for label, value in _mapping(scores, "per_class_recall").items()}
    known = {label: value for label, value in recall.items() if not math.isnan(value)}
    return {
        "name": name,
        "uar": _float(scores.get("uar")),
        "low": low,
        "high": high,
        "war": _float(scores.get("war")),
        "num_clips": scores.get("num_clips"),
        "num_parameters": next((scores[key] for key in _PARAMETERS if key in scores), None),
        "recall": recall,
        "weakest": min(known, key=lambda label: known[label]) if known else None,
    }


def _confusion(evaluation: Evaluation) -> dict[str, Any]:
    """Labels, counts and shares of each true class."""
    counts = evaluation.confusion
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return {"labels": evaluation.labels, "counts": counts.tolist(), "shares": shares.tolist()}
