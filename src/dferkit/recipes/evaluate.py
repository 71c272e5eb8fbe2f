"""``dferkit evaluate``: a checkpoint's scores on labelled clips; of a store over several processes under ``torchrun``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from dferkit.datasets.protocol import NOT_RECORDED, RULE_TEXT, ProtocolConfig, choose_folds
from dferkit.errors import ConfigError, ManifestError
from dferkit.evaluation.gather import gather_clips
from dferkit.evaluation.scored import ScoredClips, join
from dferkit.faces import build_detector
from dferkit.faces.clip import read_clip_faces
from dferkit.models.checkpoint import Checkpoint
from dferkit.models.installed import check_fits
from dferkit.readings import ClassTables, OnnxFrames
from dferkit.recipes.baselines import Baseline, answer_baselines, open_baselines
from dferkit.recipes.data import DataOptions, ListedClips, StoreClips, for_labels, open_clips
from dferkit.recipes.folds import sampling_facts, token_config
from dferkit.recipes.provenance import check_not_trained_on
from dferkit.recipes.scores import BASELINES, provenance_of, score_baselines, scored_clips, write_scores
from dferkit.reports.tables import own_version
from dferkit.schema import ClipStatus, FaceClip, Fold, Record, ReportProgress
from dferkit.tokens.features import TokenConfig
from dferkit.tokens.stored import encode_store, open_tokens, read_view
from dferkit.tokens.views import clip_views
from dferkit.training.score import score

_LONGEST_WAIT = timedelta(days=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRun:
    """What is scored.

    Attributes:
        fold: Of a store: a name, or ``all``; empty for the one that the checkpoint was trained for, else all.
        protocol: Views of a store's clips. baselines: Other classifiers, scored on the same clips.
    """

    fold: str = ""
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    baselines: tuple[Baseline, ...] = ()
    options: DataOptions = field(default_factory=DataOptions)
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """Figures of ``metrics.json``, and what became of every clip."""

    figures: Mapping[str, Any]
    statuses: Mapping[str, ClipStatus]


def evaluate(
    data: Path | str, checkpoint: Checkpoint, out: Path | str, run: EvaluationRun, report: ReportProgress
) -> EvaluationResult | None:
    """Score a checkpoint on the test clips of a ``clips.csv`` (all rows without a split column) or of a store's fold; write ``metrics.json`` and
    ``predictions.csv``.

    Under ``torchrun`` every process answers its share of a store's clips; rows are gathered, each clip counts once, and the figures are computed once on all.

    Returns:
        None in processes other than the first.

    Raises:
        ManifestError: The list is wrong or has no test row, or a baseline's table cannot be used. DataError: None of the videos could be used.
        ConfigError: A clip is of a class that the model lacks (see ``dferkit transfer``), no such fold, or the model was trained on the test clips.
        CheckpointError: The checkpoint was trained on top of other parts than those installed.
    """
    out = Path(out)
    clips = open_clips(data, out / "cache", run.options, model_labels=checkpoint.labels)
    if isinstance(clips, StoreClips):
        return _evaluate_store(clips, checkpoint, out, run, report)
    return _evaluate_list(clips, checkpoint, out, run, report)


def _evaluate_list(
    clips: ListedClips, checkpoint: Checkpoint, out: Path, run: EvaluationRun, report: ReportProgress
) -> EvaluationResult:
    records = clips.sides().of("test")
    if not records:
        raise ManifestError(
            f"{clips.name} has a split column, but no row with split test; give one, or leave the column out"
        )
    check_not_trained_on(
        checkpoint,
        clips,
        [record.clip_id for record in records],
        "mark clips for testing with split test before training",
    )
    sources = open_baselines(run.baselines, records, checkpoint.labels)
    check_fits(checkpoint)
    config = TokenConfig(
        encoder=str(checkpoint.about["encoder"]), motion=checkpoint.model.motion_source, device=run.device
    )
    data = clips.read(records, config, part="test", report=report)
    scored = scored_clips(records, score(checkpoint, data, device=run.device).of_clips(), checkpoint.labels)
    detector = build_detector(clips.face)

    def read_clip(record: Record) -> FaceClip | None:
        return read_clip_faces(record, detector, num_samples=config.num_samples).clip

    found = answer_baselines(
        sources, records, read_clip=read_clip, on_progress=lambda a, b: report("baselines", a, b, "")
    )
    beside = score_baselines(sources, {n: scored_clips(records, a, checkpoint.labels) for n, a in found.items()}, out)
    about = {**_about(checkpoint), "face": clips.face}
    figures = write_scores(
        out, scored, provenance_of(checkpoint), statuses=data.statuses, about=about, further={BASELINES: beside}
    )
    return EvaluationResult(figures=figures, statuses=data.statuses)


def _evaluate_store(
    clips: StoreClips, checkpoint: Checkpoint, out: Path, run: EvaluationRun, report: ReportProgress
) -> EvaluationResult | None:
    clips = for_labels(clips, checkpoint.labels)
    is_own = checkpoint.about.get("annotation_digest") == clips.about["annotation_digest"]
    own = str(checkpoint.about.get("fold", "")) if is_own else ""
    own = own if own in [fold.name for fold in clips.folds] else ""
    folds = choose_folds(clips.store.release, run.fold or own or "all")
    by_id = {record.clip_id: record for record in clips.records}
    tested = {clip_id for one in folds for clip_id in one.test}
    check_not_trained_on(checkpoint, clips, tested, f"choose --fold {own}" if own else "choose another data set")
    sources = open_baselines(run.baselines, [r for r in clips.records if r.clip_id in tested], checkpoint.labels)
    check_fits(checkpoint)
    config = token_config(
        run.protocol,
        encoder=str(checkpoint.about["encoder"]),
        motion=checkpoint.model.motion_source,
        device=run.device,
    )
    with processes() as (rank, world):
        _encode_shares(clips, config, rank, world, report)
        data = open_tokens(clips.store, config).with_labels(checkpoint.labels)
        parts = []
        for one in folds:
            # A process without a clip of its own answers the first one again; gathered, each counts once.
            mine = [by_id[clip_id] for clip_id in one.test[rank::world] or one.test[:1]]
            rows = data.of_clips((r.clip_id for r in mine), all_views=True)
            answered = score(checkpoint, rows, device=run.device).of_clips()
            found = scored_clips(mine, answered, checkpoint.labels, fold=one.name, among=clips.records)
            parts.append(gather_clips(found, order=one.test))
        if rank:
            return None
        scored = join(parts)
    selection = checkpoint.about.get("selection")
    used = {one.name: len(set(data.of_clips(one.test).clip_ids)) for one in folds}
    about = {
        **_about(checkpoint),
        "dataset": clips.name,
        "encoder": checkpoint.about["encoder"],
        "protocol": {
            "selection_rule": RULE_TEXT[selection] if selection else NOT_RECORDED,
            "clips": {one.name: {"test": {"listed": len(one.test), "used": used[one.name]}} for one in folds},
            **sampling_facts(run.protocol, data.of_clips(scored.clip_ids, all_views=True).num_views()),
        },
    }
    beside = _score_beside(sources, clips, folds, checkpoint.labels, out, report)
    figures = write_scores(
        out,
        scored,
        provenance_of(checkpoint),
        statuses=data.statuses,
        about=about,
        further={"selection": selection, BASELINES: beside},
    )
    return EvaluationResult(figures=figures, statuses=data.statuses)


def _about(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "model": checkpoint.about["name"],
        "front_end": checkpoint.about["front_end"],
        "weights_sha256": checkpoint.digest,
        "trained_on": checkpoint.about["trained_on"],
        "calibration": checkpoint.about["calibration"],
        "version": own_version(),
    }


@contextlib.contextmanager
def processes() -> Iterator[tuple[int, int]]:
    """(rank, number of processes); joins the group that ``torchrun`` describes, if there is one."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield 0, 1
        return
    try:
        # Few small tensors travel; others wait at the barrier while one still encodes.
        dist.init_process_group("gloo", timeout=_LONGEST_WAIT)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"the variables of torchrun are not usable ({str(error).splitlines()[0]}); start with torchrun, or unset WORLD_SIZE"
        ) from error
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()


