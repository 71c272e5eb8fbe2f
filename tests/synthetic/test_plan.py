"""Who and what is drawn: priors, splits, namespaces, independence. No picture is rendered here."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dferkit.errors import ConfigError
from dferkit.evaluation.metrics import confusion_matrix, uar
from dferkit.labels import BASIC
from dferkit.models.coarse import fit_coarse, unit_statistics
from dferkit.recipes.pretrain import PretrainConfig, face_sets
from dferkit.synthetic import BenchmarkConfig, Nuisances, fingerprint, plan_clips
from dferkit.synthetic.benchmark import (
    CLIPS_PER_SUBJECT,
    NAMESPACES,
    PROBES,
    SPLIT_SHARES,
    draw_clip,
    generator,
    subject_name,
)
from dferkit.synthetic.motion import DFEW_PRIOR, Performance, event_intervals

# Version 1 of the benchmark. These values stand in published results files.
FINGERPRINT_OF_VERSION_1 = "491ae6ee49a9980a"


def performances(**settings: object) -> list[Performance]:
    config = BenchmarkConfig(**settings)
    return [draw_clip(config, plan) for plan in plan_clips(config)]


def test_version_1_is_frozen() -> None:
    assert fingerprint() == FINGERPRINT_OF_VERSION_1, (
        "the benchmark's constants or draws changed: scores would no longer be comparable. Undo the change, or raise "
        "benchmark.VERSION and keep version 1 reproducible"
    )


@pytest.mark.parametrize("clips", [1, 3, 7, 20, 126, 700])
def test_balanced_prior_is_exact_in_every_split(clips: int) -> None:
    plans = plan_clips(BenchmarkConfig(clips=clips))
    assert [p.number for p in plans] == list(range(clips))
    for split in SPLIT_SHARES:
        counts = Counter(p.label for p in plans if p.split == split)
        if counts:
            per_class = [counts[label] for label in BASIC]
            assert max(per_class) - min(per_class) <= 1


def test_dfew_prior_counts() -> None:
    """Published counts of 11,697 clips: disgust is 145 of them."""
    assert round(DFEW_PRIOR[BASIC.index("disgust")] * 11697) == 145
    plans = plan_clips(BenchmarkConfig(clips=2400, prior="dfew"))
    for split in SPLIT_SHARES:
        members = [p for p in plans if p.split == split]
        counts = Counter(p.label for p in members)
        for label, share in zip(BASIC, DFEW_PRIOR, strict=True):
            assert abs(counts[label] - share * len(members)) < 1.0 + 1e-9, (split, label)
    assert 0 < Counter(p.label for p in plans)["disgust"] < 0.02 * len(plans)


@pytest.mark.parametrize("clips", [3, 10, 240, 600])
def test_splits_share_no_subject(clips: int) -> None:
    plans = plan_clips(BenchmarkConfig(clips=clips))
    people = {split: {p.subject for p in plans if p.split == split} for split in SPLIT_SHARES}
    for a, b in itertools.combinations(people.values(), 2):
        assert not a & b
    assert all(people.values()) or clips < 18
    assert max(Counter(p.subject for p in plans).values()) <= max(CLIPS_PER_SUBJECT, -(-clips // 3))


def test_split_shares_are_near_the_wanted_ones() -> None:
    counts = Counter(p.split for p in plan_clips(BenchmarkConfig(clips=1200)))
    for split, share in SPLIT_SHARES.items():
        assert counts[split] / 1200 == pytest.approx(share, abs=0.03)


def test_same_seed_same_script_other_seed_another() -> None:
    def script(seed: int) -> bytes:
        return b"".join(p.au.tobytes() + p.scene.pose.tobytes() for p in performances(clips=14, seed=seed))

    assert script(3) == script(3)
    assert script(3) != script(4)


def test_pretraining_shares_no_identity_and_no_draw_with_the_benchmark() -> None:
    """The box must not have seen anybody of ``synth``, ``demo`` or a probe set, at any seed."""
    assert len(set(NAMESPACES.values())) == len(NAMESPACES)
    drawn: dict[str, set[str]] = {}
    states: dict[str, set[int]] = {}
    for namespace in ("benchmark", "probe"):
        for seed in range(12):
            config = BenchmarkConfig(clips=60, seed=seed, namespace=namespace)
            drawn.setdefault("benchmark", set()).update(subject_name(config, s) for s in range(config.num_subjects))
            states.setdefault("benchmark", set()).update(
                int(generator(config, kind, n).integers(2**63)) for kind in (0, 1, 2, 3) for n in range(20)
            )
    for seed in (0, 1, 2):
        sets = face_sets(PretrainConfig(seed=seed))
        for config in (c for name in ("network", "heads", "held") for c in sets[name]):
            assert config.namespace == "pretrain"
            drawn.setdefault("pretrain", set()).update(subject_name(config, s) for s in range(config.num_subjects))
            states.setdefault("pretrain", set()).update(
                int(generator(config, kind, n).integers(2**63)) for kind in (0, 1, 2, 3) for n in range(20)
            )
    assert not drawn["benchmark"] & drawn["pretrain"]
    assert not states["benchmark"] & states["pretrain"]


def test_the_heads_people_are_not_the_networks() -> None:
    """Every part of every stage has a seed of its own, and no two pretrainings share one."""
    seeds = [
        (config.namespace, config.profile, config.seed)
        for seed in range(5)
        for name, part in face_sets(PretrainConfig(seed=seed)).items()
        for config in part
        if name != "measure_large"
    ]
    assert len(set(seeds)) == len(seeds) == 5 * 12
    sets = face_sets(PretrainConfig())
    assert sets["measure"] == tuple(replace(config, size=112) for config in sets["measure_large"]), "the same clips"


def test_nothing_that_measures_the_box_has_trained_it() -> None:
    sets = face_sets(PretrainConfig())
    assert {config.namespace for config in sets["measure"]} == {"benchmark"}
    assert {config.settings for config in sets["held"]} == {"held_back"}
    assert {
        config.settings for name in ("network", "heads") for config in sets[name] if config.profile == "varied"
    } == {"seen"}


def nuisance_statistics(performance: Performance) -> np.ndarray:
    scene = performance.scene
    return np.concatenate(
        [
            scene.pose.mean(0),
            scene.pose.std(0),
            scene.camera.mean(0),
            scene.camera.std(0),
            [scene.blink.max(), scene.blink.mean()],
            scene.speech.mean(0),
            scene.gaze.mean(0),
            scene.light.mean(0),
            [scene.exposure.mean(), scene.ambient, scene.blur, scene.noise, scene.quality],
            scene.light_colour,
        ]
    )


@pytest.mark.parametrize("profile", ["posed", "natural"])
def test_nuisances_tell_nothing_about_the_label(profile: str) -> None:
    """A classifier on everything but the expression stays at chance, where one on the action units does not."""
    config = BenchmarkConfig(clips=1400, profile=profile)
    plans = plan_clips(config)
    drawn = [draw_clip(config, plan) for plan in plans]
    label = np.array([BASIC.index(p.label) for p in plans])
    train = np.array([p.split == "train" for p in plans])
    x = np.stack([nuisance_statistics(p) for p in drawn])
    said = fit_coarse(x[train], label[train], penalty=0.05).probabilities(x[~train]).argmax(1)
    assert uar(confusion_matrix(label[~train], said, len(BASIC))) < 0.20  # chance is .143


@pytest.mark.parametrize(("profile", "low", "high"), [("posed", 0.80, 0.95), ("natural", 0.75, 0.90)])
def test_ceiling(profile: str, low: float, high: float) -> None:
    """A linear model on the true action units: outside these limits the benchmark would be too easy, or broken."""
    config = BenchmarkConfig(clips=1400, profile=profile)
    plans = plan_clips(config)
    x = np.stack([unit_statistics(draw_clip(config, plan).au) for plan in plans])
    label = np.array([BASIC.index(p.label) for p in plans])
    train = np.array([p.split == "train" for p in plans])
    said = fit_coarse(x[train], label[train]).probabilities(x[~train]).argmax(1)
    assert low <= uar(confusion_matrix(label[~train], said, len(BASIC))) <= high


@pytest.mark.parametrize("probe", PROBES)
def test_probe_has_exactly_one_nuisance(probe: str) -> None:
    nuisances = Nuisances.only(None if probe == "none" else probe)
    config = BenchmarkConfig(clips=42, namespace="probe")
    moving = Counter()
    for plan in plan_clips(config):
        performance = draw_clip(config, plan, nuisances)
        scene = performance.scene
        assert not performance.is_ambiguous
        assert scene.noise == scene.blur == 0
        found = {
            "blink": scene.blink.any(),
            "speech": scene.speech.any(),
            "head": scene.pose.any(),
            "gaze": scene.gaze.any(),
            "camera": bool((scene.camera != (0, 0, 1)).any()),
            "light": bool(np.ptp(scene.exposure) or np.ptp(scene.light, 0).any() or scene.exposure[0] != 1),
        }
        moving.update(name for name, is_on in found.items() if is_on)
    assert set(moving) == (set() if probe == "none" else {probe})


def test_probe_leaves_the_expression_alone() -> None:
    """Switching nuisances off changes no envelope and no pattern of the unambiguous clips' own class."""
    config = BenchmarkConfig(clips=21, namespace="probe")
    for plan in plan_clips(config):
        blink, none = draw_clip(config, plan, Nuisances.only("blink")), draw_clip(config, plan, Nuisances.only(None))
        np.testing.assert_array_equal(blink.au, none.au)
        np.testing.assert_array_equal(blink.asymmetry, none.asymmetry)


