"""Measured claims of the papers as tables: a label for each figure, its value, and how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dferkit.reports.formatting import cell, in_words

_QUESTIONS = {
    "motion": "Do motion weights follow the expression rather than blinks and head turns?",
    "localisation": "Are phrases aligned with the part of the face that they name?",
    "deletion": "Does the model use what the explanation ranks high?",
}
_FIGURES = {
    "motion": {
        "num_clips": ("clips", "clips in which the expression moves the face"),
        "spearman_expression": (
            "correlation with movements of the expression",
            "rank correlation of weights and true movement, −1 to 1; 0 means no relation",
        ),
        "spearman_nuisance": (
            "correlation with other movements",
            "the same for blinks, head turns and the camera; lower is better",
        ),
        "difference": ("difference of the two", "above 0 the weights follow the expression more"),
        "top10_kept_in_top30": (
            "strongest movements among the highest weights",
            "share of the 10 % of cells that move most in the 30 % with the highest weights; chance 0.300",
        ),
    },
    "localisation": {
        "num_phrases": ("phrases", "phrases whose movement is truly in the clip"),
        "mass_inside": ("mass inside", "share of a phrase's weight in the cells that its movement moves"),
        "uniform": ("mass inside, even weights", "the same share if every cell had the same weight"),
        "times_uniform": ("times even weights", "how many times the even share; above 1 phrases find their place"),
        "shuffled_times_uniform": (
            "times even weights, other phrase",
            "the same in the cells of another phrase's movement",
        ),
        "times_shuffled": ("own place against another's", "above 1 the place depends on the phrase"),
    },
    "deletion": {
        "num_clips": ("clips", "clips on which cells were removed"),
        "mean_drop": (
            "mean drop beyond chance",
            "fall of the probability when high-ranked cells are removed first, minus that in random order; above 0 the ranking is better than chance",
        ),
        "low": ("mean drop, lower end", "of the 95 % interval; above 0 the drop is not due to chance"),
        "high": ("mean drop, upper end", "of the 95 % interval"),
        "median_drop": ("median drop", "half of the clips drop by more"),
        "share_above_chance": ("clips with a drop above 0", "share of the clips; chance 0.500"),
        "sign_test_p": ("p of the sign test", "probability of so uneven a share if the ranking were random"),
        "fractions": ("share of cells removed", "at each step"),
        "ranked": ("probability, high-ranked first", "mean probability of the predicted class at each step"),
        "random": ("probability, random order", "the same with cells removed in random order"),
    },
}


def claim_tables(claims: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per claim its ``question`` and ``rows`` of (label, value, how to read it); figures without a label keep their key, in words."""
    return [
        {"question": _QUESTIONS.get(name, in_words(name)), "rows": _rows(name, item)} for name, item in claims.items()
    ]


def _rows(name: str, item: Any) -> list[tuple[str, str, str]]:
    if not isinstance(item, Mapping):
        return [("value", cell(item), "")]
    known = _FIGURES.get(name, {})
    ordered = [key for key in known if key in item] + [key for key in item if key not in known]
    rows = []
    for key in ordered:
        label, reading = known.get(key, (in_words(key), ""))
        value = item[key]
        is_count = key.startswith("num_") and isinstance(value, float) and value.is_integer()
        rows.append((label, cell(int(value) if is_count else value), reading))
    return rows
