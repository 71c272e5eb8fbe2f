"""``dferkit demo``: the whole flow on rendered faces, from video files to scores, explanations and a report.

Every stage leaves its result on disk, so that the same command resumes; ``results.json`` holds nothing that depends on speed.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from dferkit.datasets import choose_split, read_manifest
from dferkit.encoders.box import BOX_FOLDER, WEIGHTS
from dferkit.encoders.text import TextEncoder
from dferkit.errors import ConfigError
from dferkit.evaluation.claims import ClipEvidence, localisation_claim, motion_claim, on_crop, phrase_masses
from dferkit.evaluation.metrics import evaluate_predictions, paired_difference
from dferkit.evaluation.summary import evaluation_figures
from dferkit.explain import summarise_deletion
from dferkit.facs import AU_NAMES
from dferkit.labels import BASIC
from dferkit.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dferkit.models.coarse import CoarseClassifier, fit_coarse, unit_statistics
from dferkit.models.grace import Grace
from dferkit.models.joint_space import load_joint_space
from dferkit.parallel import run_parallel
from dferkit.pipeline import Model, Settings, explain_answer, load
from dferkit.recipes.provenance import about_checkpoint, box_digests
from dferkit.recipes.scoring import answer_features
from dferkit.reports.html import write_benchmark_report, write_clip_report
from dferkit.reports.tables import clean_json, own_version, write_tables
from dferkit.schema import ActionUnits, Evaluation, Explanation, Record
from dferkit.storage import atomic_path, digest_file, read_json, write_json
from dferkit.synthetic import BenchmarkConfig, describe_config, read_truth, render_benchmark
from dferkit.training.captioned import describe_all
from dferkit.training.features import FeatureConfig, Features, extract_features
from dferkit.training.loop import TrainingConfig, predict_outputs, whole_plans
from dferkit.training.table import (
    ClipSet,
    base_config,
    caption_split,
    clip_set,
    guided,
    shuffle_texts,
    shuffled_topk,
    train_row,
)
from dferkit.training.token_files import load_clips, load_texts, save_clips, save_texts

Report = Callable[[str, int, int, str], None]
TABLE = ("grace", "grace_cosine", "grace_sentence", "grace_no_motion", "vision_only", "text_only")
CONTROLS = ("true_au_captions", "shuffled_captions", "shuffled_topk")
NATURAL_TABLE = ("grace", "vision_only")


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """Size of the demo.

    Attributes:
        clips, natural_clips: Rendered clips of each profile; half of the people train, a tenth validate, the rest test.
        deletion_clips: Test clips whose explanation is checked by deletion. shown_clips: Clips explained in the report.
    """

    clips: int = 700
    natural_clips: int = 420
    seed: int = 0
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig())
    deletion_clips: int = 40
    shown_clips: int = 4

    def __post_init__(self) -> None:
        for name in ("clips", "natural_clips"):
            if getattr(self, name) < 140:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}; give at least 140, or classes are too few to score"
                )


class _Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + now - self._last, 2)
        self._last = now


def first_answer(out: Path | str, *, seed: int = 0, face: str = "haar") -> Path:
    """The box's explained answer on one rendered video: ``DIR/first/report.html``."""
    folder = Path(out) / "first"
    manifest = render_benchmark(BenchmarkConfig(clips=4, seed=9_000 + seed, size=160), folder / "video", workers=1)
    record = next((r for r in read_manifest(manifest) if r.label != "neutral"), read_manifest(manifest)[0])
    explained = load("box", face=face).explain(record.video)
    write_clip_report(
        folder / "report.html",
        explained.explanations,
        about=explained.about,
        predictions=explained.result.predictions,
        truth={p.clip_id: str(record.label) for p in explained.result.predictions},
    )
    write_tables(
        folder,
        explained.result.predictions,
        explained.result.provenance,
        frames=explained.result.sampled_frames,
        explanations=explained.explanations,
        has_media=True,
    )
    return folder / "report.html"


