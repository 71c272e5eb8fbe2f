"""The five tasks: what each video shows, what its captions ask for, and the label, all drawn from known truth.

A video has several captions, each with a label of its own; one caption of one video is a clip of the task.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dferkit.captions import describe, wording
from dferkit.captions.describe import join_phrases
from dferkit.facs import AU_NAMES, load_facs
from dferkit.labels import BASIC
from dferkit.schema import ActionUnits, Caption, Phrase
from dferkit.synthetic.anatomy import AU_INDEX, NUM_AUS
from dferkit.synthetic.identity import Identity, make_identity
from dferkit.synthetic.motion import Nuisances, Performance, Profile, draw_performance, draw_scene

FPS = 8.0
VIDEOS_PER_PERSON, QUESTIONS = 6, 4
SIDES = ("train", "test")
POOL = ("AU2", "AU4", "AU9", "AU12", "AU26", "AU43")
"""Movements that are told apart by place; AU2 and AU4 move the same skin in opposite directions and do not occur together."""

_VERSION = 1
_OF_EACH_FACE = ("AU2", "AU9", "AU12", "AU26")
# Captions of the fifth task: shares of true movements that are missing, and of absent ones that are named.
DROPOUT, FALSE_ALARMS = 0.3, 0.04
_SETTINGS = ("in a kitchen", "at a table", "in an office", "on a street", "beside a window", "in front of a wall")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One caption of a video and its label."""

    caption: Caption
    label: str


Drawn = tuple[tuple[Performance, ...], tuple[Question, ...]]
"""What each face of a video does, from left to right, and the questions about the video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One task.

    Attributes:
        what: One line for a reader. labels: Its classes.
        text_only, video_only: Highest expected accuracy from the caption or the video alone, by construction; None where it has to be measured.
        seconds: Length of a video. faces: People in the picture, side by side.
        has_places: Which cells each movement changes is kept, to measure where evidence lies.
        draw: Generator → faces and questions.
    """

    name: str
    what: str
    labels: tuple[str, ...]
    text_only: float | None
    video_only: float | None
    draw: Callable[[np.random.Generator], Drawn]
    seconds: float = 2.0
    faces: int = 1
    has_places: bool = False


def draw_video(task: Task, side: str, seed: int, number: int) -> Drawn:
    """Faces and questions of video ``number`` of one side."""
    return task.draw(np.random.default_rng([*_key(task, side, seed), 1, number]))


