"""The training profile: people, recordings and displays that differ far more than the frozen benchmark's.

What is drawn here starts from the benchmark's own draws and changes them; the benchmark does not use this file. Each choice is here because
a model trained without it failed on real faces: resting faces, shouting and talking mouths, beards, hard light, poor cameras, expressions held from the first frame.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from dferkit.synthetic.anatomy import (
    AU_INDEX,
    EYE_S,
    EYE_Y,
    FIELD_STEP,
    MOUTH_HALF_WIDTH,
    MOUTH_Y,
    NUM_AUS,
    chart_grid,
    eye_line,
    gaussian,
    mouth_line,
    mouth_profile,
    soft_step,
)
from dferkit.synthetic.identity import SKIN_TONES, Identity, facial_hair, make_identity
from dferkit.synthetic.looks import PERSON_LOOKS, SCENE_LOOKS, Looks
from dferkit.synthetic.motion import Performance, draw_performance
from dferkit.synthetic.scene import PER_FRAME, Occluder, Scene

_SIGNED_REST = (
    "AU1",
    "AU2",
    "AU4",
    "AU12",
    "AU15",
    "AU20",
    "AU26",
)  # a resting brow or mouth corner is above or below the average
_REST = (*_SIGNED_REST, "AU5", "AU6", "AU7", "AU9", "AU10", "AU14", "AU17", "AU23", "AU24", "AU25", "AU43")
_SHOUTS = {"anger": 0.45, "fear": 0.3, "happiness": 0.25, "disgust": 0.15, "sadness": 0.1, "surprise": 0.25}


def draw_varied_identity(subject: str, settings: str, rng: np.random.Generator) -> Identity:
    """A person of the training profile; ``settings`` as in ``looks.Looks``."""
    looks = Looks(settings, PERSON_LOOKS, rng)
    tones = list(SKIN_TONES)
    person = make_identity(
        subject, rng, skin_tone=tones[min(int(looks.place("skin_tone") * len(tones)), len(tones) - 1)]
    )
    s, y = chart_grid()
    width = 1 + looks.between("jaw_width", -0.13, 0.16) * np.clip((1.0 - y[:, 0]) / 8, 0, 1)
    return replace(
        person,
        half_width=(person.half_width * width).astype(np.float32),
        albedo=_paint(person, looks, s, y, rng),
        resting=_resting_face(looks, rng),
        shape=_shape(looks, rng),
        eye_opening=looks.between("eye_opening", 0.62, 1.28),
        crease_depth=looks.between("wrinkles", 0.2, 2.0),
        gloss=looks.between("gloss", 0.0, 0.22),
        glasses=0.5 + 2.0 * looks.beyond("glasses", 0.7) if looks.beyond("glasses", 0.7) else 0.0,
    )


def _resting_face(looks: Looks, rng: np.random.Generator) -> np.ndarray:
    """Constant action-unit offsets, -.4 to .6, that are not part of the truth."""
    size = looks.between("resting", 0.0, 0.55)
    rest = np.zeros(NUM_AUS, np.float32)
    for name in rng.choice(_REST, 7, replace=False):
        rest[AU_INDEX[name]] = rng.uniform(-0.75 * size if name in _SIGNED_REST else 0.0, size)
    return rest


def _shape(looks: Looks, rng: np.random.Generator) -> np.ndarray:
    """How this face differs from the average one: displacement (ds, dy) in cm on the coarse chart, (2, rows, columns)."""
    s, y = chart_grid(FIELD_STEP)
    ds, dy = np.zeros_like(s), np.zeros_like(s)
    eyes = gaussian(s, y, EYE_S, EYE_Y + 0.4, 2.2, 1.8)
    brows = gaussian(s, y, 3.0, 5.4, 2.4, 1.1)
    mouth = np.exp(-0.5 * ((s / 3.4) ** 2 + ((y - MOUTH_Y) / 1.9) ** 2))
    ds += looks.between("eye_spacing", -0.4, 0.45) * eyes * np.tanh(s / 1.5)
    dy += looks.between("eye_height", -0.45, 0.45) * np.exp(-0.5 * ((s / 5.5) ** 2 + ((y - EYE_Y - 0.8) / 2.6) ** 2))
    dy += looks.between("brow_height", -0.45, 0.5) * brows
    dy += looks.between("brow_tilt", -0.25, 0.25) * brows * np.clip((np.abs(s) - 3.0) / 2, -1, 1)
    dy += looks.between("nose_length", -0.5, 0.5) * np.exp(-0.5 * ((s / 1.8) ** 2 + ((y + 0.9) / 1.7) ** 2))
    ds += looks.between("nose_width", -0.2, 0.25) * gaussian(s, y, 1.2, -0.9, 0.8, 1.0) * np.tanh(s / 0.7)
    dy += looks.between("mouth_height", -0.5, 0.5) * mouth
    ds += looks.between("mouth_width", -0.2, 0.22) * s * mouth
    dy += (
        looks.between("lip_fullness", -0.22, 0.35)
        * (y - MOUTH_Y)
        * np.exp(-0.5 * ((s / 2.4) ** 2 + ((y - MOUTH_Y) / 1.0) ** 2))
    )
    dy -= looks.between("chin_length", -0.5, 0.6) * np.exp(-0.5 * ((s / 3.5) ** 2 + ((y + 7.6) / 2.0) ** 2))
    noise = rng.standard_normal((2, 7, 6)).astype(np.float32) * looks.between("asymmetry", 0.02, 0.16)
    rough = np.stack([cv2.resize(n, s.shape[::-1], interpolation=cv2.INTER_CUBIC) for n in noise])
    return (np.stack([ds, dy]) + rough).astype(np.float32)


def _paint(person: Identity, looks: Looks, s: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Skin light and hue, spots, hair on the face, paint on lips and lids."""
    skin = person.albedo * looks.between("skin_light", 0.8, 1.18)
    skin = skin * np.array((1.0, *(1 + looks.between("skin_hue", -0.1, 0.1) * np.array((0.6, 1.0)))), np.float32)
    if spots := looks.beyond("spots", 0.6):
        for _ in range(int(8 + 60 * spots)):
            at_s, at_y, size = rng.uniform(-6, 6), rng.uniform(-7, 7), rng.uniform(0.05, 0.16)
            near = np.exp(-0.5 * (((s - at_s) / size) ** 2 + ((y - at_y) / size) ** 2))
            skin *= 1 - (rng.uniform(0.1, 0.5) * near)[..., None]
    kind = ("stubble", "moustache", "full", "chin")[int(rng.integers(4))]
    if density := looks.beyond("facial_hair", 0.45):
        cover = facial_hair(s, y, kind, rng) * (0.25 if kind == "stubble" else 0.45) * (0.4 + 1.4 * density)
        skin += np.clip(cover, 0, 0.95)[..., None] * (person.hair_colour * 0.8 - skin)
    lip_colour, lid_colour = rng.uniform((0.3, 0.02, 0.05), (0.85, 0.35, 0.45)), rng.uniform(0.05, 0.7, 3)
    if paint := looks.beyond("lips_painted", 0.65):
        above, profile = y - mouth_line(s), mouth_profile(s * 0.97)
        inside = soft_step(np.where(above > 0, 0.65 * profile - above, 0.85 * profile + above), 0.06)
        skin += (inside * (np.abs(s) < MOUTH_HALF_WIDTH) * (0.4 + 0.5 * paint))[..., None] * (lip_colour - skin)
    if paint := looks.beyond("lids_painted", 0.65):
        over = (y > eye_line(s)) * gaussian(s, y, EYE_S, EYE_Y + 0.5, 1.3, 0.55)
        skin += (np.clip(over, 0, 1) * 0.7 * paint)[..., None] * (lid_colour - skin)
    return np.clip(skin, 0.01, 1).astype(np.float32)


