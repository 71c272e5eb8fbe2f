"""The benchmark's frozen constants: who appears in which split, and how every random draw is seeded.

Version 1 is frozen: a change of any formula that alters a pixel or a label needs a new version, never a silent change under a score.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np

from dferkit.checks import check_choices, check_counts, check_range
from dferkit.errors import ConfigError
from dferkit.labels import BASIC
from dferkit.storage import digest_json
from dferkit.synthetic.identity import Identity, make_identity
from dferkit.synthetic.looks import SETTINGS
from dferkit.synthetic.motion import DFEW_PRIOR, PROTOTYPES, Nuisances, Performance, Profile, draw_performance
from dferkit.synthetic.variation import draw_varied_clip, draw_varied_identity

VERSION = 1
CLIPS_PER_SUBJECT = 6
SPLIT_SHARES = {"train": 0.5, "val": 0.1, "test": 0.4}
# Each namespace has identities and draws of its own; the bundled model is not trained on those of ``benchmark`` or ``probe``.
NAMESPACES = {"benchmark": 1, "probe": 2, "pretrain": 3}
PROBES = ("none", "blink", "speech", "head", "camera", "light")
Prior = Literal["balanced", "dfew"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkConfig:
    """What ``synth`` renders.

    Attributes:
        clips: Number of clips, at least 1. profile: ``posed`` or ``natural`` (the benchmark), or ``varied`` (the training profile). prior: Class shares.
        settings: Which looks the training profile may draw (``looks.Looks``); the benchmark takes only ``any``.
        size: Height and width in pixels, at least 48 and even. seconds, fps: Length and frame rate.
    """

    clips: int
    profile: Profile = "posed"
    prior: Prior = "balanced"
    seed: int = 0
    size: int = 112
    seconds: float = 2.0
    fps: float = 8.0
    namespace: str = "benchmark"
    settings: str = "any"

    def __post_init__(self) -> None:
        check_counts(self, "clips")
        check_choices(self, {"profile": get_args(Profile), "prior": ("balanced", "dfew"), "namespace": NAMESPACES})
        if self.settings not in SETTINGS or (self.profile != "varied" and self.settings != "any"):
            raise ConfigError(
                f"looks {self.settings!r} are unknown; choose {', '.join(SETTINGS)} with profile varied, and any with the benchmark's profiles"
            )
        if self.size < 48 or self.size % 2 or self.size > 1080:
            raise ConfigError(f"size is {self.size}; give an even number from 48 to 1080")
        check_range(self, "fps", least=1, most=60)
        if not 2 <= self.num_frames <= 3600:
            raise ConfigError(
                f"{self.seconds} s at {self.fps} frames a second is {self.num_frames} frames; give 2 to 3600 frames"
            )
        check_range(self, "seed", least=0)

    @property
    def num_frames(self) -> int:
        """Frames per clip."""
        return round(self.seconds * self.fps)

    @property
    def num_subjects(self) -> int:
        """People who appear."""
        return max(-(-self.clips // CLIPS_PER_SUBJECT), 3 if self.clips >= 3 else 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipPlan:
    """One clip before it is rendered."""

    clip_id: str
    number: int
    label: str
    subject: int
    split: str


def generator(config: BenchmarkConfig, kind: int, number: int) -> np.random.Generator:
    """Generator of one draw; ``kind`` 0 is identities, 1 performances, 2 noise, 3 the plan."""
    return np.random.default_rng([NAMESPACES[config.namespace], VERSION, config.seed, kind, number])


def subject_name(config: BenchmarkConfig, subject: int) -> str:
    """Name of a rendered person; unique over namespaces and seeds."""
    return f"{config.namespace}-{config.seed}-{subject:04d}"


def split_of(config: BenchmarkConfig, subject: int) -> str:
    """Split of a subject: whole people go to one split, interleaved so that every prefix of clips is mixed."""
    train, val = SPLIT_SHARES["train"], SPLIT_SHARES["val"]
    position = (subject * 0.6180339887498949 + 0.25) % 1.0
    if config.num_subjects <= 3:
        return ("train", "test", "val")[subject % 3]
    return "train" if position < train else "val" if position < train + val else "test"


def plan_clips(config: BenchmarkConfig) -> list[ClipPlan]:
    """Subjects, labels and splits of every clip; labels are balanced (or follow DFEW's prior) within each split."""
    rng = generator(config, 3, 0)
    subjects = [i % config.num_subjects for i in range(config.clips)]
    labels = [""] * config.clips
    for split in SPLIT_SHARES:
        members = [i for i, subject in enumerate(subjects) if split_of(config, subject) == split]
        if config.prior == "balanced":
            drawn = [BASIC[i % len(BASIC)] for i in range(len(members))]
        else:
            counts = np.floor(DFEW_PRIOR / DFEW_PRIOR.sum() * len(members)).astype(int)
            counts[np.argsort(-DFEW_PRIOR)[: len(members) - counts.sum()]] += 1
            drawn = [BASIC[c] for c in range(len(BASIC)) for _ in range(counts[c])]
        for i, where in enumerate(rng.permutation(len(members))):
            labels[members[where]] = drawn[i]
    return [
        ClipPlan(
            clip_id=f"clip{i:05d}", number=i, label=labels[i], subject=subjects[i], split=split_of(config, subjects[i])
        )
        for i in range(config.clips)
    ]


def draw_identity(config: BenchmarkConfig, subject: int) -> Identity:
    """The person ``subject`` of this configuration."""
    name, rng = subject_name(config, subject), generator(config, 0, subject)
    return draw_varied_identity(name, config.settings, rng) if config.profile == "varied" else make_identity(name, rng)


def draw_clip(config: BenchmarkConfig, plan: ClipPlan, nuisances: Nuisances | None = None) -> Performance:
    """What happens in one clip.

    Raises:
        ConfigError: Nuisances are chosen for the training profile, which has its own.
    """
    if config.profile == "varied":
        if nuisances is not None:
            raise ConfigError("the training profile draws its own nuisances; choose them with profile posed or natural")
        return draw_varied_clip(
            plan.label,
            frames=config.num_frames,
            fps=config.fps,
            settings=config.settings,
            rng=generator(config, 1, plan.number),
        )
    return draw_performance(
        plan.label,
        frames=config.num_frames,
        fps=config.fps,
        profile=config.profile,
        rng=generator(config, 1, plan.number),
        nuisances=nuisances,
    )


def fingerprint() -> str:
    """Digest of version 1's constants and of one rendered clip's script; it is written into every results file."""
    config = BenchmarkConfig(clips=7)
    scripts = [draw_clip(config, plan) for plan in plan_clips(config)]
    script = hashlib.sha256(
        b"".join(np.round(p.au, 4).tobytes() + np.round(p.scene.pose, 4).tobytes() for p in scripts)
    ).hexdigest()
    return digest_json(
        {
            "version": VERSION,
            "prototypes": PROTOTYPES,
            "splits": SPLIT_SHARES,
            "namespaces": NAMESPACES,
            "script": script,
        }
    )[:16]


def describe_config(config: BenchmarkConfig) -> dict[str, object]:
    """Description of the benchmark for results files."""
    about = asdict(config)
    if config.profile != "varied":
        del about["settings"]  # the frozen benchmark's description is frozen too
    return {**about, "version": VERSION, "fingerprint": fingerprint()}
