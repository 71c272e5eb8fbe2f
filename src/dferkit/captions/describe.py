"""Coarse captions: action-unit curves described in words.

A captioner that needs no language model: it finds when each action unit is active, how strongly and how fast, and lists
them in the order of onset. It names movements, never an expression class.

Deviation: GRACE's captions come from a video language model (Video-LLaVA); action-unit curves are described here instead,
which is reproducible, needs no download and can be checked against known curves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float

from dferkit.captions import wording
from dferkit.checks import check_counts
from dferkit.errors import ConfigError, DataError
from dferkit.facs import load_facs
from dferkit.labels import hint
from dferkit.schema import ActionUnits, Caption, Phrase

SOURCE = "template"
SEPARATOR = "; "
_SPAN = re.compile(r"\d+\.\d–\d+\.\d s")  # as ``_phrase_texts`` writes them
_END = re.compile(r"(?<= by )\d+\.\d s")


@dataclass(frozen=True, kw_only=True, slots=True)
class DescribeConfig:
    """When a movement gets a phrase.

    Attributes:
        threshold: Intensity at which an action unit counts as active.
        thresholds: The same for single action units, where a measuring model is noisier or weaker.
        release_ratio: An active unit stays active while it is above ``release_ratio`` × threshold (hysteresis).
        smooth: Average each frame with its neighbours by ¼ ½ ¼ first.
        min_seconds: Shorter movements are noise.
        min_seconds_by_unit: The same for single action units; closed eyes shorter than half a second are a blink.
        max_gap_seconds: Movements closer than this count as one.
        sustained_share: A movement over this share of the clip is described as lasting throughout …
        min_change: … unless it rises by this much above the clip's own baseline (the curve's lowest tenth).
        fast_seconds, slow_seconds: A rise from 30 % to 90 % of the peak shorter or longer than these is described.
        speech_weight: Salience of units that speech also makes, while they come and go repeatedly.
        max_phrases: Number of movements that are described, the most salient ones.
        max_words: Longer texts lose words (not movements): the speeds, then the times, of the least salient first.
    """

    threshold: float = 0.2
    thresholds: Mapping[str, float] = field(default_factory=dict)
    release_ratio: float = 0.6
    smooth: bool = True
    min_seconds: float = 0.25
    min_seconds_by_unit: Mapping[str, float] = field(default_factory=lambda: {"AU43": 0.5})
    max_gap_seconds: float = 0.25
    sustained_share: float = 0.85
    min_change: float = 0.25
    fast_seconds: float = 0.3
    slow_seconds: float = 0.8
    speech_weight: float = 0.7
    max_phrases: int = 7
    max_words: int = 40

    def __post_init__(self) -> None:
        for name in (*self.thresholds, *self.min_seconds_by_unit):
            if name not in wording.WORDINGS:
                raise ConfigError(
                    f"unknown action unit {name!r} in the caption settings{hint(name, wording.WORDINGS)} Known: {', '.join(wording.WORDINGS)}"
                )
        of_units = {f"the threshold of {name}": value for name, value in self.thresholds.items()}
        shares = ("threshold", "release_ratio", "sustained_share")
        for name, value in {**{name: getattr(self, name) for name in shares}, **of_units}.items():
            if not 0 < value <= 1:
                raise ConfigError(f"{name} is {value}; give a number above 0, at most 1")
        seconds = {f"the min_seconds of {name}": value for name, value in self.min_seconds_by_unit.items()}
        rest = ("min_seconds", "max_gap_seconds", "min_change", "fast_seconds", "slow_seconds", "speech_weight")
        for name, value in {**{name: getattr(self, name) for name in rest}, **seconds}.items():
            if not value >= 0:
                raise ConfigError(f"{name} is {value}; give a number of 0 or more")
        if self.fast_seconds > self.slow_seconds:
            raise ConfigError(f"fast_seconds is {self.fast_seconds}; give at most slow_seconds, {self.slow_seconds}")
        check_counts(self, "max_phrases", "max_words")


@dataclass(frozen=True, kw_only=True, slots=True)
class Movement:
    """One action unit's activity in a clip.

    Attributes:
        start_seconds, end_seconds: From the first active frame to the end of the last one.
        peak: Highest smoothed intensity.
        change: Peak minus the clip's own baseline.
        rise_seconds: From 30 % to 90 % of the peak; NaN where the rise was not seen.
        pattern: ``once``, ``repeated``, ``sustained``, ``strongest`` (active throughout, the interval is its height) or
            ``fading`` (active from the start, ends early).
        salience: Decides which are described when there are too many.
    """

    action_unit: str
    start_seconds: float
    end_seconds: float
    peak: float
    change: float
    rise_seconds: float
    pattern: str
    salience: float


def describe(
    units: ActionUnits,
    *,
    config: DescribeConfig | None = None,
    generator: np.random.Generator | None = None,
) -> Caption:
    """Describe the movements of a clip in words, in the order of their onset, such as
    ``Brows furrowed clearly, 0.8–1.9 s; lips pressed together slightly, 1.0–2.0 s.``

    Times in the text count from the first frame; those of the phrases are on the clip's own clock.

    Args:
        units: Curves; AU45 (a blink) is left out.
        generator: Draws among synonyms; without one the wording is always the same.

    Raises:
        DataError: No frames, values that are not finite, times that fall, or an unknown action unit.
    """
    config = config or DescribeConfig()
    units = _each_time_once(units)
    movements = find_movements(units, config=config)
    start, end = _clip_span(units.timestamps)
    if not movements:
        still = Phrase(
            text=wording.STILL, action_unit="", regions=(), start_seconds=start, end_seconds=end, intensity=0.0,
            start_character=0, end_character=0,
        )  # fmt: skip
        return join_phrases([still], source=SOURCE)
    chosen = sorted(movements, key=lambda movement: -movement.salience)[: config.max_phrases]
    texts = _fit([_phrase_texts(movement, config, start, generator) for movement in chosen], config.max_words)
    ordered = sorted(zip(chosen, texts, strict=True), key=lambda pair: pair[0].start_seconds)
    actions = load_facs().action_units
    phrases = [
        Phrase(
            text=text,
            action_unit=movement.action_unit,
            regions=actions[movement.action_unit].regions,
            start_seconds=movement.start_seconds,
            end_seconds=movement.end_seconds,
            intensity=movement.peak,
            start_character=0,
            end_character=0,
        )
        for movement, text in ordered
    ]
    return join_phrases(phrases, source=SOURCE)


def join_phrases(phrases: Sequence[Phrase], *, source: str) -> Caption:
    """One caption of phrases: semicolons between, a capital at the start, a full stop at the end; character positions are computed."""
    placed = []
    position = 0
    for number, phrase in enumerate(phrases):
        text = phrase.text[:1].upper() + phrase.text[1:] if number == 0 else phrase.text
        placed.append(replace(phrase, text=text, start_character=position, end_character=position + len(text)))
        position += len(text) + len(SEPARATOR)
    return Caption(text=SEPARATOR.join(p.text for p in placed) + ".", phrases=tuple(placed), source=source)


def on_video_clock(caption: Caption) -> Caption:
    """The caption as a reader of the whole video needs it: its times count from the start of the video, not of the clip.

    Only the times of our own captions change; the number of words stays the same.
    """
    if caption.source != SOURCE or not caption.phrases:
        return caption
    return replace(
        join_phrases([_with_video_times(phrase) for phrase in caption.phrases], source=SOURCE),
        guided_by=caption.guided_by,
    )


def _with_video_times(phrase: Phrase) -> Phrase:
    text = _SPAN.sub(f"{phrase.start_seconds:.1f}–{phrase.end_seconds:.1f} s", phrase.text)
    return replace(phrase, text=_END.sub(f"{phrase.end_seconds:.1f} s", text))


def find_movements(units: ActionUnits, *, config: DescribeConfig | None = None) -> tuple[Movement, ...]:
    """The movements that get a phrase, in the order of onset (then of the columns); see ``DescribeConfig``.

    Raises:
        DataError: As ``describe``.
    """
    config = config or DescribeConfig()
    units = _each_time_once(units)
    known = load_facs().action_units
    movements = [
        movement
        for column, name in enumerate(units.names)
        if not known[name].is_nuisance
        and (movement := _find_movement(name, units.intensity[:, column], units.timestamps, config)) is not None
    ]
    return tuple(sorted(movements, key=lambda movement: movement.start_seconds))


def _each_time_once(units: ActionUnits) -> ActionUnits:
    """The curves with every frame once: a clip shorter than its samples shows frames again, at the same time. Equal times are averaged."""
    _check(units)
    times, place, count = np.unique(units.timestamps, return_inverse=True, return_counts=True)
    if len(times) == len(units.timestamps):
        return units
    total = np.zeros((len(times), units.intensity.shape[1]))
    np.add.at(total, place, units.intensity)
    return replace(units, intensity=total / count[:, None], timestamps=times)


def _check(units: ActionUnits) -> None:
    if units.intensity.shape != (len(units.timestamps), len(units.names)) or len(units.timestamps) == 0:
        raise DataError(
            f"action units need frames × units values and at least one frame, got {units.intensity.shape} for "
            f"{len(units.timestamps)} frames and {len(units.names)} units"
        )
    if not np.isfinite(units.intensity).all():
        raise DataError("action-unit intensities must be finite; fill frames without a face before describing them")
    if not np.all(np.diff(units.timestamps) >= 0):
        raise DataError("the times of action units must not fall from frame to frame")
    known = load_facs().action_units
    for name in units.names:
        if name not in known:
            raise DataError(f"unknown action unit {name!r}{hint(name, known)} Known: {', '.join(known)}")


def _frame_seconds(timestamps: Float[np.ndarray, " frames"]) -> float:
    return float(np.median(np.diff(timestamps))) if len(timestamps) > 1 else 0.0


def _clip_span(timestamps: Float[np.ndarray, " frames"]) -> tuple[float, float]:
    return float(timestamps[0]), float(timestamps[-1]) + _frame_seconds(timestamps)


def smooth_curve(curve: Float[np.ndarray, " frames"]) -> Float[np.ndarray, " frames"]:
    """Weights ¼ ½ ¼; the ends count themselves twice more."""
    padded = np.pad(np.asarray(curve, dtype=np.float64), 1, mode="edge")
    return 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]


def _runs(active: Bool[np.ndarray, " frames"]) -> list[tuple[int, int]]:
    """(first, last + 1) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], active.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _find_movement(
    name: str, raw: Float[np.ndarray, " frames"], timestamps: Float[np.ndarray, " frames"], config: DescribeConfig
) -> Movement | None:
    threshold = config.thresholds.get(name, config.threshold)
    if raw.max() < threshold:
        return None
    frame = _frame_seconds(timestamps)
    clip_start, clip_end = _clip_span(timestamps)
    curve = smooth_curve(raw) if config.smooth else np.asarray(raw, dtype=np.float64)

    # Hysteresis without a direction of time: runs above the release level that reach the threshold.
    runs = [run for run in _runs(curve >= config.release_ratio * threshold) if curve[slice(*run)].max() >= threshold]
    spans = [(float(timestamps[first]), float(timestamps[last - 1]) + frame) for first, last in runs]
    merged: list[tuple[float, float]] = []
    for start, end in spans:
        if merged and start - merged[-1][1] < config.max_gap_seconds - 1e-9:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    shortest = config.min_seconds_by_unit.get(name, config.min_seconds)
    # Half a microsecond: times such as 0.1 + 0.15 are not exact.
    merged = [(start, end) for start, end in merged if end - start >= shortest - 5e-7]
    if not merged:
        return None

    start, end = merged[0][0], merged[-1][1]
    inside = (timestamps >= start - 1e-9) & (timestamps < end - 1e-9)
    peak = float(curve[inside].max())
    change = peak - float(np.quantile(curve, 0.1))
    top = int(np.flatnonzero(inside & (curve >= peak))[0])
    pattern = "once"
    if len(merged) > 1:
        pattern = "repeated"
    elif end - start >= config.sustained_share * (clip_end - clip_start):
        pattern = "sustained"
        if change >= config.min_change:
            first, last = next(run for run in _runs(curve >= peak - change / 2) if run[0] <= top < run[1])
            start, end, pattern = float(timestamps[first]), float(timestamps[last - 1]) + frame, "strongest"
    elif start <= clip_start and end < clip_end - config.min_seconds:
        pattern = "fading"

    salience = peak + 0.5 * change
    if pattern == "repeated" and name in load_facs().speech_confounds:
        salience *= config.speech_weight
    return Movement(
        action_unit=name,
        start_seconds=start,
        end_seconds=end,
        peak=min(peak, 1.0),
        change=change,
        rise_seconds=_rise_seconds(curve[: top + 1], timestamps),
        pattern=pattern,
        salience=salience,
    )