def run_demo(
    out: Path | str, config: DemoConfig | None = None, *, workers: int | None = None, on_progress: Report | None = None
) -> dict[str, Any]:
    """Run or resume the demo.

    Returns:
        The content of ``results.json``.

    Raises:
        ConfigError: The folder holds a demo with other settings.
    """
    config, out, tell = config or DemoConfig(), Path(out), on_progress or (lambda stage, done, of, note: None)
    workers = workers or os.cpu_count() or 1
    _claim(out, config)
    clock = _Clock()
    sides = {}
    for profile, clips in (("posed", config.clips), ("natural", config.natural_clips)):
        sides[profile] = _prepare(out, profile, clips, config, workers, tell, clock)
    _train_rows(out, config, workers, tell)
    clock.lap("train")
    torch.set_num_threads(workers)
    results, evaluations = _score(out, config, sides)
    clock.lap("score")
    explanations, truth = _explain(out, config, sides["posed"], results, tell)
    clock.lap("explain")
    write_json(out / "results.json", clean_json(results))
    about = {
        **load("box", face="haar").about(),
        "name": "grace",
        "trained_on": "rendered faces",
        "benchmark": describe_config(_benchmark(config, "posed")),
    }
    write_benchmark_report(
        out / "report.html", clean_json(results), evaluations, explanations, about=about, truth=truth
    )
    clock.lap("report")
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    write_json(
        out / "run.json",
        {
            "seconds": clock.seconds,
            "peak_memory_mib_largest_process": peak // 1024,
            "workers": workers,
            "version": own_version(),
            "config": clean_json(asdict(config)),
            "media_inside": True,
        },
    )
    return results


def _claim(out: Path, config: DemoConfig) -> None:
    marker = out / "demo.json"
    wanted = clean_json({**asdict(config), **box_digests(BOX_FOLDER)})
    if marker.is_file() and read_json(marker) != wanted:
        raise ConfigError(f"{out.name}/ holds a demo with other settings or of another version; give an empty folder")
    write_json(marker, wanted)


def _benchmark(config: DemoConfig, profile: str) -> BenchmarkConfig:
    clips = config.clips if profile == "posed" else config.natural_clips
    return BenchmarkConfig(clips=clips, profile=profile, seed=config.seed)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Side:
    """One profile's clips: the test side is what is scored."""

    folder: Path
    features: Features
    train: ClipSet
    test: ClipSet
    test_rows: np.ndarray
    test_records: tuple[Record, ...]
    num_failed: int


def _prepare(
    out: Path, profile: str, clips: int, config: DemoConfig, workers: int, tell: Report, clock: _Clock
) -> _Side:
    """Render, find faces, encode once, caption; the token files of every row's inputs."""
    folder = out / profile
    manifest = render_benchmark(
        _benchmark(config, profile),
        folder / "video",
        workers=workers,
        on_progress=lambda a, b: tell(f"rendering {profile} videos", a, b, ""),
    )
    clock.lap("render")
    records = read_manifest(manifest)
    features = extract_features(
        records,
        folder / "cache",
        FeatureConfig(face="haar"),
        workers=workers,
        on_progress=lambda a, b: tell(f"faces, action units, tokens ({profile})", a, b, ""),
    )
    clock.lap("faces and tokens")
    everything = clip_set(features, BASIC)
    rows = {
        split: np.array([i for i, r in enumerate(features.records) if r.split == split]) for split in ("train", "test")
    }
    train, test = everything.take(rows["train"]), everything.take(rows["test"])
    wanted = choose_split(records, "test")
    side = _Side(
        folder=folder,
        features=features,
        train=train,
        test=test,
        test_rows=rows["test"],
        test_records=tuple(features.records[i] for i in rows["test"]),
        num_failed=len(wanted) - len(rows["test"]),
    )
    _write_tokens(side, profile, config)
    clock.lap("captions")
    return side


def _write_tokens(side: _Side, profile: str, config: DemoConfig) -> None:
    tokens = side.folder / "tokens"
    finished = tokens / "done.json"
    if finished.is_file():
        return
    encoder = TextEncoder(BOX_FOLDER / "text")
    sides = caption_split(side.train, side.test, encoder)
    sides.coarse.save(tokens / "coarse.safetensors")
    save_clips(side.train, tokens / "train.safetensors")
    save_clips(side.test, tokens / "test.safetensors")
    texts = {"box": (sides.train.tokens, sides.test.tokens)}
    if profile == "posed":
        true = [
            guided(
                describe_all(_true_units(side, clips), clips.timestamps, AU_NAMES, "truth"),
                captioned,
                encoder,
                for_training=t,
            ).tokens
            for clips, captioned, t in ((side.train, sides.train, True), (side.test, sides.test, False))
        ]
        texts["true_au_captions"] = (true[0], true[1])
        texts["shuffled_captions"] = (
            tuple(shuffle_texts(sides.train.tokens, seed=config.seed)),
            tuple(shuffle_texts(sides.test.tokens, seed=config.seed)),
        )
        texts["shuffled_topk"] = tuple(
            shuffled_topk(s, encoder, seed=config.seed, for_training=t).tokens
            for s, t in ((sides.train, True), (sides.test, False))
        )  # type: ignore[assignment]
    for name, (train_texts, test_texts) in texts.items():
        save_texts(train_texts, tokens / f"{name}-train.safetensors")
        save_texts(test_texts, tokens / f"{name}-test.safetensors")
    write_json(finished, {"texts": sorted(texts), "example": sides.test.captions[0].text})


