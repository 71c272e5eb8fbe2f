"""``dferkit bench``: a list of models on one data set, in one protocol and one table, with the frame-order test beside it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from dferkit.datasets import check_disjoint, choose_split, read_manifest
from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.clip_model import KINDS, ClipEncoder
from dferkit.encoders.open import open_visual_encoder
from dferkit.errors import ConfigError, DataError, ManifestError
from dferkit.evaluation.metrics import confusion_matrix, uar
from dferkit.evaluation.scored import ScoredClips, join
from dferkit.labels import BASIC
from dferkit.models.checkpoint import Checkpoint, TrainedModel, save_checkpoint
from dferkit.models.coarse import CoarseClassifier
from dferkit.preparation import FaceStore
from dferkit.recipes.provenance import UNCALIBRATED, about_checkpoint, claim_run
from dferkit.recipes.scoring import mean_over_views, scored_clips, write_scores
from dferkit.recipes.training_run import apply_settings
from dferkit.reports.results_table import markdown_rows, results_table, write_results
from dferkit.reports.tables import Provenance, own_version
from dferkit.schema import Record
from dferkit.storage import (
    atomic_path,
    digest_arrays,
    digest_file,
    digest_json,
    natural_key,
    read_json,
    write_json,
    write_text,
)
from dferkit.training.contenders import CONTENDERS, BenchConfig, Lesson, find_contender, in_order
from dferkit.training.features import FeatureConfig, Features, extract_features, one_thread
from dferkit.training.protocol import choose_folds, inner_groups
from dferkit.training.stored_tokens import TokenConfig, encode_store, open_tokens
from dferkit.training.table import ClipSet, clip_set

Report = Callable[[str, int, int, str], None]
_ANSWERS = "answers.safetensors"
ORDERS = ("normal", "random", "reversed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """One fold: its clips as one encoder sees them.

    Attributes:
        records: All test clips, also those without a face. about: Facts of its data for a checkpoint.
        digest: Of its clips and what the encoder made of them.
    """

    name: str
    train: ClipSet
    test: ClipSet
    records: tuple[Record, ...]
    about: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchRun:
    """What is compared.

    Attributes:
        clip, videomae: Where contenders get their encoder; clip_size: ``upsample`` or ``interpolate`` (see ``ClipEncoder``); VideoMAE is a small random one by default, which knows nothing.
        fold: Of a store: a name, or ``all``. views, with_flip: Of a store: views of every clip in time, each also mirrored (``views.clip_views``). labels: Classes of a ``clips.csv`` other than the seven; a store knows its own. seeds: Each model is trained with seeds 0, 1, ….
    """

    models: tuple[str, ...]
    clip: str | None = None
    clip_size: str = "upsample"
    videomae: str = "videomae"
    fold: str = "all"
    views: int = 1
    with_flip: bool = False
    labels: tuple[str, ...] | None = None
    seeds: int = 1
    face: str = "haar"
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.clip_size not in KINDS:
            raise ConfigError(f"clip size is {self.clip_size!r}; choose {', '.join(KINDS)}")
        if self.labels is not None and (len(set(self.labels)) < max(len(self.labels), 2) or not all(self.labels)):
            raise ConfigError(f"labels are {', '.join(map(repr, self.labels))}; give two or more different names")

    def encoder_of(self, reads: str) -> str:
        """Name of the visual encoder of a contender."""
        return {"clip": f"{KINDS[self.clip_size]}:{self.clip}", "videomae": self.videomae}.get(reads, "box")


def run_bench(
    data: Path | str, out: Path | str, run: BenchRun, *, workers: int | None = None, tell: Report | None = None
) -> str:
    """Train and test every model; write ``MODEL/seed-N/`` (answers and figures), ``results.*``, ``order.md`` and ``bench.json``.

    What is finished is kept: the same call goes on after an interruption.

    Returns:
        The table, as Markdown.

    Raises:
        ConfigError: An unknown model or setting, CLIP models without a CLIP folder, or a folder that holds another comparison.
        ManifestError: No such data, or a table without a training and a test side.
    """
    data, out, report = Path(data), Path(out), tell or (lambda stage, done, of, note: None)
    config: BenchConfig = apply_settings(BenchConfig(), run.settings)
    contenders = {name: find_contender(name) for name in run.models}
    needy = [name for name, contender in contenders.items() if contender.reads == "clip"]
    if needy and run.clip is None:
        raise ConfigError(f"{', '.join(needy)} read CLIP: give its folder with --clip")
    towers = ClipEncoder(run.clip, size=run.clip_size) if run.clip is not None and needy else None
    if not data.exists():
        raise ManifestError(f"no {data.name}: give a clips.csv with a column split, or a store of dferkit prepare")
    if (run.views > 1 or run.with_flip) and data.is_file():
        raise ConfigError(
            f"views are for a store, and {data.name} has none; make one with dferkit prepare, or leave --views and --flip out"
        )
    if run.labels is not None and data.is_dir():
        raise ConfigError("labels are for a clips.csv; a store knows its own classes")
    known = FaceStore.open(data).release.annotation_digest if data.is_dir() else digest_file(data)
    claim_run(out, {"fold": run.fold, "views": run.views, "flip": run.with_flip, "face": run.face, "settings": sorted(run.settings), "data": known, "labels": run.labels})  # fmt: skip
    digests: dict[str, str] = {}
    for name, contender in contenders.items():
        encoder = "" if contender.reads == "nothing" else run.encoder_of(contender.reads)
        if encoder and encoder not in digests:
            digests[encoder] = (
                towers.digest
                if towers is not None and contender.reads == "clip"
                else open_visual_encoder(encoder).digest
            )
        claim_run(out / name, {"encoder_digest": digests.get(encoder, ""), "version": own_version()})
    sides: dict[str, tuple[Split, ...]] = {}
    jobs = [(name, seed) for name in run.models for seed in range(run.seeds)]
    for number, (name, seed) in enumerate(jobs):
        report("models", number, len(jobs), name)
        folder, reads = out / name / f"seed-{seed}", contenders[name].reads
        encoder = run.encoder_of(reads)
        if encoder not in sides:
            sides[encoder] = _splits(data, out, encoder, run, workers, report)
        with one_thread():
            _compete(name, folder, sides[encoder], config.with_seed(seed), towers)
    report("models", len(jobs), len(jobs), "")
    return _write_tables(out, config)


def _write_tables(out: Path, config: BenchConfig) -> str:
    """Tables of every model that is finished in this folder, in the order of the list of models."""
    rows: dict[str, Mapping[str, Any]] = {}
    orders: dict[str, dict[str, float]] = {}
    for name in CONTENDERS:
        done = sorted((out / name).glob("seed-*/order.json"), key=lambda path: natural_key(path.parent.name))
        for path in done:
            title = name if len(done) == 1 else f"{name}, {path.parent.name.replace('-', ' ')}"
            kept = read_json(path)
            rows[title] = read_json(path.parent / "metrics.json")
            orders[title] = {order: kept[order] for order in ORDERS}
    write_results(out, rows)
    write_text(out / "order.md", order_table(orders))
    models = {name: contender.what for name, contender in CONTENDERS.items() if (out / name).is_dir()}
    write_json(out / "bench.json", {"version": own_version(), "config": asdict(config), "models": models, "order": orders})  # fmt: skip
    return results_table(rows)


def order_table(orders: Mapping[str, Mapping[str, float]]) -> str:
    """UAR with the encoder's time steps in their order, in a random one and backwards (after the paper's Table 5, which shuffles frames)."""
    lines = [
        [name, f"{uars['normal']:.3f}", *(f"{uars[o]:.3f} ({uars[o] - uars['normal']:+.3f})" for o in ORDERS[1:])]
        for name, uars in orders.items()
    ]
    return markdown_rows(("model", "UAR, time steps in order", "random order", "reversed"), lines)


def _compete(name: str, folder: Path, splits: Sequence[Split], config: BenchConfig, towers: ClipEncoder | None) -> None:
    """Train and test one model on every fold; a fold's answers are kept, ``order.json`` is written last. Other clips or faces are learned anew."""
    if _is_done(folder, splits):
        return
    parts: dict[str, list[ScoredClips]] = {order: [] for order in ORDERS}
    for split in splits:
        state = folder / "state" / split.name
        if not _has_answers(state, split):

            def keep(model: TrainedModel, coarse: CoarseClassifier, split: Split = split) -> None:
                about = about_checkpoint(
                    name, box=BOX_FOLDER, trained_on=f"{split.about['source']}, training side of fold {split.name} ({len(set(split.train.clip_ids))} clips)",
                    seed=config.bap.seed, fold=split.name, selection="last", training=asdict(config), **split.about,
                )  # fmt: skip
                save_checkpoint(
                    Checkpoint(model=model, coarse=coarse, about=about), folder / "checkpoints" / split.name
                )

            lesson = Lesson(train=split.train, test=split.test, config=config, clip=towers, state=state, keep=keep)
            answer = find_contender(name).learn(lesson)
            told = {order: answer(in_order(split.test, order)) for order in ORDERS}
            with atomic_path(state / _ANSWERS) as temporary:
                save_file(told, temporary, metadata={"clips": split.digest})
            for step in state.glob("step*"):
                shutil.rmtree(step)
        told = load_file(state / _ANSWERS)
        for order in ORDERS:
            answered = mean_over_views(split.test.clip_ids, told[order])
            parts[order].append(scored_clips(split.records, answered, split.train.labels, fold=split.name))
    provenance = Provenance(
        model=name, calibration=UNCALIBRATED, trained_on="the training side of each fold", weights_sha256=""
    )
    views = Counter(count for split in splits for count in Counter(split.test.clip_ids).values())
    about = {"model": name, "test_clips_by_different_views": {str(number): views[number] for number in sorted(views)}}
    write_scores(folder, join(parts["normal"]), provenance, about=about, selection="last")
    uars = {order: _uar(join(found)) for order, found in parts.items()}
    write_json(folder / "order.json", {**uars, "clips": [split.digest for split in splits]})


