from __future__ import annotations

import pytest

from dferkit.errors import ManifestError
from dferkit.labels import ALIASES, BASIC, MAFW, nearest_name, parse_label


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
        ("", ""),
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


def test_nearest_name() -> None:
    assert nearest_name("FEER", BASIC) == "fear"
    assert nearest_name("zzz", BASIC) in BASIC