def _true_units(side: _Side, clips: ClipSet) -> np.ndarray:
    return np.stack([read_truth(side.folder / "video", Path(clip_id).stem).au for clip_id in clips.clip_ids])


# --- rows of the table -------------------------------------------------------------------------------------------------


def _jobs(out: Path, config: DemoConfig) -> list[tuple[str, str, str, str, TrainingConfig]]:
    """(profile folder, row name, variant, texts, budget) of every row."""
    jobs = [(str(out / "posed"), name, name, "box", config.training) for name in TABLE]
    jobs += [(str(out / "posed"), name, "grace", name, config.training) for name in CONTROLS]
    return jobs + [(str(out / "natural"), name, name, "box", config.training) for name in NATURAL_TABLE]


def _row_path(folder: Path, name: str) -> Path:
    return folder / "rows" / f"{name}.safetensors"


def _train_job(job: tuple[str, str, str, str, TrainingConfig]) -> str:
    """Train one row from its token files; runs in a process of its own with one thread, so that no row depends on another."""
    folder, name, kind, texts, training = Path(job[0]), *job[1:]
    torch.set_num_threads(1)
    tokens = folder / "tokens"
    train, test = load_clips(tokens / "train.safetensors"), load_clips(tokens / "test.safetensors")
    train_texts, test_texts = (load_texts(tokens / f"{texts}-{side}.safetensors") for side in ("train", "test"))
    base = base_config(train, TextEncoder(BOX_FOLDER / "text"), has_joint=True)
    row = train_row(kind, train, test, train_texts, test_texts, base, training, joint=load_joint_space(BOX_FOLDER))
    _save_model(folder, name, row.model)
    with atomic_path(_row_path(folder, name)) as temporary:
        save_file({"probabilities": row.probabilities}, temporary)
    return f"{folder.name} {name}"


def _save_model(folder: Path, name: str, model: Grace) -> None:
    about = about_checkpoint(
        name, box=BOX_FOLDER, trained_on=f"rendered faces ({folder.name} profile of the demo); no real person"
    )
    target = folder.parent / "checkpoints" / (name if folder.name == "posed" else f"{name}-{folder.name}")
    save_checkpoint(
        Checkpoint(model=model, coarse=CoarseClassifier.load(folder / "tokens" / "coarse.safetensors"), about=about),
        target,
    )


def _train_rows(out: Path, config: DemoConfig, workers: int, tell: Report) -> None:
    jobs = _jobs(out, config)
    todo = [job for job in jobs if not _row_path(Path(job[0]), job[1]).is_file()]
    done = len(jobs) - len(todo)
    tell("training GRACE and its rivals", done, len(jobs), "")
    for name in run_parallel(_train_job, todo, workers, in_order=False):
        done += 1
        tell("training GRACE and its rivals", done, len(jobs), name)


def _probabilities(side: _Side, name: str) -> np.ndarray:
    return load_file(_row_path(side.folder, name))["probabilities"]


# --- scores ------------------------------------------------------------------------------------------------------------