def _encode_shares(clips: StoreClips, config: TokenConfig, rank: int, world: int, report: ReportProgress) -> None:
    """Encode what is missing; every process its share of the shards."""
    share = max((clips.workers or os.cpu_count() or 1) // world, 1)

    def encode(part: tuple[int, int]) -> None:
        encode_store(
            clips.store.path, config, shard=part, workers=share, verify=False, on_progress=lambda a, b: report("tokens", a, b, "")
        )  # fmt: skip

    encode((rank, world))
    if world > 1:
        dist.barrier()
        if rank == 0:
            encode((0, 1))  # all shards are there: this writes the index
        dist.barrier()


def _score_beside(
    sources: Mapping[str, ClassTables | OnnxFrames],
    clips: StoreClips,
    folds: Sequence[Fold],
    labels: tuple[str, ...],
    out: Path,
    report: ReportProgress,
) -> dict[str, dict[str, Any]]:
    """Figures of other classifiers on the middle view of the same clips."""

    def read_clip(record: Record) -> FaceClip | None:
        count = clips.store.num_frames(record.clip_id)
        return (
            read_view(clips.store, record.clip_id, clip_views(count, TokenConfig().num_samples)[0]) if count else None
        )

    by_id = {record.clip_id: record for record in clips.records}
    records = [by_id[clip_id] for clip_id in dict.fromkeys(clip_id for one in folds for clip_id in one.test)]
    answers = answer_baselines(
        sources, records, read_clip=read_clip, on_progress=lambda a, b: report("baselines", a, b, "")
    )

    def scored(of_clip: Mapping[str, np.ndarray]) -> ScoredClips:
        parts = [
            scored_clips([by_id[i] for i in one.test], of_clip, labels, fold=one.name, among=clips.records)
            for one in folds
        ]
        return join(parts)

    return score_baselines(sources, {name: scored(of_clip) for name, of_clip in answers.items()}, out)
