"""What a face does in one clip: action-unit curves of its class, and the nuisances that carry no label.

Nuisances (blink, speech, head, gaze, camera, light, noise) are drawn independently of the class, so no label can be read from them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dferkit.facs import AU_NAMES
from dferkit.labels import BASIC
from dferkit.synthetic.anatomy import AU_INDEX, NUM_AUS
from dferkit.synthetic.scene import Scene

Profile = Literal["posed", "natural", "varied"]

# AU -> (probability of use, mean intensity) when the class is shown in full.
PROTOTYPES: dict[str, dict[str, tuple[float, float]]] = {
    "anger": {
        "AU4": (0.95, 0.65),
        "AU7": (0.75, 0.50),
        "AU24": (0.55, 0.55),
        "AU23": (0.50, 0.50),
        "AU5": (0.35, 0.40),
        "AU17": (0.40, 0.35),
        "AU10": (0.22, 0.30),
        "AU25": (0.15, 0.30),
    },
    "disgust": {
        "AU9": (0.75, 0.60),
        "AU10": (0.75, 0.55),
        "AU17": (0.45, 0.40),
        "AU4": (0.40, 0.40),
        "AU7": (0.40, 0.40),
        "AU15": (0.25, 0.30),
        "AU25": (0.20, 0.30),
        "AU16": (0.15, 0.30),
    },
    "fear": {
        "AU1": (0.85, 0.55),
        "AU2": (0.55, 0.40),
        "AU4": (0.70, 0.45),
        "AU5": (0.75, 0.60),
        "AU20": (0.75, 0.55),
        "AU25": (0.75, 0.45),
        "AU26": (0.30, 0.35),
        "AU7": (0.20, 0.30),
    },
    "happiness": {
        "AU12": (1.00, 0.70),
        "AU6": (0.75, 0.50),
        "AU25": (0.60, 0.50),
        "AU7": (0.20, 0.30),
        "AU26": (0.20, 0.30),
    },
    "sadness": {
        "AU1": (0.75, 0.55),
        "AU4": (0.75, 0.40),
        "AU15": (0.80, 0.60),
        "AU17": (0.60, 0.45),
        "AU43": (0.25, 0.35),
        "AU6": (0.15, 0.25),
    },
    "surprise": {
        "AU1": (0.85, 0.60),
        "AU2": (0.90, 0.65),
        "AU5": (0.70, 0.55),
        "AU25": (0.85, 0.50),
        "AU26": (0.85, 0.60),
        "AU27": (0.15, 0.50),
    },
    "neutral": {},
}
# Shares of clips per class in the DFEW folds (11,697 clips, design: published counts), in the order of labels.BASIC.
DFEW_PRIOR = np.array([2173, 145, 902, 2445, 1894, 1469, 2669]) / 11697
_NATURAL_EXTRA = {
    "disgust": {"AU4": (0.6, 0.4), "AU7": (0.6, 0.4), "AU9": (0.35, 0.4)},
    "sadness": {"AU4": (0.8, 0.4), "AU7": (0.4, 0.3), "AU15": (0.5, 0.4)},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Performance:
    """One clip's script.

    Attributes:
        label: Class that was acted.
        soft_label: (classes,) share of each class in what is shown.
        is_ambiguous: A second class was mixed in at .25 to .45.
        au: (frames, AUs) truth, 0 to 1.
        asymmetry: (AUs,) -1 to 1, how much weaker one side is.
        envelope: Kind of its time course, such as ``onset`` or ``double``.
    """

    label: str
    soft_label: np.ndarray
    is_ambiguous: bool
    au: np.ndarray
    asymmetry: np.ndarray
    envelope: str
    scene: Scene


@dataclass(frozen=True, kw_only=True, slots=True)
class Nuisances:
    """Which nuisances may occur; the probe sets turn all off but one."""

    blink: bool = True
    speech: bool = True
    head: bool = True
    gaze: bool = True
    camera: bool = True
    light: bool = True
    degradation: bool = True
    idle: bool = True

    @classmethod
    def only(cls, name: str | None) -> Nuisances:
        """Nothing on but ``name``."""
        none = cls(
            blink=False, speech=False, head=False, gaze=False, camera=False, light=False, degradation=False, idle=False
        )
        return none if name is None else replace(none, **{name: True})


def _ramp(t: np.ndarray, start: float, duration: float) -> np.ndarray:
    """Smooth rise from 0 at ``start`` to 1 after ``duration``."""
    x = np.clip((t - start) / max(duration, 1e-3), 0, 1)
    return x * x * (3 - 2 * x)


def _envelope(t: np.ndarray, seconds: float, profile: Profile, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Time course 0 to 1 of the expression: its values and its kind."""
    if profile == "natural":
        # Slow rises that have begun before the clip does: the first frame is near 40 % of the peak.
        rise = float(np.clip(rng.lognormal(np.log(0.77), 0.8), 0.2, 1.8))
        onset = float(rng.uniform(-0.5, 0.4) * rise)
        first = float(np.clip(rng.normal(0.4, 0.18), 0.05, 0.85))
        curve = first + (1 - first) * _ramp(t, onset, rise)
        if rng.random() < 0.5:
            fall = rng.uniform(0.6, 1.6)
            curve = curve * (1 - rng.uniform(0.3, 0.8) * _ramp(t, rng.uniform(0.55, 0.9) * seconds, fall))
        return curve, "natural"
    kind = str(rng.choice(["onset", "full", "sustained", "double"], p=[0.3, 0.35, 0.2, 0.15]))
    rise, onset = float(rng.uniform(0.2, 0.7)), float(rng.uniform(0.0, 0.35) * seconds)
    if kind == "onset":
        return _ramp(t, onset, rise), kind
    if kind == "sustained":
        return np.ones_like(t) * (0.92 + 0.08 * np.sin(2 * np.pi * t / seconds + rng.uniform(0, 6))), kind
    if kind == "full":
        end = float(rng.uniform(0.65, 0.95) * seconds)
        return _ramp(t, onset, rise) * (1 - _ramp(t, end, rng.uniform(0.2, 0.6))), kind
    middle = float(rng.uniform(0.4, 0.6) * seconds)
    dip = 1 - rng.uniform(0.5, 0.9) * _ramp(t, middle - 0.3, 0.25) * (1 - _ramp(t, middle, 0.25))
    return _ramp(t, onset * 0.5, rise) * dip, kind


