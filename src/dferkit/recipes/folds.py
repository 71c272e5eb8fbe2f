"""The folds of an official data set: train, choose the epoch by the rule, test on the fold's test clips; one fold or all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dferkit.datasets.protocol import (
    RULE_TEXT,
    FoldClips,
    ProtocolConfig,
    choose_folds,
    split_fold,
)
from dferkit.encoders.front_end import front_end_of
from dferkit.errors import ConfigError, DataError
from dferkit.evaluation.prediction_file import LEAKY_MARK
from dferkit.evaluation.scored import ScoredClips, join
from dferkit.evaluation.summary import summarize
from dferkit.labels import check_name
from dferkit.models.checkpoint import Checkpoint
from dferkit.models.registry import MODELS
from dferkit.parallel import run_parallel
from dferkit.recipes.data import StoreClips
from dferkit.recipes.provenance import claim_run
from dferkit.recipes.scores import provenance_of, scored_clips, write_scores
from dferkit.reports.results_table import write_results
from dferkit.reports.tables import Provenance, own_version
from dferkit.schema import ClipStatus, Fold, Record, ReportProgress
from dferkit.storage import digest_json, read_json, write_json
from dferkit.tokens.features import TokenConfig, one_thread
from dferkit.training.about import UNCALIBRATED
from dferkit.training.fit import Fitted, HeldOut, fit
from dferkit.training.score import captioned_for, score
from dferkit.training.spec import TrainingSpec

CAPTIONS = "generated from the pixels by the offline template; human captions are not used"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreRun:
    """One experiment on a prepared store.

    Attributes:
        layout: The data set it is for; empty for any. fold: Name of a fold, or ``all``.
        groups: CSV of attributes by clip, for scores by group.
    """

    layout: str = ""
    spec: TrainingSpec = field(default_factory=TrainingSpec)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    fold: str = "all"
    groups: Path | None = None

    @property
    def select(self) -> str:
        """The rule for the epoch where none is asked for: a model without epochs keeps the last weights."""
        return "val" if self.spec.entry.learns == "steps" else "last"


# A recipe is a named data set with a model and its settings.
RECIPES: Mapping[str, StoreRun] = MappingProxyType(
    {
        "grace_dfew": StoreRun(layout="dfew"),  # five folds, seven classes
        "grace_ferv39k": StoreRun(layout="ferv39k"),  # one split, seven classes, scores per scene
        "grace_mafw": StoreRun(layout="mafw-single"),  # five folds, eleven classes
        "grace_mafw_compound": StoreRun(layout="mafw-compound"),  # five folds, 43 classes
    }
)


def recipe(name: str) -> StoreRun:
    """A recipe by name, or a model's name for any data set.

    Raises:
        ConfigError: Neither.
    """
    if name in RECIPES:
        return RECIPES[name]
    check_name("recipe or model", name, (*RECIPES, *MODELS))
    return StoreRun(spec=TrainingSpec(model=name))


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldResult:
    """What one fold gave.

    Attributes:
        chosen: Answers of the chosen epoch. last: Of the last epoch, which is the same with the rule ``last``.
        epoch: The chosen epoch, counted from 1.
        used: Clips listed and used, by side. val_kind: What was held out. views: How many test clips have how many different views.
    """

    name: str
    chosen: ScoredClips
    last: ScoredClips
    epoch: int
    used: Mapping[str, Mapping[str, int]]
    val_kind: str
    views: Mapping[int, int]
    statuses: Mapping[str, ClipStatus]


def token_config(protocol: ProtocolConfig, *, encoder: str, motion: str, device: str = "cpu") -> TokenConfig:
    """The tokens that a protocol tests with."""
    return TokenConfig(
        encoder=encoder,
        num_samples=protocol.num_samples,
        times=protocol.times,
        with_flip=protocol.with_flip,
        motion=motion,
        device=device,
    )


def run_store(
    store: Path | str, out: Path | str, run: StoreRun, *, workers: int | None = None, report: ReportProgress
) -> tuple[dict[str, Any], Path]:
    """Train and test every wanted fold; write ``fold-<name>/``, and over all folds of the release ``predictions.csv``, ``metrics.json`` and tables.

    Folds may be run one by one, by several machines too, into the same folder; the table over them is written by a run of all, which goes on from
    what is there. Tokens that are not there yet are encoded first. The same call goes on after an interruption.

    Returns:
        The figures of ``metrics.json`` (pooled, and mean and spread over folds; those of the fold where one of several was run), and its folder.

    Raises:
        ConfigError: A wanted fold has no clips, a wrong setting, a recipe for another data set, or a folder that holds another run. CheckpointError: The store is not complete.
    """
    out = Path(out)
    clips = StoreClips.open(store, groups=run.groups, workers=workers)
    release = clips.store.release
    chosen = choose_folds(release, run.fold)
    for one in chosen:
        sides = split_fold(release, one, run.protocol)
        if not sides.test or not sides.train:
            raise ConfigError(
                f"fold {one.name} has no {'test' if sides.train else 'training'} clip; the release is not whole. Name another fold with --fold"
            )
    planned = _check(clips, run)
    clips.tokens(_tokens_of(run), report)  # encoded once, before folds run side by side
    identity = {
        "model": run.spec.model,
        "encoder": run.spec.encoder,
        "text_encoder": run.spec.text_encoder,
        "use_votes": run.spec.use_votes,
        "protocol": asdict(run.protocol),
        "training": asdict(planned.training),
        "layout": release.layout,
        "annotations": release.annotation_digest,
        "settings": sorted(run.spec.settings),
    }
    claim_run(out, identity)
    jobs = [_FoldJob(store=clips.store.path, out=out / f"fold-{one.name}", run=run, fold=one) for one in chosen]
    results = []
    many = min(workers or os.cpu_count() or 1, len(jobs))
    if many == 1:
        results = [_run_fold(job, clips, report) for job in jobs]
    else:
        # One thread each: the folds share out the cores, and the bytes are those of a run one after the other.
        report("folds", 0, len(jobs), "")
        for result in run_parallel(_fold_in_process, jobs, many):
            results.append(result)
            report("folds", len(results), len(jobs), f"fold {result.name} is done")
    if len(results) < len(release.folds):
        return dict(read_json(jobs[0].out / "metrics.json")), jobs[0].out
    return _write_all(out, run, results, asdict(planned.training), release.layout), out


def train_whole(clips: StoreClips, out: Path, run: StoreRun, report: ReportProgress) -> Checkpoint:
    """A model trained on every clip of a store, less a validation block with the rule ``val``: for tests on another data set."""
    _check(clips, run)
    whole = Fold(name="whole", train=tuple(record.clip_id for record in clips.records), test=())
    with one_thread():
        return _train_fold(clips, split_fold(clips.store.release, whole, run.protocol), out, run, report)[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class _FoldJob:
    """One fold, for a process of its own."""

    store: Path
    out: Path
    run: StoreRun
    fold: Fold


def _fold_in_process(job: _FoldJob) -> FoldResult:
    return _run_fold(job, StoreClips.open(job.store, groups=job.run.groups), lambda stage, done, of, note: None)


def _tokens_of(run: StoreRun) -> TokenConfig:
    motion = getattr(run.spec.plan().model, "motion_source", "tokens")
    return token_config(run.protocol, encoder=run.spec.encoder, motion=motion, device=run.spec.device)


def _check(clips: StoreClips, run: StoreRun) -> Any:
    """Settings of model and training; what is wrong with the run is refused here, before any work."""
    name = clips.store.path.name
    if run.spec.use_votes and any(record.votes is None for record in clips.records):
        raise ConfigError(
            f"the clips of {name}/ have no votes; run dferkit prepare with --votes first (no face is cut again)"
        )
    if run.layout and run.layout != clips.name:
        raise ConfigError(
            f"the recipe is for {run.layout}, but {name}/ holds {clips.name}; take its recipe, or a model's name such as grace"
        )
    if run.protocol.select != "last" and run.spec.entry.learns != "steps":
        raise ConfigError(f"{run.spec.model} has no epochs to choose from: give --select last")
    return run.spec.plan()


def _train_fold(
    clips: StoreClips, sides: FoldClips, out: Path, run: StoreRun, report: ReportProgress
) -> tuple[Checkpoint, Fitted]:
    """Train on one side of a fold and write ``checkpoints/<model>/`` and ``selection.json``.

    Raises:
        DataError: No usable training or held-out clip.
    """
    config, by_id = _tokens_of(run), {record.clip_id: record for record in clips.records}

    def read(clip_ids: Sequence[str], what: str, advice: str) -> Any:
        data = clips.read([by_id[clip_id] for clip_id in clip_ids], config, part=what, report=report)
        if not len(data):
            raise DataError(f"fold {sides.name}: none of the {len(clip_ids)} {what} clips has a face{advice}")
        return data

    train, select = read(sides.train, "training", ""), run.protocol.select
    held = None
    if select != "last":
        held_ids = sides.val if select == "val" else sides.test
        held = HeldOut(data=read(held_ids, "held-out", "; choose --select last"), rule=select)
    fitted = fit(
        train,
        run.spec,
        held=held,
        state=out / "state" / run.spec.model,
        stage=f"fold {sides.name}: training {run.spec.model}",
        on_progress=report,
    )
    side = f"training side of fold {sides.name}" if sides.test else "all clips"
    checkpoint = fitted.save(
        out / "checkpoints" / run.spec.model,
        f"{clips.name}, {side} ({len(train)} clips){leak_mark(run.protocol)}, on a bundled model trained on rendered faces",
        data_digest=digest_json([clips.about["annotation_digest"], fitted.data.digest, list(sides.train)]),
        selection=select,
        fold=sides.name,
        **clips.about,
    )
    write_json(
        out / "selection.json", {"rule": select, "epoch": fitted.epoch, "uar_by_epoch": list(fitted.uar_by_epoch)}
    )
    return checkpoint, fitted


def _run_fold(job: _FoldJob, clips: StoreClips, report: ReportProgress) -> FoldResult:
    """``_train_fold``, then the test clips: ``predictions.csv`` and ``metrics.json`` of the chosen epoch."""
    run, out = job.run, job.out
    sides = split_fold(clips.store.release, job.fold, run.protocol)
    tokens = clips.tokens(_tokens_of(run), report)
    test = tokens.of_clips(sides.test, all_views=True)
    if not len(test):
        raise DataError(f"fold {sides.name} has no usable test clip: none of {len(sides.test)} has a face")
    with one_thread():
        checkpoint, fitted = _train_fold(clips, sides, out, run, report)
        test = captioned_for(checkpoint, test)
        answers = [score(checkpoint, test, device=run.spec.device).of_clips()]
        if fitted.last is not fitted.model:
            last = replace(checkpoint, model=fitted.last)
            answers.append(score(last, test, device=run.spec.device).of_clips())
    by_id = {record.clip_id: record for record in clips.records}
    records: list[Record] = [by_id[clip_id] for clip_id in sides.test]
    scored = [scored_clips(records, a, checkpoint.labels, fold=sides.name, among=clips.records) for a in answers]
    listed = {side: getattr(sides, side) for side in ("train", "val", "test")}
    result = FoldResult(
        name=sides.name,
        chosen=scored[0],
        last=scored[-1],
        epoch=fitted.epoch,
        used={s: {"listed": len(ids), "used": len(set(tokens.of_clips(ids).clip_ids))} for s, ids in listed.items()},
        val_kind=sides.val_kind,
        views=test.num_views(),
        statuses=tokens.statuses,
    )
    about = {
        "dataset": clips.name,
        "soft_labels": run.spec.use_votes,
        "protocol": protocol_facts(run.protocol, result),
        "checkpoint": checkpoint.about,
    }
    figures = write_scores(
        out,
        scored[0],
        provenance_of(checkpoint),
        statuses=tokens.statuses,
        about=about,
        further={"selection": run.protocol.select},
    )
    name = f"{run.spec.model} on fold {sides.name} of {clips.name}"
    rows: dict[str, Mapping[str, Any]] = {name: figures}
    if run.protocol.select != "last":
        rows[f"{name}, last epoch"] = {**summarize(result.last), "selection": "last"}
    write_results(out, rows)
    return result


def _write_all(
    out: Path, run: StoreRun, results: Sequence[FoldResult], training: Mapping[str, Any], layout: str
) -> dict[str, Any]:
    """Scores over all folds that were run, of the chosen epochs and beside them of the last ones."""
    pooled, last = join([r.chosen for r in results]), summarize(join([r.last for r in results]))
    about = {
        "dataset": layout,
        "model": run.spec.model,
        "encoder": run.spec.encoder,
        "text_encoder": run.spec.text_encoder,
        "soft_labels": run.spec.use_votes,
        "training": dict(training),
        "version": own_version(),
        "protocol": protocol_facts(run.protocol, *results),
        "last_epoch": {key: last[key] for key in ("uar", "war", "uar_ci95", "war_ci95")},
    }
    provenance = Provenance(
        model=run.spec.model,
        front_end=front_end_of(run.spec.encoder),
        calibration=UNCALIBRATED,
        trained_on=f"{layout}, the training side of each fold{leak_mark(run.protocol)}",
    )
    statuses = results[0].statuses
    figures = write_scores(
        out, pooled, provenance, statuses=statuses, about=about, further={"selection": run.protocol.select}
    )
    rows: dict[str, Mapping[str, Any]] = {f"{run.spec.model} on {layout}": figures}
    if run.protocol.select != "last":
        rows[f"{run.spec.model} on {layout}, last epoch"] = {**last, "selection": "last"}
    write_results(out, rows)
    return {**figures, "protocol": about["protocol"], "last_epoch": about["last_epoch"]}


def leak_mark(protocol: ProtocolConfig) -> str:
    """Mark of a run whose epoch was chosen on the test clips, for every table of its answers."""
    return f"; {LEAKY_MARK}" if protocol.select == "test-leaky" else ""


def protocol_facts(protocol: ProtocolConfig, *results: FoldResult) -> dict[str, Any]:
    """What a reader needs to judge the score."""
    views: dict[int, int] = {}
    for result in results:
        for number, count in result.views.items():
            views[number] = views.get(number, 0) + count
    return {
        "selection": protocol.select,
        "selection_rule": RULE_TEXT[protocol.select],
        "val_share": protocol.val_share if protocol.select == "val" else None,
        "validation": {result.name: result.val_kind for result in results} if protocol.select == "val" else None,
        "chosen_epoch": {result.name: result.epoch for result in results},
        "clips": {result.name: {side: dict(count) for side, count in result.used.items()} for result in results},
        **sampling_facts(protocol, views),
    }


def sampling_facts(protocol: ProtocolConfig, views: Mapping[int, int]) -> dict[str, Any]:
    """Which frames of a clip the model read. ``views``: How many test clips have how many different views."""
    return {
        "sampling": f"{protocol.num_samples} frames, the same place of {protocol.num_samples} equal segments: deterministic",
        "views_asked": protocol.times * (2 if protocol.with_flip else 1),
        "test_clips_by_different_views": {str(number): views[number] for number in sorted(views)},
        "captions": CAPTIONS,
    }
