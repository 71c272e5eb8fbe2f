"""The numbers of a benchmark as sections of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dferkit.reports import charts
from dferkit.reports.clip_page import recall_bars
from dferkit.reports.page import cell, escape, nested, number, spoken, table
from dferkit.schema import Evaluation

_SHOWN = ("models", "ceiling", "controls", "claims", "comparisons", "profiles")
_INTROS = {
    "controls": "The same model with its description replaced. If the words matter, wrong words must cost; if the "
    "score came from a leak of the label, these would show it.",
    "claims": "What the paper says the parts do, measured on the known truth of the rendered clips.",
    "profiles": "Posed clips have strong movements and a still head; natural ones have weak movements, turning heads, "
    "speech and changing light.",
    "skin_tone": "Recall by the skin tone that was drawn, which is known only because the faces are rendered; it is "
    "never predicted from a face.",
}
_CLAIMS = {
    "motion": "Does motion weighting follow the expression, and not blinks and head turns?",
    "localisation": "Do words meet the part of the face that they name?",
    "localization": "Do words meet the part of the face that they name?",
    "deletion": "Does the model use what the explanation ranks high?",
}


def benchmark_body(results: Mapping[str, Any], evaluations: Mapping[str, Evaluation]) -> str:
    """All sections that the results have numbers for."""
    main = main_model([*_mapping(results, "models"), *evaluations])
    parts = [
        _headline(results, evaluations, main),
        _models(results, evaluations),
        _comparisons(results),
        _classes(results, evaluations, main),
        _plain(results, "controls", "Controls"),
        _claims(results),
        _plain(results, "profiles", "Posed and natural clips"),
        *(_plain(results, key, "Recall per rendered skin tone") for key in results if "skin" in key),
    ]
    rest = {key: value for key, value in results.items() if key not in _SHOWN and not _is_skin_tone(key, value)}
    if rest:
        parts.append(f"<section><details><summary>All other numbers</summary>{nested(rest)}</details></section>")
    return "".join(parts)


def _is_skin_tone(key: str, value: Any) -> bool:
    return "skin" in key and isinstance(value, Mapping)


def main_model(names: Sequence[str]) -> str | None:
    """The model that the report is about: ``grace``, else the first whose name begins so, else the first."""
    if "grace" in names:
        return "grace"
    begins = [name for name in names if name.lower().startswith("grace")]
    return next(iter(begins or names), None)


def _mapping(results: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = results.get(key, {})
    return value if isinstance(value, Mapping) else {}


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _ceiling(results: Mapping[str, Any]) -> float:
    value = results.get("ceiling")
    return _float(value.get("uar") if isinstance(value, Mapping) else value)


def _scores(results: Mapping[str, Any], evaluations: Mapping[str, Evaluation], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if name in evaluations:
        evaluation = evaluations[name]
        found = {"uar": evaluation.uar, "war": evaluation.war, "uar_ci95": evaluation.uar_ci95}
        found["per_class_recall"] = dict(zip(evaluation.labels, evaluation.per_class_recall.tolist(), strict=True))
        found |= {"num_clips": evaluation.num_clips, "num_failed": evaluation.num_failed}
    value = _mapping(results, "models").get(name, {})
    return {**found, **(value if isinstance(value, Mapping) else {"uar": value})}


def _headline(results: Mapping[str, Any], evaluations: Mapping[str, Evaluation], main: str | None) -> str:
    if main is None:
        return ""
    scores = _scores(results, evaluations, main)
    uar, ceiling = _float(scores.get("uar")), _ceiling(results)
    if math.isnan(uar):
        return ""
    low, high = _interval(scores.get("uar_ci95"))
    text = f"<strong>{escape(spoken(main))}: UAR {number(uar)}</strong>"
    if not math.isnan(low):
        text += f" (95 % interval {number(low)} to {number(high)})"
    if not math.isnan(ceiling):
        text += f"; ceiling of these clips {number(ceiling)}"
        if ceiling > 0:
            text += f", so {100 * uar / ceiling:.0f} % of it"
    recall = _recall(scores)
    if recall:
        text += f"; chance {number(1 / len(recall))}"
        known = {label: value for label, value in recall.items() if not math.isnan(value)}
        weakest = min(known, key=lambda label: known[label]) if known else ""
        text += f". Weakest class: {escape(weakest)} ({number(known[weakest])})" if weakest else ""
    clips = scores.get("num_clips")
    count = f" {number(clips)} test clips of rendered faces." if isinstance(clips, int) else ""
    return (
        f'<p class="headline">{text}.</p><p class="small">UAR: mean recall of the classes. Ceiling: a linear model on '
        f"the true movements of the same clips.{count} Scores on rendered faces say how the parts work, not how well "
        "real people are read.</p>"
    )


def _interval(value: Any) -> tuple[float, float]:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        return _float(value[0]), _float(value[1])
    return float("nan"), float("nan")


def _recall(scores: Mapping[str, Any]) -> dict[str, float]:
    value = scores.get("per_class_recall")
    return {str(k): _float(v) for k, v in value.items()} if isinstance(value, Mapping) else {}


def _models(results: Mapping[str, Any], evaluations: Mapping[str, Evaluation]) -> str:
    names = list(dict.fromkeys([*_mapping(results, "models"), *evaluations]))
    if not names:
        return ""
    ceiling = _ceiling(results)
    scores = {name: _scores(results, evaluations, name) for name in names}
    names.sort(key=lambda name: -_sort_value(scores[name].get("uar")))
    params = {name: next((s[k] for k in ("num_parameters", "params", "parameters") if k in s), None)
              for name, s in scores.items()}  # fmt: skip
    rows = []
    for name in names:
        one = scores[name]
        low, high = _interval(one.get("uar_ci95"))
        rows.append(
            [
                escape(spoken(name)),
                charts.bar(_float(one.get("uar")), low=low, high=high, mark=ceiling),
                cell(one.get("uar")),
                cell([low, high]) if not math.isnan(low) else "",
                cell(one.get("war")) if "war" in one else "",
                cell(params[name]) if params[name] is not None else "",
            ]
        )
    head = ["model", "", "UAR", "95 % interval", "WAR", "parameters"]
    if not math.isnan(ceiling):
        rows.append(["ceiling (true movements, linear)", charts.bar(ceiling), number(ceiling), "", "", ""])
    if all(value is None for value in params.values()):
        head, rows = head[:-1], [row[:-1] for row in rows]
    note = (
        ""
        if math.isnan(ceiling)
        else '<p class="small">The upright mark is the ceiling, the thin line the interval.</p>'
    )
    return f"<section><h2>Models</h2>{table(head, rows, kind='numbers models')}{note}</section>"


def _sort_value(value: Any) -> float:
    number_ = _float(value)
    return -1.0 if math.isnan(number_) else number_


def _comparisons(results: Mapping[str, Any]) -> str:
    comparisons = _mapping(results, "comparisons")
    rows = []
    others = {}
    for name, item in comparisons.items():
        if isinstance(item, Mapping) and {"difference", "low", "high"} <= set(item):
            rows.append((spoken(name), _float(item["difference"]), _float(item["low"]), _float(item["high"])))
        else:
            others[name] = item
    if not rows and not others:
        return ""
    drawn = charts.differences(rows) if rows else ""
    return (
        "<section><h2>Paired differences</h2>"
        '<p class="small">On the same clips, whatever their sign, with the paired 95 % bootstrap interval. An interval '
        f"that holds 0 says that no difference was shown.</p>{drawn}{nested(others) if others else ''}</section>"
    )


def _classes(results: Mapping[str, Any], evaluations: Mapping[str, Evaluation], main: str | None) -> str:
    if main is None:
        return ""
    recall = _recall(_scores(results, evaluations, main))
    bars = f"<h3>Recall per class</h3>{recall_bars(recall)}" if recall else ""
    matrix = charts.confusion(evaluations[main].labels, evaluations[main].confusion) if main in evaluations else ""
    return f"<section><h2>Classes: {escape(spoken(main))}</h2>{bars}{matrix}</section>" if bars or matrix else ""


def _claims(results: Mapping[str, Any]) -> str:
    claims = _mapping(results, "claims")
    if not claims:
        return ""
    parts = []
    for name, item in claims.items():
        content = nested(item) if isinstance(item, Mapping) else f"<p>{cell(item)}</p>"
        parts.append(f"<h3>{escape(_CLAIMS.get(name, spoken(name)))}</h3>{content}")
    return f'<section><h2>Claims</h2><p class="small">{escape(_INTROS["claims"])}</p>{"".join(parts)}</section>'


def _plain(results: Mapping[str, Any], key: str, title: str) -> str:
    value = results.get(key)
    if not isinstance(value, Mapping) or not value:
        return ""
    intro = _INTROS.get(key, _INTROS["skin_tone"] if "skin" in key else "")
    note = f'<p class="small">{escape(intro)}</p>' if intro else ""
    return f"<section><h2>{escape(title)}</h2>{note}{nested(value)}</section>"
