"""The FACS tables are typed, complete and speak our label names."""

from __future__ import annotations

import pytest

from class_words import class_words, find_class_words
from dferkit import labels
from dferkit.facs import AU_NAMES, load_facs


def test_loads_once_and_covers_every_class_and_expression_unit() -> None:
    facs = load_facs()
    assert load_facs() is facs
    assert tuple(facs.classes) == labels.MAFW
    assert len(AU_NAMES) == len(set(AU_NAMES)) == 23
    assert set(AU_NAMES) <= set(facs.action_units)
    assert not any(facs.action_units[name].is_nuisance for name in AU_NAMES)
    assert facs.action_units["AU45"].is_nuisance
    for unit in facs.action_units.values():
        assert unit.phrases
        assert set(unit.regions) <= set(facs.regions)


def test_class_rules_are_translated() -> None:
    facs = load_facs()
    assert facs.classes["anger"].core == ("AU4", "AU7", "AU24")
    assert facs.classes["anger"].optional["AU23"] == pytest.approx(0.29)
    assert facs.classes["contempt"].variants[2] == ("AU12", "AU14")  # R12 + R14
    assert facs.classes["disappointment"].optional["M54"] == pytest.approx(0.35)
    assert tuple(facs.classes["happiness"].optional) == ("AU6", "AU7", "AU26")
    assert facs.action_units["AU14"].phrases_unilateral


def test_units_that_distinguish_confusable_classes() -> None:
    facs = load_facs()
    assert facs.distinguishing_units(("surprise", "fear", "neutral")) == ("AU4", "AU20", "AU26")
    assert facs.distinguishing_units(("happiness", "neutral")) == ()


@pytest.mark.parametrize(
    ("intensity", "word"),
    [(0.1, None), (0.15, None), (0.2, "slightly"), (0.5, ""), (0.8, "clearly"), (1.0, "strongly")],
)
def test_intensity_words(intensity: float, word: str | None) -> None:
    assert load_facs().intensity_word(intensity) == word


def test_tables_are_read_only() -> None:
    with pytest.raises(TypeError):
        load_facs().action_units["AU1"] = None  # type: ignore[index]


def test_class_words_are_found_whole_and_in_any_case() -> None:
    assert {"anger", "angry", "joy", "furious", "let down", "neutral"} <= set(class_words())
    assert find_class_words("An Angry, let down man; sadly unhappy") == ("angry", "let down")
    assert find_class_words("a smile, a smirk, danger") == ()


def test_no_action_unit_phrase_names_a_class() -> None:
    for unit in load_facs().action_units.values():
        for phrase in (*unit.phrases, *unit.phrases_unilateral):
            assert find_class_words(phrase) == ()