def draw_varied_clip(label: str, *, frames: int, fps: float, settings: str, rng: np.random.Generator) -> Performance:
    """A clip of the training profile: posed, natural, held from the first frame, or shouted; any recording."""
    looks = Looks(settings, SCENE_LOOKS, rng)
    is_natural = bool(rng.random() < 0.5)
    performance = draw_performance(label, frames=frames, fps=fps, profile="natural" if is_natural else "posed", rng=rng)
    au = performance.au.copy()
    is_held, is_shouted = bool(rng.random() < 0.2), bool(rng.random() < _SHOUTS.get(label, 0.0))
    if is_held:
        peak = au.max(0)
        au = np.where(peak >= 0.2, peak * np.clip(1 + 0.06 * rng.standard_normal((1, NUM_AUS)), 0.8, 1.2), au)
    if is_shouted:
        au = np.maximum(au, _shout(au, rng))
    scene = _vary_scene(performance.scene, looks, np.arange(frames) / fps, rng)
    shown = _repeats(frames, looks.beyond("stutter", 0.7), rng)
    return replace(
        performance,
        au=np.clip(au, 0, 1).astype(np.float32)[shown],
        envelope="held" if is_held else performance.envelope,
        scene=replace(scene, **{name: getattr(scene, name)[shown] for name in PER_FRAME}),
    )


