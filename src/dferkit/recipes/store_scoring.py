"""A checkpoint's scores on the test clips of a prepared store; over several processes under ``torchrun``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from dferkit.datasets import with_groups
from dferkit.datasets.protocol import NOT_RECORDED, RULE_TEXT, ProtocolConfig, choose_folds
from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.text import TextEncoder
from dferkit.errors import ConfigError
from dferkit.evaluation.gather import gather_clips
from dferkit.evaluation.scored import ScoredClips, join
from dferkit.models.checkpoint import Checkpoint
from dferkit.preparation import FaceStore
from dferkit.readings import ClassTables, OnnxFrames
from dferkit.recipes.baselines import Baseline, answer_baselines, open_baselines
from dferkit.recipes.fold_run import Report, answer_clips, sampling_facts
from dferkit.recipes.scoring import provenance_of, score_baselines, scored_clips, write_scores
from dferkit.reports.tables import own_version
from dferkit.schema import FaceClip, Fold, Record, Release
from dferkit.tokens.stored import TokenConfig, encode_store, look, open_tokens
from dferkit.tokens.views import clip_views

_LONGEST_WAIT = timedelta(days=2)


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


def _own_fold(checkpoint: Checkpoint, release: Release) -> str:
    if checkpoint.about.get("annotation_digest") == release.annotation_digest:
        return str(checkpoint.about["fold"])
    return "all"


def _check_unseen(checkpoint: Checkpoint, release: Release, folds: tuple[Fold, ...]) -> None:
    """Refuse to score a model on clips that it was trained on."""
    about = checkpoint.about
    if about.get("annotation_digest") != release.annotation_digest:
        return
    own = next((fold for fold in release.folds if fold.name == about["fold"]), None)
    seen = {record.clip_id for record in release.records} if own is None else set(own.train)
    tested = {clip_id for fold in folds for clip_id in fold.test}
    if tested & seen:
        advice = f"--fold {own.name}" if own else "another data set"
        raise ConfigError(
            f"the model was trained on {len(tested & seen):,} of these {len(tested):,} test clips (fold {about['fold']}); choose {advice}"
        )


def evaluate_store(
    store: Path | str,
    checkpoint: Checkpoint,
    out: Path | str,
    *,
    fold: str = "",
    protocol: ProtocolConfig,
    groups: Path | None = None,
    baselines: Sequence[Baseline] = (),
    workers: int | None = None,
    tell: Report | None = None,
) -> dict[str, Any] | None:
    """Score the test clips of a fold and write ``predictions.csv`` and ``metrics.json``.

    Under ``torchrun`` every process answers its share of the clips; rows are gathered, each clip counts once, and the figures are worked out once on all.

    Args:
        fold: Name of a fold, or ``all``; by default the one that the checkpoint was trained for, else all.
        groups: CSV of attributes by clip, for scores by group (``datasets.with_groups``).
        baselines: Other classifiers, scored on the same clips by the first process.

    Returns:
        The figures; None in processes other than the first.

    Raises:
        ConfigError: The data set has other classes than the model (see ``dferkit transfer``), no such fold, or one whose test clips it was trained on.
    """
    out, report = Path(out), tell or (lambda stage, done, of, note: None)
    faces = FaceStore.open(store)
    release = faces.release if groups is None else with_groups(faces.release, groups)
    if set(release.labels) != set(checkpoint.labels):
        raise ConfigError(
            f"the model has {len(checkpoint.labels)} classes and {release.layout} {len(release.labels)} others; use dferkit transfer, which scores the shared ones"
        )
    folds = choose_folds(release, fold or _own_fold(checkpoint, release))
    _check_unseen(checkpoint, release, folds)
    tested = {clip_id for one in folds for clip_id in one.test}
    sources = open_baselines(baselines, [r for r in release.records if r.clip_id in tested], checkpoint.labels)
    config = TokenConfig.for_protocol(
        protocol, encoder=str(checkpoint.about["encoder"]), motion=checkpoint.model.motion_source
    )
    text_encoder = TextEncoder(BOX_FOLDER / "text")
    with processes() as (rank, world):
        share = max((workers or os.cpu_count() or 1) // world, 1)

        def encode(part: tuple[int, int]) -> None:
            encode_store(
                faces.path,
                config,
                shard=part,
                workers=share,
                verify=False,
                on_progress=lambda a, b: report("tokens", a, b, ""),
            )

        encode((rank, world))
        if world > 1:
            dist.barrier()
            if rank == 0:
                encode((0, 1))  # all shards are there: this writes the index
            dist.barrier()
        tokens = open_tokens(faces, config)
        parts = []
        for one in folds:
            # A process without a clip of its own answers the first one again; gathered, each counts once.
            mine = one.test[rank::world] or one.test[:1]
            [rows] = answer_clips(checkpoint, tokens, mine, release, fold=one.name, text_encoder=text_encoder)
            parts.append(gather_clips(rows, order=one.test))
        if rank:
            return None
        clips = join(parts)
    selection = checkpoint.about.get("selection")
    about = {
        "model": checkpoint.about["name"],
        "weights_sha256": checkpoint.digest,
        "trained_on": checkpoint.about["trained_on"],
        "calibration": checkpoint.about["calibration"],
        "version": own_version(),
        "dataset": release.layout,
        "encoder": checkpoint.about["encoder"],
        "protocol": {
            "selection_rule": RULE_TEXT[selection] if selection else NOT_RECORDED,
            "clips": {
                one.name: {"test": {"listed": len(one.test), "used": len(tokens.rows(one.test))}} for one in folds
            },
            **sampling_facts(protocol, tokens.num_views(clips.clip_ids)),
        },
    }
    statuses = tokens.features.statuses
    beside = _score_beside(sources, faces, folds, release, checkpoint.labels, out, report)
    return write_scores(
        out, clips, provenance_of(checkpoint), statuses=statuses, about=about, selection=selection, baselines=beside
    )


def _score_beside(
    sources: Mapping[str, ClassTables | OnnxFrames],
    faces: FaceStore,
    folds: Sequence[Fold],
    release: Release,
    labels: tuple[str, ...],
    out: Path,
    report: Report,
) -> dict[str, dict[str, Any]]:
    """Figures of the baselines on the test clips, fold by fold as the model's."""

    def read_clip(record: Record) -> FaceClip | None:
        count = faces.num_frames(record.clip_id)
        return look(faces, record.clip_id, clip_views(count, TokenConfig().num_samples)[0]) if count else None

    by_id = {record.clip_id: record for record in release.records}
    records = [by_id[clip_id] for clip_id in dict.fromkeys(clip_id for one in folds for clip_id in one.test)]
    answers = answer_baselines(
        sources, records, read_clip=read_clip, on_progress=lambda a, b: report("baselines", a, b, "")
    )

    def scored(of_clip: Mapping[str, np.ndarray]) -> ScoredClips:
        parts = [
            scored_clips([by_id[i] for i in one.test], of_clip, labels, fold=one.name, among=release.records)
            for one in folds
        ]
        return join(parts)

    return score_baselines(sources, {name: scored(of_clip) for name, of_clip in answers.items()}, out)
