"""Recipes for the official data sets: train and test GRACE or one of its variants, one fold or all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dferkit.datasets import with_groups
from dferkit.datasets.protocol import ProtocolConfig, choose_folds, split_fold
from dferkit.encoders.box import BOX_FOLDER
from dferkit.errors import ConfigError
from dferkit.evaluation.scored import join
from dferkit.evaluation.summary import summarize
from dferkit.labels import nearest_name
from dferkit.models.build import VARIANTS, variant
from dferkit.models.checkpoint import Checkpoint
from dferkit.models.grace import GraceConfig
from dferkit.models.joint_space import joint_space_of
from dferkit.parallel import run_parallel
from dferkit.preparation import FaceStore
from dferkit.recipes.fold_run import FoldResult, Report, leak_mark, protocol_facts, run_fold, train_fold
from dferkit.recipes.provenance import UNCALIBRATED, claim_run
from dferkit.recipes.scoring import write_scores
from dferkit.recipes.training_run import RunConfig, apply_settings
from dferkit.reports.results_table import write_results
from dferkit.reports.tables import Provenance, own_version
from dferkit.schema import ClipStatus, Fold
from dferkit.storage import read_json
from dferkit.tokens.features import one_thread
from dferkit.tokens.stored import StoredTokens, TokenConfig, encode_store, open_tokens
from dferkit.training.loop import TrainingConfig, check_joint


@dataclass(frozen=True, kw_only=True, slots=True)
class OfficialRun:
    """One experiment on a prepared store.

    Attributes:
        layout: The data set it is for; empty for any.
        model: A row of ``models.build.VARIANTS``. encoder: See ``TokenConfig``.
        use_votes: Train on the shares of the annotators (DFEW) in place of one label.
    """

    layout: str = ""
    model: str = "grace"
    encoder: str = "box"
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    use_votes: bool = False

    def tokens(self, motion: str = "tokens") -> TokenConfig:
        """The tokens it reads."""
        return TokenConfig.for_protocol(self.protocol, encoder=self.encoder, motion=motion)


def grace_dfew() -> OfficialRun:
    """GRACE on DFEW: five folds, seven classes."""
    return OfficialRun(layout="dfew")


def grace_ferv39k() -> OfficialRun:
    """GRACE on FERV39k: one split, seven classes, scores per scene."""
    return OfficialRun(layout="ferv39k")


def grace_mafw() -> OfficialRun:
    """GRACE on MAFW's single set: five folds, eleven classes."""
    return OfficialRun(layout="mafw-single")


def grace_mafw_compound() -> OfficialRun:
    """GRACE on MAFW's compound set: five folds, 43 classes."""
    return OfficialRun(layout="mafw-compound")


RECIPES = MappingProxyType(
    {recipe.__name__: recipe for recipe in (grace_dfew, grace_ferv39k, grace_mafw, grace_mafw_compound)}
)


def recipe(name: str) -> OfficialRun:
    """A recipe by name, or a model's name for any data set.

    Raises:
        ConfigError: Neither.
    """
    if name in RECIPES:
        return RECIPES[name]()
    if name not in VARIANTS:
        known = (*RECIPES, *VARIANTS)
        raise ConfigError(
            f"unknown recipe or model {name!r}; did you mean {nearest_name(name, known)!r}? Known: {', '.join(known)}"
        )
    return OfficialRun(model=name)


def configure(
    name: str, *, encoder: str, select: str, views: int, flip: bool, seed: int, use_votes: bool = False
) -> OfficialRun:
    """A recipe with what the command line changes."""
    run = recipe(name)
    return replace(
        run,
        encoder=encoder,
        use_votes=use_votes,
        protocol=replace(run.protocol, select=select, times=views, with_flip=flip),
        training=replace(run.training, seed=seed),
    )