def _pattern(label: str, profile: Profile, rng: np.random.Generator) -> np.ndarray:
    """Peak intensities (AUs,) of one display of a class."""
    table = dict(PROTOTYPES[label])
    if profile == "natural":
        table |= _NATURAL_EXTRA.get(label, {})
    peak = np.zeros(NUM_AUS)
    for name, (use, mean) in table.items():
        if profile == "natural":
            if rng.random() < 0.5 + 0.3 * (use >= 0.95):
                peak[AU_INDEX[name]] = rng.uniform(0.2, 0.6)
        elif rng.random() < use:
            peak[AU_INDEX[name]] = np.clip(rng.normal(mean, 0.16), 0.15, 1.0)
    if label != "neutral" and not peak.any():
        name = max(table, key=lambda key: table[key][0])
        peak[AU_INDEX[name]] = rng.uniform(0.25, 0.6)
    return peak


def _tremor(frames: int, rng: np.random.Generator, size: float, smoothness: int) -> np.ndarray:
    """Smooth random wandering with standard deviation ``size``."""
    noise = rng.standard_normal(frames + 4 * smoothness)
    kernel = np.hanning(2 * smoothness + 3)
    smooth = np.convolve(noise, kernel / np.sqrt((kernel**2).sum()), "same")
    return size * smooth[2 * smoothness : 2 * smoothness + frames]


