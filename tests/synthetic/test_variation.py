"""The training profile: which looks it may show, and that the frozen benchmark knows nothing of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dferkit.errors import ConfigError
from dferkit.labels import BASIC
from dferkit.synthetic import BenchmarkConfig, Nuisances, plan_clips
from dferkit.synthetic.benchmark import draw_clip, draw_identity
from dferkit.synthetic.flow import motion_truth
from dferkit.synthetic.looks import LOOKS, Looks, held_band
from dferkit.synthetic.render import render_frames
from dferkit.synthetic.scene import PER_FRAME, Occluder


def drawn(settings: str, count: int = 400) -> np.ndarray:
    """Places (draws, looks)."""
    rng = np.random.default_rng(3)
    return np.array(
        [[looks.place(name) for name in LOOKS] for looks in (Looks(settings, LOOKS, rng) for _ in range(count))]
    )


def inside_band(places: np.ndarray) -> np.ndarray:
    bands = np.array([held_band(name) for name in LOOKS])
    return (places > bands[:, 0]) & (places < bands[:, 1])


def test_training_never_shows_what_is_held_back() -> None:
    seen, held = drawn("seen"), drawn("held_back")
    assert not inside_band(seen).any()
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert inside_band(held).any(0).all(), "every look is held back for some"
    assert inside_band(held).mean() == pytest.approx(0.35, abs=0.02)
    assert inside_band(held).any(1).mean() > 0.999, "no held-back clip looks like a training clip throughout"


def test_halves_share_no_look() -> None:
    assert drawn("low").max() <= 0.5 <= drawn("high").min()
    whole = drawn("any")
    assert whole.mean(0) == pytest.approx(0.5, abs=0.06)


def test_bands_lie_at_different_places() -> None:
    starts = sorted(held_band(name)[0] for name in LOOKS)
    assert len(set(starts)) == len(LOOKS)
    assert starts[0] < 0.1
    assert starts[-1] > 0.75


@pytest.mark.parametrize("settings", ["seen", "held_back", "low", "high", "any"])
def test_same_seed_same_pictures_and_truth(settings: str) -> None:
    config = BenchmarkConfig(clips=14, profile="varied", settings=settings, size=64, seconds=1.0, fps=4.0)
    pictures = []
    for _ in range(2):
        plan = plan_clips(config)[5]
        performance, identity = draw_clip(config, plan), draw_identity(config, plan.subject)
        frames = render_frames(identity, performance.au, performance.asymmetry, performance.scene, size=64)
        assert frames.std() > 2
        assert performance.au.min() >= 0
        assert performance.au.max() <= 1
        assert np.isfinite(motion_truth(identity, performance, size=64).heat).all()
        pictures.append(frames)
    np.testing.assert_array_equal(*pictures)


def test_a_frame_that_is_shown_twice_has_the_truth_of_what_it_shows() -> None:
    config = BenchmarkConfig(clips=210, profile="varied", seed=2)
    repeated = 0
    for plan in plan_clips(config):
        performance = draw_clip(config, plan)
        for i in range(1, len(performance.au)):
            if all(
                np.array_equal(getattr(performance.scene, name)[i], getattr(performance.scene, name)[i - 1])
                for name in PER_FRAME
            ):
                repeated += 1
                np.testing.assert_array_equal(performance.au[i], performance.au[i - 1])
    assert repeated > 100


def test_an_open_mouth_tells_no_class_for_certain() -> None:
    """Shouting and talking mouths occur in every class, so that an open mouth alone is no answer."""
    config = BenchmarkConfig(clips=700, profile="varied", seed=4)
    opened = {label: [] for label in BASIC}
    for plan in plan_clips(config):
        performance = draw_clip(config, plan)
        opened[plan.label].append(performance.scene.speech[:, 1].max() > 0.3 or performance.au[:, 18:20].max() > 0.3)
    shares = {label: float(np.mean(values)) for label, values in opened.items()}
    assert min(shares.values()) > 0.2, shares
    assert max(shares.values()) < 0.98, shares


def test_a_face_of_another_shape_moves_where_the_truth_says() -> None:
    """The displacement of the eyes' middle by a shape field is what the picture and the heat map show."""
    config = BenchmarkConfig(clips=7, size=128)
    identity, plan = draw_identity(config, 0), plan_clips(config)[0]
    performance = draw_clip(config, plan, Nuisances.only(None))
    still = replace(performance, au=np.zeros_like(performance.au))
    field = np.zeros((2, 60, 55), np.float32)
    field[1] = 0.5  # the whole face half a centimetre up
    up = replace(identity, shape=field)
    plain, moved = (
        render_frames(
            who,
            still.au[:1],
            still.asymmetry,
            replace(still.scene, **{n: getattr(still.scene, n)[:1] for n in PER_FRAME}),
            size=128,
        )[0]
        for who in (identity, up)
    )
    pixels = 0.5 * 128 / 25.5
    face = (slice(40, 90), slice(40, 90))
    grey, lifted = plain.mean(2), moved.mean(2)
    errors = [np.abs(np.roll(grey, -shift, 0)[face] - lifted[face]).mean() for shift in range(6)]
    assert abs(int(np.argmin(errors)) - pixels) < 1


def test_a_thing_before_the_face_is_drawn_where_it_is_said_to_be() -> None:
    config = BenchmarkConfig(clips=7, size=128)
    identity, plan = draw_identity(config, 0), plan_clips(config)[0]
    performance = draw_clip(config, plan, Nuisances.only(None))
    thing = Occluder(centre=(5.0, 5.0), drift=(0.0, -10.0), extent=(1.5, 1.5), angle=0.0, colour=(0.0, 1.0, 0.0))
    frames = render_frames(
        identity, performance.au, performance.asymmetry, replace(performance.scene, occluder=thing), size=128
    )
    scale = 128 / 25.5
    column, top, bottom = round(64 + 5 * scale), round(64 - 5 * scale), round(64 + 5 * scale)
    for frame, row in ((frames[0], top), (frames[-1], bottom)):
        red, green, blue = (int(v) for v in frame[row, column])
        assert green > 150 > 60 > max(red, blue)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="choose any, seen"):
        BenchmarkConfig(clips=7, profile="varied", settings="half")
    with pytest.raises(ConfigError, match="any with the benchmark's profiles"):
        BenchmarkConfig(clips=7, profile="posed", settings="low")
    config = BenchmarkConfig(clips=7, profile="varied")
    with pytest.raises(ConfigError, match="draws its own nuisances"):
        draw_clip(config, plan_clips(config)[0], Nuisances())
