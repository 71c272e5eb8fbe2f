"""Settings out of range, and the sentences that refuse them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from dferkit.checks import check_choices, check_range
from dferkit.errors import ConfigError
from dferkit.labels import check_name


@dataclass(frozen=True)
class Settings:
    share: float = 0.5
    kind: str = "a"


@pytest.mark.parametrize(
    ("share", "bounds", "wanted"),
    [
        (-0.1, {"least": 0}, "at least 0"),
        (0.0, {"above": 0, "most": 1}, "above 0 and at most 1"),
        (1.1, {"above": 0, "most": 1}, "above 0 and at most 1"),
        (1.0, {"least": 0, "below": 1}, "at least 0 and below 1"),
        (float("nan"), {"least": 0}, "at least 0"),
        (float("inf"), {"least": 0}, "at least 0"),
    ],
)
def test_a_number_out_of_range(share: float, bounds: dict[str, float], wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_range(Settings(share=share), "share", **bounds)
    assert str(caught.value) == f"share is {share}; give {wanted}"


@pytest.mark.parametrize(
    ("share", "bounds"), [(0.0, {"least": 0}), (1.0, {"most": 1}), (1e-9, {"above": 0}), (0.999, {"below": 1})]
)
def test_a_number_within_its_range(share: float, bounds: dict[str, float]) -> None:
    check_range(Settings(share=share), "share", **bounds)


def test_an_unknown_word() -> None:
    check_choices(Settings(), {"kind": ("a", "b")})
    with pytest.raises(ConfigError) as caught:
        check_choices(Settings(kind="c"), {"kind": ("a", "b")})
    assert str(caught.value) == "kind is 'c'; choose a, b"
    with pytest.raises(ConfigError) as caught:
        check_name("front end", "pixel", ("pixels", "landmarks"))
    assert str(caught.value) == "unknown front end 'pixel'; did you mean 'pixels'? Known: pixels, landmarks"