def _score(out: Path, config: DemoConfig, sides: dict[str, _Side]) -> tuple[dict[str, Any], dict[str, Evaluation]]:
    posed = sides["posed"]
    evaluations = {name: _evaluate(posed, _probabilities(posed, name), config.seed) for name in TABLE}
    evaluations["coarse"] = _evaluate(posed, _coarse_probabilities(posed), config.seed)
    models = {name: _short(evaluation) for name, evaluation in evaluations.items()}
    for name in TABLE:
        models[name]["num_parameters"] = sum(
            p.numel() for p in load_checkpoint(out / "checkpoints" / name).model.parameters()
        )
    ceiling = _ceiling(posed)
    profiles = {profile: _profile_scores(side, config) for profile, side in sides.items()}
    results: dict[str, Any] = {
        "models": models,
        "ceiling": {"uar": ceiling, "what": "linear model on the true action units of the same clips"},
        "share_of_ceiling": {"grace": models["grace"]["uar"] / ceiling},
        "controls": {name: _short(_evaluate(posed, _probabilities(posed, name), config.seed)) for name in CONTROLS},
        "comparisons": _comparisons(posed, config.seed),
        "profiles": profiles,
        "skin_tones": _skin_tones(posed, _probabilities(posed, "grace")),
        "ambiguous": _ambiguous(posed),
        "claims": {},
        "data": {
            profile: {
                "benchmark": describe_config(_benchmark(config, profile)),
                "train_clips": len(side.train.target),
                "test_clips": len(side.test.target),
                "test_subjects": len(set(side.test.subjects.tolist())),
                "failed_test_clips": side.num_failed,
            }
            for profile, side in sides.items()
        },
        "seed": config.seed,
        "versions": {
            "dferkit": own_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "box": digest_file(BOX_FOLDER / WEIGHTS)[:16],
        },
    }
    return results, evaluations


def _evaluate(side: _Side, probabilities: np.ndarray, seed: int) -> Evaluation:
    return evaluate_predictions(BASIC, side.test.target, probabilities, subjects=side.test.subjects.tolist(), seed=seed)


def _short(evaluation: Evaluation) -> dict[str, Any]:
    full = evaluation_figures(evaluation)
    return {name: full[name] for name in ("uar", "war", "uar_ci95", "war_ci95", "per_class_recall")}


def _coarse_probabilities(side: _Side) -> np.ndarray:
    coarse = CoarseClassifier.load(side.folder / "tokens" / "coarse.safetensors")
    return coarse.probabilities(unit_statistics(side.test.units.astype(np.float64)))


def _ceiling(side: _Side) -> float:
    statistics = [unit_statistics(_true_units(side, clips).astype(np.float64)) for clips in (side.train, side.test)]
    model = fit_coarse(statistics[0], side.train.target, name="ceiling")
    return evaluate_predictions(BASIC, side.test.target, model.probabilities(statistics[1])).uar


def _profile_scores(side: _Side, config: DemoConfig) -> dict[str, Any]:
    rows = {name: _short(_evaluate(side, _probabilities(side, name), config.seed)) for name in NATURAL_TABLE}
    rows["coarse"] = _short(_evaluate(side, _coarse_probabilities(side), config.seed))
    rows["box_without_training"] = _short(_evaluate(side, _box_probabilities(side), config.seed))
    ceiling = _ceiling(side)
    return {
        "models": rows,
        "ceiling": {"uar": ceiling},
        "share_of_ceiling": {name: row["uar"] / ceiling for name, row in rows.items()},
    }


def _box_probabilities(side: _Side) -> np.ndarray:
    return answer_features(
        load_checkpoint(BOX_FOLDER / "grace"), side.features.take(side.test_rows), TextEncoder(BOX_FOLDER / "text")
    )


def _comparisons(side: _Side, seed: int) -> dict[str, Any]:
    """UAR of GRACE minus each rival, paired over subjects."""
    pairs = [("grace", name) for name in (*TABLE[1:], *CONTROLS)]
    pairs += [(name, "vision_only") for name in CONTROLS]
    result = {}
    for name, rival in pairs:
        difference, low, high = paired_difference(
            side.test.target,
            _probabilities(side, rival).argmax(1),
            _probabilities(side, name).argmax(1),
            len(BASIC),
            groups=side.test.subjects,
            seed=seed,
        )
        result[f"{name} minus {rival}"] = {
            "difference": round(difference, 12),
            "low": round(low, 12),
            "high": round(high, 12),
        }
    return result


def _skin_tones(side: _Side, probabilities: np.ndarray) -> dict[str, Any]:
    tones = {r.clip_id: r.attributes["skin_tone"] for r in read_manifest(side.folder / "video" / "clips.csv")}
    of_clip = np.array([tones[clip_id] for clip_id in side.test.clip_ids])
    result = {}
    for tone in sorted(set(of_clip.tolist())):
        chosen = of_clip == tone
        scores = evaluate_predictions(
            BASIC, side.test.target[chosen], probabilities[chosen], subjects=side.test.subjects[chosen].tolist()
        )
        result[tone] = {"uar": scores.uar, "uar_ci95": list(scores.uar_ci95), "num_clips": int(chosen.sum())}
    return result