def draw_scene(t: np.ndarray, profile: Profile, nuisances: Nuisances, rng: np.random.Generator) -> Scene:
    """Head, camera, blinks, speech and light of a clip at times ``t`` (seconds); independent of the class."""
    frames, fps = len(t), 1 / float(t[1] - t[0]) if len(t) > 1 else 8.0
    smoothness = max(round(fps / 2.5), 1)
    pose = np.zeros((frames, 3))
    pose += rng.normal(0, (0.10, 0.06, 0.04)) if nuisances.head else 0.0
    if nuisances.head:
        pose += np.stack([_tremor(frames, rng, 0.012, smoothness) for _ in range(3)], 1)
        if rng.random() < 0.35:
            turn = rng.normal(0, (0.22, 0.12, 0.08))
            pose += turn * (_ramp(t, rng.uniform(0, 0.6) * t[-1], rng.uniform(0.4, 1.2)) - 0.5)[:, None]
    camera = np.zeros((frames, 3))
    camera[:, 2] = 1.0
    if nuisances.camera:
        camera += np.array([rng.normal(0, 0.7), rng.normal(0, 0.7), rng.uniform(-0.10, 0.10)])
        if rng.random() < 0.3:
            camera[:, :2] += np.stack([_tremor(frames, rng, 0.35, smoothness) for _ in range(2)], 1)
            camera[:, 2] += _tremor(frames, rng, 0.02, smoothness)
    blink = np.zeros(frames)
    if nuisances.blink:
        # About .4 blinks a second: each shuts within .08 s and opens within .17 s.
        for _ in range(rng.poisson(0.39 * max(t[-1], 0.5))):
            at = rng.uniform(t[0] - 0.1, t[-1] + 0.1)
            blink = np.maximum(blink, np.clip(1.15 - np.abs(t - at) / np.where(t < at, 0.09, 0.17), 0, 1))
    speech = np.zeros((frames, 4))
    if nuisances.speech and (profile == "natural" or rng.random() < 0.45):
        on, off = (t[0], t[-1]) if profile == "natural" else sorted(rng.uniform(t[0], t[-1], 2))
        talking = _ramp(t, on - 0.1, 0.2) * (1 - _ramp(t, off, 0.2))
        rate = rng.uniform(2.5, 5.0)
        for channel, size in enumerate((0.7, 0.55, 0.6, 0.5)):
            wave = np.sin(2 * np.pi * (rate * (1 + 0.3 * channel)) * t + rng.uniform(0, 6.3)) + _tremor(
                frames, rng, 0.5, 1
            )
            speech[:, channel] = np.clip(wave, 0, 1.3) * size * talking * rng.uniform(0.4, 1.0)
    gaze = np.zeros((frames, 2))
    if nuisances.gaze:
        gaze += rng.normal(0, (0.12, 0.06))
        if rng.random() < 0.4:
            gaze += (rng.normal(0, (0.25, 0.12)) * (t > rng.uniform(t[0], t[-1]))[:, None]).clip(-0.45, 0.45)
    light = (
        np.tile(np.array([rng.uniform(-0.7, 0.7), rng.uniform(0.0, 0.8), 1.0]), (frames, 1))
        if nuisances.light
        else np.tile([0.25, 0.4, 1.0], (frames, 1))
    )
    exposure = np.full(frames, rng.uniform(0.82, 1.2) if nuisances.light else 1.0)
    if nuisances.light and rng.random() < 0.3:
        light[:, 0] += np.linspace(0, rng.uniform(-0.5, 0.5), frames)
        exposure *= 1 + _tremor(frames, rng, 0.06, smoothness)
    light /= np.linalg.norm(light, axis=1, keepdims=True)
    soft = nuisances.degradation
    return Scene(
        pose=pose.astype(np.float32),
        camera=camera.astype(np.float32),
        blink=blink.astype(np.float32),
        speech=speech.astype(np.float32),
        gaze=gaze.astype(np.float32),
        light=light.astype(np.float32),
        exposure=exposure.astype(np.float32),
        light_colour=(1 + rng.normal(0, 0.05, 3) if nuisances.light else np.ones(3)).astype(np.float32),
        ambient=float(rng.uniform(0.25, 0.55)) if nuisances.light else 0.4,
        background=int(rng.integers(2**31)),
        blur=float(rng.uniform(0, 0.8)) if soft else 0.0,
        noise=float(rng.uniform(0, 5)) if soft else 0.0,
        quality=int(rng.integers(45, 96)) if soft else 95,
    )


