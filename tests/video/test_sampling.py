import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dferkit.errors import ConfigError
from dferkit.video import clip_window, plan_windows


@settings(deadline=None)
@given(
    duration=st.floats(0.01, 120), window=st.floats(0.2, 30), overlap=st.floats(0.05, 1.0), samples=st.integers(1, 64)
)
def test_windows_cover_the_video(duration: float, window: float, overlap: float, samples: int) -> None:
    windows = plan_windows(duration, window_seconds=window, stride_seconds=window * overlap, num_samples=samples)
    starts = [w.start_seconds for w in windows]
    assert [w.number for w in windows] == list(range(len(windows)))
    assert starts[0] == 0
    assert all(b > a for a, b in itertools.pairwise(starts))
    length = min(window, duration)
    for one in windows:
        assert one.end_seconds - one.start_seconds == pytest.approx(length)
        assert one.end_seconds <= duration + 1e-6
        assert len(one.sample_times) == samples
        assert one.start_seconds < one.sample_times[0]
        assert one.sample_times[-1] < one.end_seconds
        assert np.allclose(np.diff(one.sample_times), length / samples)
    # No moment is further outside than one sampling segment, and no gap lies between windows.
    assert windows[-1].end_seconds >= duration - min(window / samples, 0.1 * window) - 1e-6
    assert all(b.start_seconds <= a.end_seconds + 1e-6 for a, b in itertools.pairwise(windows))


@pytest.mark.parametrize(
    ("duration", "stride", "expected"),
    [
        (2.0, None, [0.0]),
        (0.5, None, [0.0]),
        (2.03, None, [0.0]),
        (2.4, None, [0.0, 0.4]),
        (5.0, None, [0.0, 2.0, 3.0]),
        (5.0, 1.0, [0.0, 1.0, 2.0, 3.0]),
        (6.0, 5.0, [0.0, 4.0]),
        (4.0, 5.0, [0.0]),
    ],
)
def test_starts_by_hand(duration: float, stride: float | None, expected: list[float]) -> None:
    starts = [w.start_seconds for w in plan_windows(duration, stride_seconds=stride)]
    assert starts == pytest.approx(expected)


def test_one_window_over_a_clip() -> None:
    window = clip_window(3.0, 3)
    assert window.sample_times.tolist() == [0.5, 1.5, 2.5]


@pytest.mark.parametrize(
    "wrong",
    [{"window_seconds": 0.0}, {"stride_seconds": -1.0}, {"num_samples": 0}, {"window_seconds": float("nan")}],
)
def test_unusable_settings(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        plan_windows(4.0, **wrong)
    with pytest.raises(ConfigError):
        plan_windows(float("inf"))