def _shout(au: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An open mouth that follows the display: it is visible, so it is part of the truth, but it does not separate the classes."""
    course = au.max(1, keepdims=True) / max(float(au.max()), 1e-6)
    open_mouth = np.zeros(NUM_AUS)
    for name, low, high in (
        ("AU25", 0.3, 0.9),
        ("AU26", 0.3, 0.9),
        ("AU27", 0.0, 0.6),
        ("AU22", 0.0, 0.4),
        ("AU10", 0.0, 0.4),
    ):
        open_mouth[AU_INDEX[name]] = rng.uniform(low, high)
    return course * open_mouth


def _vary_scene(scene: Scene, looks: Looks, t: np.ndarray, rng: np.random.Generator) -> Scene:
    frames = len(t)
    sign = rng.choice((-1.0, 1.0), 6)
    pose = scene.pose + np.array(
        [
            sign[0] * 0.5 * looks.place("yaw") ** 2,
            sign[1] * 0.28 * looks.place("pitch") ** 2,
            sign[2] * 0.22 * looks.place("roll") ** 2,
        ]
    )
    swing = looks.beyond("turn", 0.5) * 0.35 * np.sin(2 * np.pi * t * rng.uniform(0.2, 0.9) + rng.uniform(0, 6))
    pose = pose + swing[:, None] * np.array((sign[3], 0.5 * sign[4], 0.3))
    pose = np.clip(pose, (-0.72, -0.45, -0.5), (0.72, 0.45, 0.5))
    camera = scene.camera.copy()
    camera[:, 2] *= looks.between("zoom", 0.72, 1.22)
    camera[:, :2] += looks.between("shift", 0.0, 1.6) * rng.uniform(-1, 1, 2)
    light = np.array([sign[5] * looks.between("light_side", 0.0, 1.6), looks.between("light_height", -0.7, 1.3), 1.0])
    light = np.tile(light / np.linalg.norm(light), (frames, 1))
    talking = looks.beyond("talking", 0.35)
    speech = scene.speech * talking * looks.between("loudness", 0.4, 2.2)
    if talking and not speech.any():
        wave = np.sin(2 * np.pi * rng.uniform(1.5, 4.5) * t[:, None] * (1, 1.2, 0.7, 0.9) + rng.uniform(0, 6, 4))
        speech = np.clip(wave, 0, 1) * (0.7, 0.6, 0.5, 0.4) * talking * looks.between("loudness", 0.4, 2.2)
    return replace(
        scene,
        pose=pose.astype(np.float32),
        camera=camera.astype(np.float32),
        speech=np.clip(speech, 0, 2.2).astype(np.float32),
        light=light.astype(np.float32),
        light_colour=(1 + looks.between("light_colour", 0.0, 0.22) * rng.uniform(-1, 1, 3)).astype(np.float32),
        ambient=looks.between("ambient", 0.12, 0.75),
        exposure=(scene.exposure * looks.between("exposure", 0.65, 1.45)).astype(np.float32),
        gamma=looks.between("contrast", 0.6, 1.3),
        blur=2.0 * looks.place("blur") ** 3,
        noise=13 * looks.place("noise") ** 3,
        quality=round(looks.between("quality", 22, 96)),
        resolution=looks.between("resolution", 0.45, 1.15),
        occluder=_occluder(looks.beyond("occlusion", 0.75), rng),
        is_grey=looks.place("grey") > 0.88,
    )


def _occluder(size: float, rng: np.random.Generator) -> Occluder | None:
    """A thing before the face, for some."""
    place, extent = rng.uniform((-7, -8), (7, 7)), rng.uniform(0.8, 2.0, 2) * (0.6 + 1.2 * size)
    drift, colour, angle = rng.normal(0, 1.2, 2), rng.uniform(0.03, 0.9, 3), float(rng.uniform(0, 180))
    if not size:
        return None
    return Occluder(centre=tuple(place), drift=tuple(drift), extent=tuple(extent), angle=angle, colour=tuple(colour))


def _repeats(frames: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Which frame each frame shows: a recording with a low frame rate shows some twice."""
    shown = np.arange(frames)
    late = rng.random(frames) < 0.55 * share
    for i in np.flatnonzero(late[1:]) + 1:
        shown[i] = shown[i - 1]
    return shown
