"""The rewriter: what is stressed, in which order, and what it must never do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from class_words import find_class_words
from dferkit.captions.describe import join_phrases
from dferkit.captions.refine import RefineConfig, refine, stress_weights
from dferkit.captions.sample import sample_caption, sample_guide
from dferkit.captions.wording import plain
from dferkit.errors import ConfigError, DataError
from dferkit.facs import load_facs
from dferkit.labels import BASIC
from dferkit.schema import Caption, CoarsePrediction, Phrase


def guide(out_of_fold: bool = True, labels: tuple[str, ...] = BASIC, **probabilities: float) -> CoarsePrediction:
    values = np.array([probabilities.get(label, 0.0) for label in labels])
    return CoarsePrediction(labels=labels, probabilities=values, model="net", fold=1, is_out_of_fold=out_of_fold)


def phrase(name: str, intensity: float, start: float) -> Phrase:
    adverb = load_facs().intensity_word(intensity) or ""
    return Phrase(
        text=f"{plain(name, adverb)}, {start:.1f}–{start + 0.5:.1f} s",
        action_unit=name,
        regions=load_facs().action_units[name].regions,
        start_seconds=start,
        end_seconds=start + 0.5,
        intensity=intensity,
        start_character=0,
        end_character=0,
    )


def coarse(*names: str, source: str = "template") -> Caption:
    return join_phrases([phrase(name, 0.7, 0.2 * i) for i, name in enumerate(names)], source=source)


def test_weights_by_hand() -> None:
    weights = stress_weights(guide(fear=0.5, surprise=0.3, happiness=0.2), top_k=2)
    # AU20: core of fear .5, tells fear from surprise: .5 × (.5 + .3)
    assert weights["AU20"] == pytest.approx(0.5 + 0.4)
    # AU4: core of fear .5, against surprise .5 × .3, tells them apart .4
    assert weights["AU4"] == pytest.approx(0.5 + 0.15 + 0.4)
    # AU26: core of surprise .3, optional for fear .33 × .5, tells them apart .4
    assert weights["AU26"] == pytest.approx(0.3 + 0.165 + 0.4)
    assert weights["AU2"] == pytest.approx(0.3 + 0.5 * 0.57)
    assert weights["AU12"] == pytest.approx(0.25)  # against fear only: happiness is not among the two


def test_order_and_wording() -> None:
    caption = coarse("AU12", "AU26", "AU17", "AU20", "AU4")
    fine = refine(caption, guide(fear=0.5, surprise=0.3), top_k=2, config=RefineConfig(max_absent=0))
    assert [p.action_unit for p in fine.phrases] == ["AU4", "AU20", "AU26", "AU12", "AU17"]
    assert [p.is_stressed for p in fine.phrases] == [True, True, True, False, False]
    assert fine.text == (
        "Brows clearly furrowed, drawn together above the nose, 0.8–1.3 s; "
        "lips clearly stretched, mouth corners pulled sideways, 0.6–1.1 s; "
        "jaw clearly dropped, mouth hanging open, 0.2–0.7 s; "
        "lip corners pulled up clearly; chin raised clearly."
    )
    assert fine.phrases[0].start_seconds == pytest.approx(0.8)
    assert caption == coarse("AU12", "AU26", "AU17", "AU20", "AU4")  # the coarse caption is not changed
    assert not any(p.is_stressed for p in caption.phrases)


def test_guide_decides_what_comes_first() -> None:
    caption = coarse("AU12", "AU4")
    assert refine(caption, guide(happiness=0.9, anger=0.1)).phrases[0].action_unit == "AU12"
    assert refine(caption, guide(anger=0.9, happiness=0.1)).phrases[0].action_unit == "AU4"


def test_absent_movements_are_told() -> None:
    fine = refine(coarse("AU12"), guide(happiness=0.6, sadness=0.3, fear=0.1), top_k=2)
    absent = [p for p in fine.phrases if p.intensity == 0]
    # AU25: core of happiness, .6. AU4 and AU15: core of sadness, .3, and against happiness, .5 × .6. The first
    # candidate and the order of the table decide between equals.
    assert [p.action_unit for p in absent] == ["AU25", "AU4"]
    assert [p.text for p in absent] == ["lips not parted", "brows not furrowed"]
    assert not any(p.is_stressed for p in absent)


def test_absence_is_told_only_where_it_is_seen() -> None:
    sad = guide(sadness=0.9, neutral=0.1)
    told = refine(coarse("AU12"), sad)
    assert any(p.intensity == 0 for p in told.phrases)
    long = coarse("AU12", "AU6", "AU25", "AU1", "AU2", "AU5", "AU9")
    assert not any(p.intensity == 0 for p in refine(long, sad, config=RefineConfig(max_words=200)).phrases)
    assert not any(p.intensity == 0 for p in refine(coarse("AU12", source="user"), sad).phrases)
    # An open jaw parts the lips: their "absence" would be false.
    happy = refine(coarse("AU26"), guide(happiness=0.9, neutral=0.1))
    assert "AU25" not in {p.action_unit for p in happy.phrases}


def test_still_face_stays_still() -> None:
    still = Phrase(
        text="the face stays still", action_unit="", regions=(), start_seconds=0, end_seconds=2, intensity=0,
        start_character=0, end_character=0,
    )  # fmt: skip
    caption = join_phrases([still], source="template")
    fine = refine(caption, guide(neutral=0.9))
    assert fine.text == "The face stays still."
    assert fine.guided_by is not None


def test_training_captions_need_an_out_of_fold_guide() -> None:
    caption = coarse("AU4")
    leaking = guide(out_of_fold=False, anger=1.0)
    with pytest.raises(DataError, match="leak the label"):
        refine(caption, leaking, for_training=True)
    with pytest.raises(ValueError, match="other folds"):
        refine(caption, leaking, for_training=True)
    assert refine(caption, leaking).guided_by is leaking
    assert refine(caption, guide(anger=1.0), for_training=True).phrases[0].is_stressed


def test_a_refined_caption_is_not_refined_again() -> None:
    with pytest.raises(DataError, match="already refined with 'net'"):
        refine(refine(coarse("AU4"), guide(anger=1.0)), guide(fear=1.0))


def test_words_of_others_are_kept() -> None:
    theirs = coarse("AU12", "AU4", source="some language model")
    fine = refine(theirs, guide(anger=0.9))
    assert fine.text == "Brows furrowed clearly, 0.2–0.7 s; Lip corners pulled up clearly, 0.0–0.5 s."
    assert fine.phrases[0].is_stressed
    assert fine.source == "some language model"


def test_wrong_settings() -> None:
    with pytest.raises(ConfigError):
        refine(coarse("AU4"), guide(anger=1.0), top_k=0)
    for wrong in ({"max_absent": -1}, {"distinguishing_weight": -0.5}, {"max_words": 0}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is {next(iter(wrong.values()))}"):
            RefineConfig(**wrong)


def test_free_text_and_own_classes_are_left_alone() -> None:
    free = Caption(text="He frowns.", phrases=(), source="user")
    fine = refine(free, guide(anger=1.0))
    assert (fine.text, fine.phrases) == ("He frowns.", ())
    own = guide(labels=("pain", "anger"), pain=0.8, anger=0.2)
    assert refine(coarse("AU12", "AU4"), own).phrases[0].action_unit == "AU4"


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), top_k=st.integers(1, 11), max_words=st.integers(8, 50))
def test_random_captions(seed: int, top_k: int, max_words: int) -> None:
    generator = np.random.default_rng(seed)
    caption = sample_caption(generator, refined_share=0.0).caption
    chosen = sample_guide(generator)
    fine = refine(caption, chosen, top_k=top_k, config=RefineConfig(max_words=max_words))
    assert fine == refine(caption, chosen, top_k=top_k, config=RefineConfig(max_words=max_words))
    assert find_class_words(fine.text) == ()
    assert len(fine.text.split()) <= max(max_words, 16)  # a single full phrase is never cut
    told = {p.action_unit: p for p in caption.phrases}
    for p in fine.phrases:
        assert fine.text[p.start_character : p.end_character] == p.text
        if p.intensity > 0:  # nothing is said that was not observed
            assert told[p.action_unit].intensity == p.intensity
            assert told[p.action_unit].start_seconds == p.start_seconds
        elif p.action_unit:
            assert p.action_unit not in told
    stressed = [p.is_stressed for p in fine.phrases]
    assert stressed == sorted(stressed, reverse=True)