def draw_people(task: Task, side: str, seed: int, number: int) -> tuple[Identity, ...]:
    """The people of video ``number``, from left to right; those of the two sides differ."""
    return _people(task, side, seed, number // VIDEOS_PER_PERSON)


@functools.lru_cache(maxsize=2)
def _people(task: Task, side: str, seed: int, person: int) -> tuple[Identity, ...]:
    """Kept, because the videos of a person follow each other and a face takes longer to make than to draw."""
    name = person_name(task, side, seed, person * VIDEOS_PER_PERSON)
    return tuple(
        make_identity(f"{name}-{face}", np.random.default_rng([*_key(task, side, seed), 0, person, face]))
        for face in range(task.faces)
    )


def person_name(task: Task, side: str, seed: int, number: int) -> str:
    """Name of the person, or of the pair, of video ``number``."""
    return f"mechanism-{task.name}-{side}-{seed}-{number // VIDEOS_PER_PERSON:04d}"


def _key(task: Task, side: str, seed: int) -> list[int]:
    return [_VERSION, sorted(TASKS).index(task.name), SIDES.index(side), seed]


def _times(seconds: float = 2.0) -> np.ndarray:
    return np.arange(round(seconds * FPS)) / FPS


def _phrase(text: str, unit: str, seconds: float = 2.0) -> Phrase:
    regions = load_facs().action_units[unit].regions if unit else ()
    return Phrase(
        text=text, action_unit=unit, regions=regions, start_seconds=0.0, end_seconds=seconds, intensity=0.8,
        start_character=0, end_character=0,
    )  # fmt: skip


def _ask(label: str, *phrases: Phrase) -> Question:
    return Question(caption=join_phrases(phrases, source="truth"), label=label)


def _words(unit: str) -> str:
    return wording.plain(unit, "clearly")


def _in_any_order(questions: Sequence[Question], rng: np.random.Generator) -> tuple[Question, ...]:
    return tuple(questions[i] for i in rng.permutation(QUESTIONS))


def _bumps(times: np.ndarray, moments: Mapping[str, float], rng: np.random.Generator) -> np.ndarray:
    """Curves (frames, AUs) of short movements around given moments."""
    au = np.zeros((len(times), NUM_AUS), np.float32)
    for name, moment in moments.items():
        centre, width = moment + rng.uniform(-0.12, 0.12), rng.uniform(0.22, 0.30)
        au[:, AU_INDEX[name]] = rng.uniform(0.65, 1.0) * np.exp(-(((times - centre) / width) ** 2))
    return au


def _perform(au: np.ndarray, times: np.ndarray, rng: np.random.Generator, *, speech: bool) -> Performance:
    profile: Profile = "natural" if speech else "posed"  # in the natural profile everybody talks all the time
    return Performance(
        label="neutral", soft_label=np.eye(len(BASIC))[-1], is_ambiguous=False, au=au,
        asymmetry=np.zeros(NUM_AUS, np.float32), envelope="short",
        scene=draw_scene(times, profile, Nuisances(speech=speech), rng),
    )  # fmt: skip


def _draw_movements(count: int, rng: np.random.Generator) -> list[str]:
    while True:
        drawn = [str(name) for name in rng.choice(POOL, count, replace=False)]
        if not {"AU2", "AU4"} <= set(drawn):
            return drawn


def _draw_which_when(rng: np.random.Generator) -> Drawn:
    """Four movements, two early and two late; a caption names one of them."""
    times, names = _times(), _draw_movements(4, rng)
    is_late = rng.permutation([False, False, True, True])
    au = _bumps(times, {n: 1.45 if late else 0.5 for n, late in zip(names, is_late, strict=True)}, rng)
    performance = _perform(au, times, rng, speech=False)
    questions = [
        _ask("late" if late else "early", _phrase(_words(name), name))
        for name, late in zip(names, is_late, strict=True)
    ]
    return (performance,), _in_any_order(questions, rng)


def _draw_order(rng: np.random.Generator) -> Drawn:
    """Two movements, one after the other; half of the captions have their order, the others the opposite."""
    times, (first, second) = _times(), _draw_movements(2, rng)
    au = _bumps(times, {first: 0.5, second: 1.45}, rng)
    performance = _perform(au, times, rng, speech=False)
    questions = []
    for label, (a, b) in (("match", (first, second)), ("mismatch", (second, first))):
        phrases = [_phrase(f"{_words(a)}, 0.0–1.0 s", a), _phrase(f"{_words(b)}, 1.0–2.0 s", b)]
        questions += [_ask(label, *phrases), _ask(label, *reversed(phrases))]
    return (performance,), _in_any_order(questions, rng)


def _draw_two_faces(rng: np.random.Generator) -> Drawn:
    """Two people with one movement each; a caption names one of the two people."""
    times = _times()
    names = [str(name) for name in rng.choice(_OF_EACH_FACE, 2, replace=False)]
    faces = tuple(
        _perform(_bumps(times, {name: float(rng.uniform(0.5, 1.45))}, rng), times, rng, speech=False) for name in names
    )
    questions = [
        _ask(name, _phrase(words, ""))
        for name, side in zip(names, ("left", "right"), strict=True)
        for words in (side, f"{side} face")
    ]
    return faces, _in_any_order(questions, rng)


def _draw_short_event(rng: np.random.Generator) -> Drawn:
    """Eight seconds of speech and head motion with two movements of half a second, one in each half; a caption asks for one and excludes the other."""
    times, (first, second) = _times(8.0), _draw_movements(2, rng)
    au = _bumps(times, {first: float(rng.uniform(0.6, 3.4)), second: float(rng.uniform(4.6, 7.4))}, rng)
    performance = _perform(au, times, rng, speech=True)
    questions = []
    for half, (wanted, other) in (("first half", (first, second)), ("second half", (second, first))):
        phrases = [_phrase(f"watch {_words(wanted)}", wanted, 8.0), _phrase(f"not {_words(other)}", other, 8.0)]
        questions += [_ask(half, *phrases), _ask(half, *reversed(phrases))]
    return (performance,), _in_any_order(questions, rng)


def _draw_expression(rng: np.random.Generator) -> Drawn:
    """An expression of the posed profile. A caption has its true movements but for those that are missing, some false ones, and a setting."""
    times, label = _times(), str(rng.choice(BASIC))
    performance = draw_performance(label, frames=len(times), fps=FPS, profile="posed", rng=rng)
    return (performance,), tuple(
        Question(caption=_caption(performance.au, times, rng), label=label) for _ in range(QUESTIONS)
    )


def _caption(au: np.ndarray, times: np.ndarray, rng: np.random.Generator) -> Caption:
    said = au.astype(np.float64)
    said[:, rng.random(NUM_AUS) < DROPOUT] = 0.0
    for unit in np.flatnonzero((au.max(0) < 0.2) & (rng.random(NUM_AUS) < FALSE_ALARMS)):
        said[:, unit] = rng.uniform(0.3, 0.8) * np.exp(-(((times - rng.uniform(0.4, 1.6)) / 0.4) ** 2))
    units = ActionUnits(names=AU_NAMES, intensity=said, timestamps=times, source="truth")
    setting = _phrase(str(rng.choice(_SETTINGS)), "")
    return join_phrases([*describe(units, generator=rng).phrases, setting], source="truth")


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="which_when", what="which of four movements, when: the caption names one", labels=("early", "late"),
            text_only=0.5, video_only=0.5, draw=_draw_which_when, has_places=True,
        ),
        Task(
            name="order", what="do the times of two movements in the caption match the video", labels=("match", "mismatch"),
            text_only=0.5, video_only=0.5, draw=_draw_order,
        ),
        Task(
            name="two_faces", what="what the person does whom the caption names, left or right", labels=_OF_EACH_FACE,
            text_only=0.25, video_only=0.5, draw=_draw_two_faces, faces=2,
        ),
        Task(
            name="short_event", what="when half a second of the named movement happens in eight seconds of speech",
            labels=("first half", "second half"), text_only=0.5, video_only=0.5, draw=_draw_short_event, 
            seconds=8.0,
        ),
        Task(
            name="expression", what="the expression, with true movements in the caption, some missing and some false",
            labels=BASIC, text_only=None, video_only=None, draw=_draw_expression,
        ),
    )
}  # fmt: skip
"""Name → task, in the order of the tables."""