def _ambiguous(side: _Side) -> dict[str, Any]:
    """GRACE on clips with a second class mixed in, and its cross-entropy to the soft label."""
    truths = [read_truth(side.folder / "video", Path(c).stem) for c in side.test.clip_ids]
    mixed = np.array([t.is_ambiguous for t in truths])
    probabilities = _probabilities(side, "grace")
    soft = np.stack([t.soft_label for t in truths])
    entropy = -(soft * np.log(np.maximum(probabilities, 1e-12))).sum(1)
    result: dict[str, Any] = {}
    for name, chosen in (("ambiguous", mixed), ("clear", ~mixed)):
        if chosen.any():
            result[name] = {
                "uar": evaluate_predictions(BASIC, side.test.target[chosen], probabilities[chosen]).uar,
                "cross_entropy_to_soft_label": float(entropy[chosen].mean()),
                "num_clips": int(chosen.sum()),
            }
    return result


# --- claims and explanations --------------------------------------------------------------------------------------------


def _explain(
    out: Path, config: DemoConfig, side: _Side, results: dict[str, Any], tell: Report
) -> tuple[list[Explanation], dict[str, str]]:
    """The papers' claims on the test clips, and the clips that the report explains."""
    model = Model(load_checkpoint(out / "checkpoints" / "grace"), settings=Settings(whole_clip=True, face="haar"))
    evidence = _evidence(side, model)
    results["claims"]["motion"] = motion_claim(evidence)
    results["claims"]["localisation"] = localisation_claim(
        [phrase for clip in evidence for phrase in clip.phrases], seed=config.seed
    )
    explanations: list[Explanation] = []
    right = _probabilities(side, "grace").argmax(1) == side.test.target
    shown = _chosen_clips(side, right, config.shown_clips)
    for number, i in enumerate(dict.fromkeys([*shown, *range(min(config.deletion_clips, len(side.test_records)))])):
        record = side.test_records[i]
        answer = next(iter(model.answers(record.video, name=record.clip_id)))
        explanations.append(explain_answer(answer, seed=config.seed))
        tell("explaining and checking by deletion", number + 1, config.deletion_clips, "")
    results["claims"]["deletion"] = summarise_deletion([e.deletion for e in explanations if e.deletion is not None])
    truth = {
        e.prediction.clip_id: str(next(r.label for r in side.test_records if r.clip_id == e.prediction.input))
        for e in explanations
    }
    return explanations[: config.shown_clips], truth


def _chosen_clips(side: _Side, right: np.ndarray, count: int) -> list[int]:
    """One clip per class while there is room, the last one an error, so that the report also shows a failure."""
    chosen: list[int] = []
    for c in range(len(BASIC)):
        found = np.flatnonzero(right & (side.test.target == c))
        if len(found) and BASIC[c] != "neutral" and len(chosen) < count - 1:
            chosen.append(int(found[0]))
    wrong = np.flatnonzero(~right)
    return chosen + ([int(wrong[0])] if len(wrong) else [])


def _evidence(side: _Side, model: Model) -> list[ClipEvidence]:
    """Motion weights and plans of GRACE on every test clip, beside the truth."""
    texts = load_texts(side.folder / "tokens" / "box-test.safetensors")
    outputs = list(predict_outputs(model.checkpoint.model, side.test.visual, texts, summary=side.test.summary))
    plans = whole_plans(outputs, texts)
    motion = torch.cat([output.motion for output in outputs]).numpy()
    result = []
    for i, record in enumerate(side.test_records):
        row = int(side.test_rows[i])
        units = ActionUnits(
            names=side.features.au_names,
            intensity=side.features.units[row],
            timestamps=side.features.timestamps[row],
            source="box",
        )
        truth, boxes = read_truth(side.folder / "video", Path(record.clip_id).stem), side.features.boxes[row]
        width, height = side.features.frame_sizes[row].tolist()
        heat = on_crop(truth.heat, np.nanmean(boxes, 0), (width, height), side.features.grid)
        result.append(
            ClipEvidence(
                truth=truth,
                motion=motion[i].reshape(-1, *side.features.grid),
                phrases=phrase_masses(
                    model.heads[0].caption(units), texts[i], plans[i], heat.reshape(len(heat), -1), truth.au.max(0)
                ),
                boxes=boxes,
                frame_size=(width, height),
            )
        )
    return result
