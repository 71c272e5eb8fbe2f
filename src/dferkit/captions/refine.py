"""Fine captions: the second step of CATE (coarse-to-fine affective text enhancement, GRACE).

The most probable classes of a first model choose what is stressed; the content comes from the observation alone.
The offline rewriter below never writes a class word.

Deviation: GRACE lets GPT-4o mini rewrite the caption with the classes' names in its prompt; here rules over the action
units of the classes rewrite it, so that the text cannot name the class that the first model predicted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dferkit.captions import wording
from dferkit.captions.describe import SEPARATOR, SOURCE, join_phrases
from dferkit.checks import check_counts, check_range
from dferkit.errors import ConfigError, DataError
from dferkit.facs import ClassRule, load_facs
from dferkit.labels import ALIASES
from dferkit.schema import Caption, CoarsePrediction, Phrase


@dataclass(frozen=True, kw_only=True, slots=True)
class RefineConfig:
    """How the rewriter stresses phrases.

    Attributes:
        max_stressed: At most so many phrases are stressed.
        max_absent: At most so many phrases name an expected movement that is absent.
        max_words: The text has at most so many words (split at spaces).
        against_weight: Weight of a unit that is evidence against a class; core ones weigh 1, optional ones their share.
        distinguishing_weight: Weight of a unit that distinguishes two confusable candidates.
        complete_below: Absent movements are named only in captions with fewer phrases: a longer one may have left movements out.
    """

    max_stressed: int = 3
    max_absent: int = 2
    max_words: int = 44
    against_weight: float = 0.5
    distinguishing_weight: float = 0.5
    complete_below: int = 7

    def __post_init__(self) -> None:
        names = ("max_stressed", "max_absent", "complete_below", "against_weight", "distinguishing_weight")
        check_range(self, *names, least=0)
        check_counts(self, "max_words")


# A unit whose presence makes "not …" of the other wrong or misleading: an open jaw parts the lips.
_IMPLIED = {
    "AU25": ("AU26", "AU27", "AU16", "AU10", "AU24", "AU28"),
    "AU26": ("AU27",),
    "AU27": ("AU26",),
    "AU23": ("AU24", "AU28"),
    "AU24": ("AU23", "AU28"),
    "AU7": ("AU6", "AU43"),
    "AU1": ("AU2",),
    "AU2": ("AU1",),
    "AU12": ("AU13", "AU14"),
    "AU14": ("AU12",),
}


def refine(
    caption: Caption,
    guide: CoarsePrediction,
    *,
    top_k: int = 3,
    for_training: bool = False,
    config: RefineConfig | None = None,
) -> Caption:
    """Rewrite a coarse caption so that it stresses the evidence for and against the ``top_k`` candidate classes.

    Stressed phrases come first, the one with the highest weight at the front, in full wording; the others follow, shortened, in
    their old order; last come movements that a candidate would show and that are absent (intensity 0, over the span of
    the caption). Phrases without an action unit, and those of captions that are not our template's, keep their words.
    A caption without phrases is returned as it is, with ``guided_by`` set.

    Args:
        guide: Class probabilities of a first model for the clip.
        top_k: Candidates taken from the guide.
        for_training: The caption is for a clip that a model will be trained on.

    Raises:
        DataError: ``for_training`` with a guide that has seen the clip: its confidence would leak the label. Or the
            caption is already refined.
        ConfigError: ``top_k`` is below 1.
    """
    config = config or RefineConfig()
    if top_k < 1:
        raise ConfigError(f"top_k is at least 1, got {top_k}")
    if for_training and not guide.is_out_of_fold:
        raise DataError(
            f"the guide {guide.model!r} has seen this training clip, so its top-{top_k} classes leak the label into "
            "the caption; predict training clips with models trained on the other folds and set is_out_of_fold"
        )
    if caption.guided_by is not None:
        raise DataError(f"the caption was already refined with {caption.guided_by.model!r}; refine the coarse caption")
    if not caption.phrases:
        return replace(caption, guided_by=guide)

    is_ours = caption.source == SOURCE
    weights = stress_weights(guide, top_k=top_k, config=config)
    order = sorted(
        (p for p in caption.phrases if weights.get(p.action_unit, 0.0) > 0),
        key=lambda p: -weights[p.action_unit],
    )
    stressed = order[: config.max_stressed]
    chosen = {id(p) for p in stressed}
    others = [p for p in caption.phrases if id(p) not in chosen]
    absent = _absent_phrases(caption, guide, top_k, config)

    # Shorten it to the limit: details of the phrases with the lowest weight first, then absences, then phrases without stress.
    num_detailed = len(stressed)
    while True:
        fine = [
            replace(p, text=_stress(p, with_detail=number < num_detailed) if is_ours else p.text, is_stressed=True)
            for number, p in enumerate(stressed)
        ]
        fine += [replace(p, text=_shorten(p) if is_ours else p.text, is_stressed=False) for p in others] + absent
        if len(SEPARATOR.join(p.text for p in fine).split()) <= config.max_words or len(fine) == 1:
            break
        if num_detailed > 1:
            num_detailed -= 1
        elif absent:
            absent = absent[:-1]
        elif others:
            others = others[:-1]
        else:
            stressed = stressed[:-1]
    return replace(join_phrases(fine, source=caption.source), guided_by=guide)


def stress_weights(guide: CoarsePrediction, *, top_k: int, config: RefineConfig | None = None) -> dict[str, float]:
    """How much each action unit distinguishes the ``top_k`` candidates.

    Sum over candidates of probability × weight (core 1, optional its share, against ``against_weight``), plus
    ``distinguishing_weight`` × the probabilities of both classes of a confusable pair for the units that distinguish them.
    """
    config = config or RefineConfig()
    facs = load_facs()
    top = guide.top(top_k)
    probability = {label: float(guide.probabilities[guide.labels.index(label)]) for label in top}
    weights: dict[str, float] = {}

    def add(name: str, value: float) -> None:
        weights[name] = weights.get(name, 0.0) + value

    for label in top:
        for rule in _rules(label):
            for name in rule.core:
                add(name, probability[label])
            for name, share in rule.optional.items():
                add(name, probability[label] * share)
            for name in rule.against:
                add(name, probability[label] * config.against_weight)
    for pair in facs.confusable_pairs:
        if set(pair.labels) <= set(top):
            both = sum(probability[label] for label in pair.labels)
            for name in dict.fromkeys(name for names in pair.distinguishing.values() for name in names):
                add(name, config.distinguishing_weight * both)
    return weights


def _rules(label: str) -> list[ClassRule]:
    """Rules of a class: of each part of a joint one (``fear_surprise``), of none for a user's own."""
    classes = load_facs().classes
    parts = [ALIASES.get(part, part) for part in label.split("_")]
    return [classes[part] for part in parts if part in classes]