def draw_performance(
    label: str,
    *,
    frames: int,
    fps: float,
    profile: Profile,
    rng: np.random.Generator,
    nuisances: Nuisances | None = None,
) -> Performance:
    """Draw one clip of a class.

    Args:
        label: One of ``labels.BASIC``. profile: ``posed`` or ``natural``; clips of the training profile start from either (``variation``).
        frames, fps: Length and rate; times are ``arange(frames) / fps``.
        nuisances: What may happen besides the expression; all by default.
    """
    nuisances = nuisances or Nuisances()
    t = np.arange(frames) / fps
    seconds = frames / fps
    soft = np.zeros(len(BASIC))
    soft[BASIC.index(label)] = 1.0
    peak = _pattern(label, profile, rng)
    # The draws below happen in every case, so that switching one thing off leaves the rest of the clip alone.
    ambiguous, share = bool(rng.random() < 0.25), float(rng.uniform(0.25, 0.45))
    second = BASIC[(BASIC.index(label) + int(rng.integers(1, len(BASIC)))) % len(BASIC)]
    other = _pattern(second, profile, rng)
    if ambiguous and nuisances.idle:
        soft *= 1 - share
        soft[BASIC.index(second)] = share
        peak = np.maximum(peak * (1 - share) * 1.25, other * share * 1.25)
    curve, kind = _envelope(t, seconds, profile, rng)
    au = np.zeros((frames, NUM_AUS))
    for i in np.flatnonzero(peak):
        lag = rng.uniform(-0.1, 0.1)
        au[:, i] = peak[i] * np.interp(t - lag, t, curve)
    idle = np.flatnonzero(rng.random(NUM_AUS) < 0.10)
    for i in idle:
        if nuisances.idle:
            at, width = rng.uniform(0, seconds), rng.uniform(0.25, 0.8)
            au[:, i] = np.maximum(au[:, i], rng.uniform(0.08, 0.22) * np.exp(-(((t - at) / width) ** 2)))
    asymmetry = np.zeros(NUM_AUS)
    if rng.random() < 0.25:
        asymmetry += rng.uniform(-0.5, 0.5) + rng.normal(0, 0.1, NUM_AUS)
    return Performance(
        label=label,
        soft_label=soft,
        is_ambiguous=ambiguous and nuisances.idle,
        au=np.clip(au, 0, 1).astype(np.float32),
        asymmetry=np.clip(asymmetry, -0.7, 0.7).astype(np.float32),
        envelope=kind,
        scene=draw_scene(t, profile, nuisances, rng),
    )


def event_intervals(
    au: np.ndarray, times: np.ndarray, *, threshold: float = 0.15
) -> list[tuple[str, float, float, float]]:
    """True events: (AU, start, end, peak) of every run of frames at or above ``threshold``."""
    events = []
    step = float(times[1] - times[0]) if len(times) > 1 else 0.0
    for i, name in enumerate(AU_NAMES):
        active = np.flatnonzero(np.diff(np.concatenate([[0], (au[:, i] >= threshold).astype(int), [0]])))
        for start, stop in zip(active[::2], active[1::2], strict=True):
            events.append((name, float(times[start]), float(times[stop - 1] + step), float(au[start:stop, i].max())))
    return sorted(events, key=lambda event: (event[1], event[0]))