def run_official(
    store: Path | str,
    out: Path | str,
    run: OfficialRun,
    *,
    fold: str = "all",
    groups: Path | None = None,
    settings: Sequence[str] = (),
    workers: int | None = None,
    tell: Report | None = None,
) -> tuple[dict[str, Any], Path]:
    """Train and test every wanted fold; write ``fold-<name>/``, and over all folds of the release ``predictions.csv``, ``metrics.json`` and tables.

    Folds may be run one by one, by several machines too, into the same folder; the table over them is written by a run of all, which goes on from
    what is there.

    Tokens that are not there yet are encoded first. The same call goes on after an interruption; finished folds are trained again only if they have to.

    Args:
        fold: Name of a fold, or ``all``. settings: As of ``--set``.
        groups: CSV of attributes by clip, for scores by group (``datasets.with_groups``).

    Returns:
        The figures of ``metrics.json`` (pooled, and mean and spread over folds; those of the fold where one of several was run), and its folder.

    Raises:
        ConfigError: A wanted fold has no clips, a wrong setting, a recipe for another data set, or a folder that holds another run. CheckpointError: The store is not complete.
    """
    out, report = Path(out), tell or (lambda stage, done, of, note: None)
    faces = FaceStore.open(store)
    chosen = choose_folds(faces.release, fold)
    for one in chosen:
        split_fold(faces.release, one, run.protocol)
        if not one.test or not one.train:
            raise ConfigError(
                f"fold {one.name} has no {'test' if one.train else 'training'} clip; the release is not whole. Name another fold with --fold"
            )
    if groups is not None:
        with_groups(faces.release, groups)  # a wrong file is refused before any work
    tokens, planned = _ready(faces, run, settings, workers, report)
    training = asdict(planned(GraceConfig()).training)
    identity = {
        **asdict(run),
        "training": training,
        "layout": faces.release.layout,
        "annotations": faces.release.annotation_digest,
        "settings": sorted(settings),
    }
    claim_run(out, identity)
    jobs = [
        _FoldJob(
            path=faces.path, out=out / f"fold-{one.name}", run=run, fold=one, groups=groups, settings=tuple(settings)
        )
        for one in chosen
    ]
    results = []
    many = min(workers or os.cpu_count() or 1, len(jobs))
    if many == 1:
        results = [_run_fold(job, faces, tokens, planned, report) for job in jobs]
    else:
        # One thread each: the folds share out the cores, and the bytes are those of a run one after the other.
        report("folds", 0, len(jobs), "")
        for result in run_parallel(_fold_in_process, jobs, many):
            results.append(result)
            report("folds", len(results), len(jobs), f"fold {result.name} is done")
    if len(results) < len(faces.release.folds):
        return dict(read_json(jobs[0].out / "metrics.json")), jobs[0].out
    return write_official(out, run, faces.release.layout, results, tokens.features.statuses, training), out


@dataclass(frozen=True, kw_only=True, slots=True)
class _FoldJob:
    """One fold, for a process of its own."""

    path: Path
    out: Path
    run: OfficialRun
    fold: Fold
    groups: Path | None
    settings: tuple[str, ...]


def _fold_in_process(job: _FoldJob) -> FoldResult:
    faces = FaceStore.open(job.path)
    planned = _planner(faces, job.run, job.settings)
    tokens = open_tokens(faces, _token_config(job.run, planned))  # the command has encoded them
    return _run_fold(job, faces, tokens, planned, _silent)


def _run_fold(
    job: _FoldJob,
    faces: FaceStore,
    tokens: StoredTokens,
    planned: Callable[[GraceConfig], RunConfig],
    tell: Report,
) -> FoldResult:
    run = job.run
    release = faces.release if job.groups is None else with_groups(faces.release, job.groups)
    with one_thread():
        return run_fold(
            tokens,
            release,
            split_fold(release, job.fold, run.protocol),
            job.out,
            planned,
            run.protocol,
            model=run.model,
            encoder=run.encoder,
            use_votes=run.use_votes,
            tell=tell,
        )


def _silent(stage: str, done: int, of: int, note: str) -> None:
    """Progress that nobody watches."""