def test_action_units_and_soft_labels_are_in_range() -> None:
    for performance in performances(clips=70) + performances(clips=70, profile="natural"):
        assert performance.au.min() >= 0
        assert performance.au.max() <= 1
        assert performance.soft_label.sum() == pytest.approx(1)
        assert BASIC[int(performance.soft_label.argmax())] == performance.label
        assert performance.is_ambiguous == (performance.soft_label.max() < 1)
        if performance.is_ambiguous:
            assert 0.25 <= np.sort(performance.soft_label)[-2] <= 0.45


def test_a_quarter_is_ambiguous() -> None:
    share = np.mean([p.is_ambiguous for p in performances(clips=1400)])
    assert share == pytest.approx(0.25, abs=0.04)


def test_natural_starts_in_the_middle_of_the_display() -> None:
    """Real displays have begun before the clip does: the first frame is at about 40 % of the peak."""
    shown = [p for p in performances(clips=700, profile="natural") if p.label != "neutral"]
    first = [p.au[0].sum() / max(p.au.sum(1).max(), 1e-6) for p in shown]
    assert np.median(first) == pytest.approx(0.45, abs=0.15)


def test_events_are_the_runs_above_the_threshold() -> None:
    au = np.zeros((6, 23), np.float32)
    au[1:3, 2], au[4:, 2], au[0, 8] = 0.5, 0.2, 0.9
    events = event_intervals(au, np.arange(6) / 8)
    assert events == [
        ("AU12", 0.0, 0.125, pytest.approx(0.9)),
        ("AU4", 0.125, 0.375, pytest.approx(0.5)),
        ("AU4", 0.5, 0.75, pytest.approx(0.2)),
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"clips": 0},
        {"size": 47},
        {"size": 113},
        {"size": 2000},
        {"fps": 0},
        {"fps": 99},
        {"seconds": 0.1},
        {"seed": -1},
        {"profile": "x"},
        {"prior": "x"},
        {"namespace": "x"},
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(settings)))[:4]):
        BenchmarkConfig(**{"clips": 7, **settings})