def _is_done(folder: Path, splits: Sequence[Split]) -> bool:
    path = folder / "order.json"
    return path.is_file() and read_json(path)["clips"] == [split.digest for split in splits]


def _has_answers(state: Path, split: Split) -> bool:
    """The fold was answered before, on these clips; what other clips left is removed."""
    if not (state / _ANSWERS).is_file():
        return False
    with safe_open(state / _ANSWERS, framework="numpy") as handle:
        is_same = (handle.metadata() or {}).get("clips") == split.digest
    if not is_same:
        shutil.rmtree(state)
    return is_same


def _uar(clips: ScoredClips) -> float:
    """UAR; a clip without an answer is wrong."""
    said = np.where(clips.has_answer, np.nan_to_num(clips.probabilities).argmax(1), -1)
    wrong = (clips.true + 1) % len(clips.labels)
    return float(uar(confusion_matrix(clips.true, np.where(said < 0, wrong, said), len(clips.labels))))


def _splits(
    data: Path, out: Path, encoder: str, run: BenchRun, workers: int | None, report: Report
) -> tuple[Split, ...]:
    """Every fold of the data, as the encoder sees it."""
    if data.is_dir():
        faces, config = (
            FaceStore.open(data),
            TokenConfig(encoder=encoder, times=run.views, with_flip=run.with_flip),
        )
        encode_store(
            faces.path, config, workers=workers, verify=False, on_progress=lambda a, b: report("tokens", a, b, "")
        )
        tokens, release = open_tokens(faces, config), faces.release
        by_id = {record.clip_id: record for record in release.records}
        return tuple(
            _split(
                fold.name,
                tokens.features.take(tokens.rows(fold.train, all_views=True)),
                tokens.features.take(tokens.rows(fold.test, all_views=True)),
                [by_id[clip_id] for clip_id in fold.test],
                release.labels,
                {"source": release.layout, "layout": release.layout, "annotation_digest": release.annotation_digest, "encoder": encoder},
            )
            for fold in choose_folds(release, run.fold)
        )  # fmt: skip
    labels = run.labels or BASIC
    records = read_manifest(data, labels=labels)
    check_disjoint(records)
    sides = {name: choose_split(records, name) for name in ("train", "test")}
    if any(r.split is None for r in records) or not all(sides.values()):
        raise ManifestError(f"{data.name} needs a column split with rows train and test, or nothing can be compared")
    features = {
        name: extract_features(
            chosen,
            out / "cache" / f"{encoder.replace('/', '_').replace(':', '-')}-{name}",
            FeatureConfig(face=run.face, encoder=encoder),
            workers=workers,
            on_progress=lambda a, b, name=name: report(f"faces and tokens, {name}", a, b, ""),  # type: ignore[misc]
        )
        for name, chosen in sides.items()
    }
    return (
        _split(
            "test",
            features["train"],
            features["test"],
            sides["test"],
            labels,
            {"source": data.name, "data_digest": digest_file(data), "encoder": encoder},
        ),
    )


def _split(
    name: str,
    train: Features,
    test: Features,
    records: Sequence[Record],
    labels: tuple[str, ...],
    about: Mapping[str, Any],
) -> Split:
    """One fold; where people are not named, neighbours of the training side count as one person (``inner_groups``).

    Raises:
        DataError: A side without a usable clip.
    """
    for side, features in (("training", train), ("test", test)):
        if not features.records:
            raise DataError(f"fold {name} has no usable {side} clip: none has a face")
    learned, tested = replace(clip_set(train, labels), subjects=inner_groups(train.records)), clip_set(test, labels)
    sides = {"train": learned, "test": tested}
    clips = {side: list(found.clip_ids) for side, found in sides.items()}
    tokens = digest_arrays({side: found.summary.numpy() for side, found in sides.items()})
    return Split(
        name=name,
        train=learned,
        test=tested,
        records=tuple(records),
        about={**about, "encoder_digest": train.encoder_digest},
        digest=digest_json([clips, tokens]),
    )