def _absent_phrases(caption: Caption, guide: CoarsePrediction, top_k: int, config: RefineConfig) -> list[Phrase]:
    """Expected movements (core of a candidate, or distinguishing two) that the caption does not mention."""
    present = {p.action_unit for p in caption.phrases}
    # "The face stays still" already excludes every movement.
    if caption.source != SOURCE or len(caption.phrases) >= config.complete_below or present == {""}:
        return []
    facs = load_facs()
    top = guide.top(top_k)
    expected = [name for label in top for rule in _rules(label) for name in rule.core]
    expected += facs.distinguishing_units(top)
    weights = stress_weights(guide, top_k=top_k, config=config)
    names = [
        name
        for name in dict.fromkeys(expected)
        if name in wording.WORDINGS and name not in present and not present & set(_IMPLIED.get(name, ()))
    ]
    names.sort(key=lambda name: -weights[name])
    start = min(p.start_seconds for p in caption.phrases)
    end = max(p.end_seconds for p in caption.phrases)
    return [
        Phrase(
            text=wording.absent(name),
            action_unit=name,
            regions=facs.action_units[name].regions,
            start_seconds=start,
            end_seconds=end,
            intensity=0.0,
            start_character=0,
            end_character=0,
        )
        for name in names[: config.max_absent]
    ]


_SPEEDS = ("quickly", "suddenly", "gradually")


def _adverb(phrase: Phrase) -> str:
    """Strength and speed, as in the coarse phrase."""
    words = phrase.text.lower().replace(",", " ").split()
    strength = load_facs().intensity_word(phrase.intensity)
    speed = next((word for word in _SPEEDS if word in words), "")
    return " and ".join(word for word in ("slightly" if strength is None else strength, speed) if word)


def _stress(phrase: Phrase, *, with_detail: bool) -> str:
    if phrase.action_unit not in wording.WORDINGS:
        return phrase.text
    # Coarse words have no comma before their times.
    _, comma, tail = phrase.text.partition(", ")
    detail = f", {wording.WORDINGS[phrase.action_unit].detail}" if with_detail else ""
    return wording.full(phrase.action_unit, _adverb(phrase)) + detail + (comma + tail if comma else "")


def _shorten(phrase: Phrase) -> str:
    """Without times; strength stays."""
    if phrase.action_unit not in wording.WORDINGS:
        return phrase.text[:1].lower() + phrase.text[1:]
    strength = load_facs().intensity_word(phrase.intensity)
    return wording.plain(phrase.action_unit, "slightly" if strength is None else strength)