def _rise_seconds(curve: Float[np.ndarray, " frames"], timestamps: Float[np.ndarray, " times"]) -> float:
    """Time from 30 % to 90 % of the last value, between frames by a straight line; NaN if it begins above 30 %."""
    crossings = []
    for level in (0.3 * curve[-1], 0.9 * curve[-1]):
        below = np.flatnonzero(curve < level)
        if len(below) == 0:
            return float("nan")
        before = int(below[-1])
        share = (level - curve[before]) / (curve[before + 1] - curve[before])
        crossings.append(timestamps[before] + share * (timestamps[before + 1] - timestamps[before]))
    return float(crossings[1] - crossings[0])


def _fit(versions: Sequence[tuple[str, ...]], max_words: int) -> list[str]:
    """One of each phrase's versions, the longest where there is room; the last phrases are shortened first."""
    level = [0] * len(versions)
    for deeper in (1, 2):
        for number in reversed(range(len(versions))):
            if sum(len(texts[i].split()) for texts, i in zip(versions, level, strict=True)) <= max_words:
                break
            level[number] = deeper
    return [texts[i] for texts, i in zip(versions, level, strict=True)]


def _phrase_texts(
    movement: Movement, config: DescribeConfig, clip_start: float, generator: np.random.Generator | None
) -> tuple[str, str, str]:
    """The whole phrase, the phrase without speed, and without speed and times."""
    name = movement.action_unit
    strength = load_facs().intensity_word(movement.peak)
    adverb = "slightly" if strength is None else strength
    speed = ""
    if movement.pattern in ("once", "strongest"):
        if movement.rise_seconds < config.fast_seconds:
            speed = _pick(("quickly", "suddenly"), generator)
        elif movement.rise_seconds > config.slow_seconds:
            speed = "gradually"
    template = wording.plain(name, "*") if generator is None else wording.draw_template(name, generator)
    words = wording.place_adverb(template, adverb)
    fast_words = wording.place_adverb(template, " and ".join(word for word in (adverb, speed) if word))
    start, end = movement.start_seconds - clip_start, movement.end_seconds - clip_start
    times = f"{start:.1f}–{end:.1f} s"
    tail = {
        "once": times,
        "repeated": f"{_pick(('repeatedly', 'again and again'), generator)} {times}",
        "sustained": _pick(("throughout", "steadily"), generator),
        "strongest": f"strongest {times}",
        "fading": f"{_pick(('fades', 'relaxes'), generator)} by {end:.1f} s",
    }[movement.pattern]
    return f"{fast_words}, {tail}", f"{words}, {tail}", words


def _pick(words: tuple[str, ...], generator: np.random.Generator | None) -> str:
    return words[0] if generator is None else words[int(generator.integers(len(words)))]