def _ready(
    faces: FaceStore, run: OfficialRun, settings: Sequence[str], workers: int | None, tell: Report
) -> tuple[StoredTokens, Callable[[GraceConfig], RunConfig]]:
    """The store's tokens, encoded if they have to be, and the settings of a run on them."""
    planned = _planner(faces, run, settings)
    config = _token_config(run, planned)
    encode_store(faces.path, config, workers=workers, verify=False, on_progress=lambda a, b: tell("tokens", a, b, ""))
    return open_tokens(faces, config), planned


def _token_config(run: OfficialRun, planned: Callable[[GraceConfig], RunConfig]) -> TokenConfig:
    return run.tokens(planned(GraceConfig()).model.motion_source)


def _planner(faces: FaceStore, run: OfficialRun, settings: Sequence[str]) -> Callable[[GraceConfig], RunConfig]:
    """Settings of model and training for given tokens; what is wrong with the run is refused here, before any work."""
    if run.use_votes and any(record.votes is None for record in faces.release.records):
        raise ConfigError(
            f"the clips of {faces.path.name}/ have no votes; run dferkit prepare with --votes first (no face is cut again)"
        )
    if run.layout and run.layout != faces.release.layout:
        raise ConfigError(
            f"the recipe is for {run.layout}, but {faces.path.name}/ holds {faces.release.layout}; take its recipe, or a model's name such as grace"
        )
    joint = joint_space_of(BOX_FOLDER, run.encoder)

    def planned(base: GraceConfig) -> RunConfig:
        config: RunConfig = apply_settings(RunConfig(model=variant(run.model, base), training=run.training), settings)
        check_joint(config.model, joint)
        return config

    planned(GraceConfig())
    return planned


def write_official(
    out: Path,
    run: OfficialRun,
    layout: str,
    results: Sequence[FoldResult],
    statuses: Mapping[str, ClipStatus],
    training: Mapping[str, Any],
) -> dict[str, Any]:
    """Scores over all folds that were run, of the chosen epochs and beside them of the last ones."""
    pooled, last = join([r.chosen for r in results]), summarize(join([r.last for r in results]))
    about = {
        "dataset": layout,
        "model": run.model,
        "encoder": run.encoder,
        "soft_labels": run.use_votes,
        "training": dict(training),
        "version": own_version(),
        "protocol": protocol_facts(run.protocol, *results),
        "last_epoch": {key: last[key] for key in ("uar", "war", "uar_ci95", "war_ci95")},
    }
    provenance = Provenance(
        model=run.model,
        calibration=UNCALIBRATED,
        trained_on=f"{layout}, the training side of each fold{leak_mark(run.protocol)}",
    )
    figures = write_scores(out, pooled, provenance, statuses=statuses, about=about, selection=run.protocol.select)
    rows: dict[str, Mapping[str, Any]] = {f"{run.model} on {layout}": figures}
    if run.protocol.select != "last":
        rows[f"{run.model} on {layout}, last epoch"] = {**last, "selection": "last"}
    write_results(out, rows)
    return {**figures, "protocol": about["protocol"], "last_epoch": about["last_epoch"]}


def train_whole(
    store: Path | str,
    out: Path,
    run: OfficialRun,
    *,
    settings: Sequence[str] = (),
    workers: int | None = None,
    tell: Report,
) -> Checkpoint:
    """A model trained on every clip of a store, less a validation block with the rule ``val``: for tests on another data set."""
    faces = FaceStore.open(store)
    tokens, planned = _ready(faces, run, settings, workers, tell)
    release = faces.release
    whole = Fold(name="whole", train=tuple(record.clip_id for record in release.records), test=())
    with one_thread():
        return train_fold(
        tokens, release, split_fold(release, whole, run.protocol), out, planned, run.protocol, model=run.model, encoder=run.encoder,
        use_votes=run.use_votes, tell=tell,
    ).checkpoint  # fmt: skip
