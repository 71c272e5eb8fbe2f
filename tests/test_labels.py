from __future__ import annotations

import numpy as np
import pytest

from dferkit.datasets import DATA_SETS
from dferkit.errors import ConfigError, ManifestError
from dferkit.labels import (
    ALIASES,
    BASIC,
    CLASS_ORDERS,
    MAFW,
    MAFW_COMPOUND,
    RAVDESS,
    check_name,
    class_order,
    hint,
    parse_label,
    restrict_probabilities,
    shared_labels,
)


def test_order_is_fixed() -> None:
    """Every file of probabilities relies on it."""
    assert BASIC == ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    assert (*BASIC, "contempt", "anxiety", "helplessness", "disappointment") == MAFW


@pytest.mark.parametrize("text", ["happiness", "Happy", " JOY ", "happiness\t"])
def test_spellings(text: str) -> None:
    assert parse_label(text) == "happiness"


def test_every_alias_is_a_known_class_and_no_class_is_an_alias() -> None:
    assert set(ALIASES.values()) <= set(MAFW)
    assert not set(ALIASES) & set(MAFW)


@pytest.mark.parametrize(
    ("text", "guess"),
    [
        ("hapiness", "happiness"),
        ("suprise", "surprise"),
        ("angery", "anger"),
        ("netural", "neutral"),
        ("sadnes", "sadness"),
    ],
)
def test_unknown_names_the_nearest(text: str, guess: str) -> None:
    with pytest.raises(ManifestError, match=f"did you mean '{guess}") as caught:
        parse_label(text, where="clips.csv:3")
    assert str(caught.value).startswith("clips.csv:3: ")


def test_a_class_of_another_set_is_unknown() -> None:
    with pytest.raises(ManifestError, match="unknown label 'contempt'"):
        parse_label("contempt")
    assert parse_label("contemptuous", MAFW) == "contempt"
    with pytest.raises(ManifestError) as caught:
        parse_label("anxious")
    assert not any(f"mean {name!r}" in str(caught.value) for name in MAFW[7:])


def test_a_near_name_is_found_in_any_case() -> None:
    assert hint("FEER", BASIC) == "; did you mean 'fear'?"
    assert hint("angri", ("Angry", "Sad")) == "; did you mean 'Angry'?"


@pytest.mark.parametrize("text", ["bored", "1", "", "zzz"])
def test_nothing_near_gives_the_list_and_no_guess(text: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_label(text)
    assert str(caught.value) == f"unknown label {text!r}. Known labels: {', '.join(BASIC)}"


def test_an_unknown_name_without_a_near_one_is_refused_with_the_list() -> None:
    with pytest.raises(ConfigError, match=r"^unknown model 'transformer'\. Known: grace, a3lign$"):
        check_name("model", "transformer", ("grace", "a3lign"))


def test_numbers_of_every_release() -> None:
    """The official numbers, as the releases' own documents list them: a copy with other numbers is another order."""
    assert class_order("dfew").index("happiness") + 1 == 1
    assert class_order("dfew").index("fear") + 1 == 7
    assert class_order("mafw")[4] == "neutral"
    assert class_order("mafw-dfew-first")[:2] == ("happiness", "sadness")
    assert class_order("basic-alphabetical")[5] == "sadness"
    assert class_order("ravdess")[1] == "calm"
    assert class_order("angry, Happy") == ("anger", "happiness")


def test_every_order_permutes_a_label_set() -> None:
    sets = {frozenset(entry.labels) for entry in DATA_SETS.values() if entry.labels}
    assert {frozenset(order) for order in CLASS_ORDERS.values()} == sets
    assert len(MAFW_COMPOUND) == 43 == len(set(MAFW_COMPOUND))
    assert all(set(label.split("_")) <= set(MAFW) for label in MAFW_COMPOUND)


def test_unknown_order_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mafw-alphabetical'"):
        class_order("mafw-alphabet")


def test_calm_is_its_own_class_only_where_a_set_has_it() -> None:
    assert parse_label("calm") == "neutral"
    assert parse_label("Calm", RAVDESS) == "calm"
    assert shared_labels(RAVDESS, MAFW) == BASIC


def test_restricting_is_conditioning() -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.0, 0.0, 1.0], [np.nan] * 3])
    kept = restrict_probabilities(p, ("anger", "fear", "neutral"), ("fear", "anger"))
    np.testing.assert_allclose(kept[0], [0.375, 0.625], rtol=1e-15)
    assert np.isnan(kept[1:]).all()
    with pytest.raises(ConfigError, match="share 1 classes"):
        shared_labels(("anger", "fear"), ("fear", "joy"))
