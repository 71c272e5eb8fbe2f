"""Coarse captions against curves whose intervals and strengths were worked out by hand."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from class_words import find_class_words
from dferkit.captions.describe import (
    DescribeConfig,
    describe,
    find_movements,
    join_phrases,
    on_video_clock,
    smooth_curve,
)
from dferkit.captions.sample import sample_action_units, sample_caption
from dferkit.captions.wording import WORDINGS
from dferkit.errors import ConfigError, DataError
from dferkit.facs import AU_NAMES, load_facs
from dferkit.schema import ActionUnits

TIMES = np.arange(16) / 8  # two seconds, a frame lasts 0.125 s
RAW = DescribeConfig(smooth=False)


def curves(start: float = 0.0, **values: np.ndarray) -> ActionUnits:
    return ActionUnits(
        names=tuple(values),
        intensity=np.stack(list(values.values()), axis=1),
        timestamps=TIMES + start,
        source="truth",
    )


def block(first: int, last: int, height: float, floor: float = 0.0) -> np.ndarray:
    """``height`` on the frames ``first`` to ``last`` - 1."""
    curve = np.full(16, floor)
    curve[first:last] = height
    return curve


def test_smoothing_by_hand() -> None:
    np.testing.assert_allclose(smooth_curve(np.array([0.0, 0.0, 1.0, 0.0])), [0, 0.25, 0.5, 0.25])
    np.testing.assert_allclose(smooth_curve(np.array([1.0, 0.0])), [0.75, 0.25])


def test_one_block() -> None:
    (movement,) = find_movements(curves(AU4=block(4, 9, 0.7)), config=RAW)
    assert (movement.action_unit, movement.pattern) == ("AU4", "once")
    assert movement.start_seconds == pytest.approx(0.5)
    assert movement.end_seconds == pytest.approx(9 / 8)
    assert (movement.peak, movement.change) == pytest.approx((0.7, 0.7))
    # A jump within one frame: 30 % to 90 % is 60 % of 0.125 s.
    assert movement.rise_seconds == pytest.approx(0.6 * 0.125)


def test_a_reader_gets_the_times_of_the_video() -> None:
    """Each time of the text is later by the start of the clip; no other word changes."""
    values = {"AU4": block(4, 9, 0.7), "AU24": block(8, 14, 0.3), "AU12": block(0, 6, 0.6), "AU6": block(0, 16, 0.5)}
    values["AU43"] = block(2, 15, 0.9, floor=0.3)
    for start in (0.0, 4.0, 118.0):
        caption = describe(curves(start, **values), config=RAW)
        shown = on_video_clock(caption)
        assert caption.text == describe(curves(**values), config=RAW).text, "the model reads times from the first frame"
        words = re.split(r"(\d+\.\d)", caption.text)
        words[1::2] = [f"{float(time) + start:.1f}" for time in words[1::2]]
        assert shown.text == "".join(words)
        assert len(re.findall(r"\d+\.\d", shown.text)) >= 6
        assert " by " in shown.text
        for phrase in shown.phrases:
            assert shown.text[phrase.start_character : phrase.end_character] == phrase.text
    user = replace(caption, source="user")
    assert on_video_clock(user) == user


def test_text_places_and_times() -> None:
    caption = describe(curves(AU24=block(8, 14, 0.3), AU4=block(4, 9, 0.7)), config=RAW)
    assert caption.text == (
        "Brows furrowed clearly and quickly, 0.5–1.1 s; lips pressed together slightly and quickly, 1.0–1.8 s."
    )
    first, second = caption.phrases
    assert (first.action_unit, first.regions, first.intensity) == ("AU4", ("brow", "glabella"), pytest.approx(0.7))
    assert (second.action_unit, second.start_seconds, second.end_seconds) == ("AU24", 1.0, 1.75)
    assert first.start_character == 0
    assert not first.is_stressed
    assert (caption.source, caption.guided_by) == ("template", None)


def test_text_counts_from_the_window_and_phrases_on_the_clips_clock() -> None:
    caption = describe(curves(6.0, AU4=block(4, 9, 0.7)), config=RAW)
    assert "0.5–1.1 s" in caption.text
    assert caption.phrases[0].start_seconds == pytest.approx(6.5)


def test_still_face() -> None:
    caption = describe(curves(AU4=np.full(16, 0.1)))
    assert caption.text == "The face stays still."
    (phrase,) = caption.phrases
    assert (phrase.action_unit, phrase.regions, phrase.intensity) == ("", (), 0.0)
    assert (phrase.start_seconds, phrase.end_seconds) == (0.0, 2.0)
    assert (
        describe(ActionUnits(names=(), intensity=np.zeros((16, 0)), timestamps=TIMES, source="x")).text == caption.text
    )


def test_hysteresis_in_both_directions_of_time() -> None:
    curve = np.zeros(16)
    curve[3:9] = [0.11, 0.13, 0.25, 0.13, 0.13, 0.11]  # threshold 0.2, release 0.12
    (movement,) = find_movements(curves(AU4=curve), config=RAW)
    assert (movement.start_seconds, movement.end_seconds) == (0.5, 1.0)
    assert find_movements(curves(AU4=np.minimum(curve, 0.19)), config=RAW) == ()


def test_short_movements_are_noise_and_short_closures_are_blinks() -> None:
    assert find_movements(curves(AU4=block(4, 5, 0.9)), config=RAW) == ()
    assert len(find_movements(curves(AU4=block(4, 6, 0.9)), config=RAW)) == 1  # 0.25 s
    assert find_movements(curves(AU43=block(4, 7, 0.9)), config=RAW) == ()
    assert len(find_movements(curves(AU43=block(4, 8, 0.9)), config=RAW)) == 1  # 0.5 s
    assert find_movements(curves(AU45=block(4, 12, 0.9)), config=RAW) == ()


def test_gaps_merge_or_repeat() -> None:
    near = np.maximum(block(2, 5, 0.5), block(6, 9, 0.5))  # a gap of 0.125 s
    (movement,) = find_movements(curves(AU4=near), config=RAW)
    assert (movement.pattern, movement.start_seconds, movement.end_seconds) == ("once", 0.25, 1.125)
    far = np.maximum(block(2, 5, 0.5), block(8, 11, 0.5))
    (movement,) = find_movements(curves(AU4=far), config=RAW)
    assert (movement.pattern, movement.start_seconds, movement.end_seconds) == ("repeated", 0.25, 1.375)
    assert describe(curves(AU4=far), config=RAW).text == "Brows furrowed, repeatedly 0.2–1.4 s."


def test_lasting_movements() -> None:
    assert describe(curves(AU4=np.full(16, 0.5))).text == "Brows furrowed, throughout."
    # Baseline 0.3, peak 0.8: higher than half way, 0.55, on the frames 6 to 9.
    assert (
        describe(curves(AU4=block(6, 10, 0.8, 0.3)), config=RAW).text == "Brows furrowed clearly, strongest 0.8–1.2 s."
    )
    assert describe(curves(AU4=block(0, 8, 0.8)), config=RAW).text == "Brows furrowed clearly, fades by 1.0 s."


def test_speed_of_the_onset() -> None:
    slow = np.clip(np.arange(16) / 12, 0, 1)  # 30 % to 90 % takes 0.6 × 12 frames = 0.9 s
    (movement,) = find_movements(curves(AU4=slow), config=RAW)
    assert movement.rise_seconds == pytest.approx(0.9)
    assert "gradually" in describe(curves(AU4=slow), config=RAW).text
    (movement,) = find_movements(curves(AU4=block(0, 8, 0.8)), config=RAW)
    assert np.isnan(movement.rise_seconds)


def test_thresholds_of_single_units() -> None:
    noisy = curves(AU4=block(4, 9, 0.3), AU12=block(4, 9, 0.3))
    (movement,) = find_movements(noisy, config=DescribeConfig(smooth=False, thresholds={"AU4": 0.4}))
    assert movement.action_unit == "AU12"


def test_the_most_salient_are_told_in_the_order_of_onset() -> None:
    heights = {"AU4": 0.9, "AU12": 0.3, "AU9": 0.8, "AU1": 0.4}
    starts = {"AU4": 8, "AU12": 1, "AU9": 5, "AU1": 2}
    units = curves(**{name: block(starts[name], starts[name] + 5, height) for name, height in heights.items()})
    caption = describe(units, config=DescribeConfig(smooth=False, max_phrases=2))
    assert [p.action_unit for p in caption.phrases] == ["AU9", "AU4"]


def test_long_texts_lose_speeds_then_times_of_the_least_salient() -> None:
    units = curves(AU4=block(4, 9, 0.7), AU24=block(8, 14, 0.3))

    def text(max_words: int) -> str:
        return describe(units, config=DescribeConfig(smooth=False, max_words=max_words)).text

    assert text(15) == (
        "Brows furrowed clearly and quickly, 0.5–1.1 s; lips pressed together slightly and quickly, 1.0–1.8 s."
    )
    assert text(14) == "Brows furrowed clearly and quickly, 0.5–1.1 s; lips pressed together slightly, 1.0–1.8 s."
    assert text(11) == "Brows furrowed clearly, 0.5–1.1 s; lips pressed together slightly, 1.0–1.8 s."
    assert text(10) == "Brows furrowed clearly, 0.5–1.1 s; lips pressed together slightly."
    assert text(1) == "Brows furrowed clearly; lips pressed together slightly."


def test_speech_like_movement_gives_way() -> None:
    twice = np.maximum(block(2, 5, 0.5), block(8, 11, 0.5))
    speech, brow = find_movements(curves(AU25=twice, AU4=twice), config=RAW)
    assert speech.salience == pytest.approx(0.7 * brow.salience)


@pytest.mark.parametrize(
    "broken",
    [
        ActionUnits(names=("AU4",), intensity=np.full((16, 1), np.nan), timestamps=TIMES, source="x"),
        ActionUnits(names=("AU4",), intensity=np.zeros((15, 1)), timestamps=TIMES, source="x"),
        ActionUnits(names=("AU4",), intensity=np.zeros((0, 1)), timestamps=TIMES[:0], source="x"),
        ActionUnits(names=("AU4",), intensity=np.zeros((16, 1)), timestamps=TIMES[::-1], source="x"),
        ActionUnits(names=("AU99",), intensity=np.zeros((16, 1)), timestamps=TIMES, source="x"),
    ],
)
def test_unusable_curves_are_refused(broken: ActionUnits) -> None:
    with pytest.raises(DataError):
        describe(broken)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="AU12"):
        DescribeConfig(thresholds={"AU122": 0.3})
    for wrong in (
        {"threshold": 0.0},
        {"release_ratio": 1.5},
        {"sustained_share": 2.0},
        {"min_seconds": -1.0},
        {"speech_weight": float("nan")},
        {"fast_seconds": 2.0},
        {"max_phrases": 0},
        {"max_words": 0},
    ):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is {next(iter(wrong.values()))}"):
            DescribeConfig(**wrong)
    with pytest.raises(ConfigError, match="the min_seconds of AU43 is -1"):
        DescribeConfig(min_seconds_by_unit={"AU43": -1})


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), synonyms=st.booleans(), start=st.floats(0, 100))
def test_random_curves(seed: int, synonyms: bool, start: float) -> None:
    generator = np.random.default_rng(seed)
    units = sample_action_units(generator)
    units = ActionUnits(
        names=units.names, intensity=units.intensity, timestamps=units.timestamps + start, source="random"
    )
    caption = describe(units, generator=generator if synonyms else None)
    assert 1 <= len(caption.phrases) <= DescribeConfig().max_phrases
    assert find_class_words(caption.text) == ()
    assert caption.text == "; ".join(p.text for p in caption.phrases) + "."
    for phrase in caption.phrases:
        assert caption.text[phrase.start_character : phrase.end_character] == phrase.text
        assert 0 <= phrase.intensity <= 1
        assert units.timestamps[0] <= phrase.start_seconds < phrase.end_seconds <= start + 2 + 1e-6
    onsets = [p.start_seconds for p in caption.phrases]
    assert onsets == sorted(onsets)
    assert synonyms or len(caption.text.split()) <= DescribeConfig().max_words
    told = [p.action_unit for p in caption.phrases]
    assert len(set(told)) == len(told)
    if not synonyms:
        assert describe(units) == caption


def test_sampled_captions_are_deterministic_and_varied() -> None:
    first = [sample_caption(np.random.default_rng(7)).caption.text for _ in range(2)]
    assert first[0] == first[1]
    generator = np.random.default_rng(0)
    samples = [sample_caption(generator) for _ in range(300)]
    assert {p.action_unit for s in samples for p in s.caption.phrases} >= set(AU_NAMES)
    assert 0.4 < np.mean([s.guide is not None for s in samples]) < 0.8


def test_every_unit_has_words_and_no_wording_occurs_twice() -> None:
    assert set(WORDINGS) == {name for name, unit in load_facs().action_units.items() if not unit.is_nuisance}
    texts = [
        " ".join(t.replace("*", " ").split())
        for w in WORDINGS.values()
        for t in (f"{w.subject} {w.movement}", *w.synonyms, w.held_out)
    ]
    assert len(texts) == len(set(texts))


def test_held_out_wordings_use_known_words() -> None:
    known = {
        word for w in WORDINGS.values() for t in (w.subject, w.movement, w.detail, *w.synonyms) for word in t.split()
    }
    for wording in WORDINGS.values():
        assert set(wording.held_out.split()) <= known | {"*"}


def test_join_of_nothing() -> None:
    assert join_phrases([], source="user").phrases == ()


def test_a_frame_that_is_shown_again_changes_nothing() -> None:
    """A short clip is sampled more often than it has frames: the words are those of its own frames."""
    units = curves(AU12=block(4, 12, 0.7), AU4=block(6, 16, 0.5))
    shown = np.sort(np.concatenate([np.arange(16), [3, 5, 5, 9, 15]]))
    again = ActionUnits(
        names=units.names, intensity=units.intensity[shown], timestamps=units.timestamps[shown], source=units.source
    )
    assert describe(again) == describe(units)
    assert find_movements(again) == find_movements(units)
    single = ActionUnits(names=("AU12",), intensity=np.array([[0.2], [0.6]]), timestamps=np.zeros(2), source="truth")
    assert describe(single).phrases  # one moment, seen twice with noise
