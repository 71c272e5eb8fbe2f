"""The whole preparation: what is there, what is missing, the work on it, the tables at the end."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dferkit.errors import ConfigError, ManifestError
from dferkit.parallel import run_parallel
from dferkit.preparation.clip_job import ClipDone, ClipJob, close_landmarker, prepare_clip
from dferkit.preparation.config import PrepareConfig, resolve, settings_of
from dferkit.preparation.estimate import Estimate, free_bytes, spread
from dferkit.preparation.manifest import claim_folder, missing_shards, read_counts, release_json, write_tables
from dferkit.preparation.shards import (
    StoreFolder,
    known_keys,
    locate,
    merge_shard,
    num_shards,
    places,
    read_header,
    remove_parts,
    sweep,
)
from dferkit.schema import Release
from dferkit.storage import digest_json

BACKENDS = ("local", "ray")


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Who does the work, and which part of it.

    Attributes:
        shard: (i, n): only shard files whose number divided by n leaves i. Whoever finishes last writes the tables.
        workers: Processes; all cores by default. backend: ``local``, or ``ray`` for a cluster with shared files.
        verify: Check every stored picture against its digest, and make again what is damaged.
    """

    shard: tuple[int, int] = (0, 1)
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    backend: str = "local"
    verify: bool = False

    def __post_init__(self) -> None:
        which, of = self.shard
        if of < 1 or not 0 <= which < of:
            raise ConfigError(f"shard {which}/{of} is not usable: give i/n with i from 0 to n - 1, such as 0/4")
        if self.backend not in BACKENDS:
            raise ConfigError(f"backend {self.backend!r} is unknown: give one of {', '.join(BACKENDS)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """What a call of ``prepare_faces`` did.

    Attributes:
        statuses: Clips per status, of this process's shards. num_bytes: Of these shards.
        num_new: Clips that were made now, with ``num_frames`` frames in ``cpu_seconds`` of all processes together.
        missing: Numbers of the shards that other processes still have to make; empty when the store is complete.
    """

    path: Path
    statuses: dict[str, int]
    num_bytes: int
    num_new: int
    num_frames: int
    cpu_seconds: float
    missing: tuple[int, ...]

    @property
    def num_clips(self) -> int:
        """Of this process's shards."""
        return sum(self.statuses.values())


def prepare_faces(
    release: Release,
    root: Path | str,
    out: Path | str,
    config: PrepareConfig | None = None,
    *,
    work: Work | None = None,
    on_estimate: Callable[[Estimate], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Preparation:
    """Store the faces of a release. What is stored already is kept; the same call resumes a killed one.

    Args:
        root: Folder that the records' paths lie below. out: Folder of the store. work: All of it, on all cores, by default.
        on_estimate: Called once, before the long work.

    Raises:
        ConfigError: A setting is wrong, the folder holds something else, or the disk is too small.
        ManifestError: The release has no clips, or two of one name.
        BackendError: The detector or the backend is not usable.
    """
    run = _Run.plan(release, root, out, config, work)
    if Path(out).resolve().is_relative_to(Path(root).resolve()):
        raise ConfigError(f"{Path(out).name}/ is inside the release; give a folder outside of it")
    run.folder.path.mkdir(parents=True, exist_ok=True)
    claim_folder(run.folder, run.release_value)
    sweep(run.folder, run.numbers)
    try:
        pending = run.pending()
        estimate, timed = run.time(pending, run.folder)
        if on_estimate:
            on_estimate(estimate)
        estimate.require_space(run.folder.path)
        return run.make(timed, on_progress)
    finally:
        close_landmarker(run.config.landmarker)


def estimate_preparation(
    release: Release,
    root: Path | str,
    out: Path | str,
    config: PrepareConfig | None = None,
    *,
    work: Work | None = None,
) -> Estimate:
    """What ``prepare_faces`` would take; nothing is kept.

    Raises:
        As ``prepare_faces``.
    """
    run = _Run.plan(release, root, out, config, work)
    if run.folder.release.is_file():
        claim_folder(run.folder, run.release_value)
    with tempfile.TemporaryDirectory() as elsewhere:
        try:
            return run.time(run.pending(), StoreFolder(Path(elsewhere)))[0]
        finally:
            close_landmarker(run.config.landmarker)


@dataclass(slots=True)
class _OpenShard:
    """A shard in work: clips still awaited, and the keys of those that came."""

    awaited: int
    keys: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """What one call has to do; every step reads it, none changes it."""

    release: Release
    folder: StoreFolder
    config: PrepareConfig
    front_end: str
    release_value: dict[str, Any]
    numbers: range
    work: Work

    @classmethod
    def plan(
        cls,
        release: Release,
        root: Path | str,
        out: Path | str,
        config: PrepareConfig | None,
        work: Work | None,
    ) -> _Run:
        work = work or Work()
        ids = [record.clip_id for record in release.records]
        if not ids:
            raise ManifestError(f"{release.layout}: the release has no clips")
        if len(set(ids)) < len(ids):
            twice = next(clip_id for clip_id in ids if ids.count(clip_id) > 1)
            raise ManifestError(f"{release.layout}: two clips are named {twice}")
        resolved, front_end = resolve(config or PrepareConfig(), release)
        return cls(
            release=release,
            folder=StoreFolder(Path(out)),
            config=resolved,
            front_end=front_end,
            release_value=release_json(release, Path(root), settings_of(resolved, front_end)),
            numbers=range(work.shard[0], num_shards(len(ids)), work.shard[1]),
            work=work,
        )

    @property
    def num_clips(self) -> int:
        """Of this process's shards."""
        return sum(len(places(number, len(self.release.records))) for number in self.numbers)

    def pending(self) -> list[int]:
        """Numbers of the records that are not stored."""
        found = []
        for number in self.numbers:
            there = self.known(number)
            found += [i for p, i in enumerate(places(number, len(self.release.records))) if not there.get(p)]
        return found

    def known(self, number: int) -> dict[int, str]:
        """Keys of a shard's stored clips, by place."""
        ids = [self.release.records[index].clip_id for index in places(number, len(self.release.records))]
        settings = digest_json(settings_of(self.config, self.front_end))
        return known_keys(self.folder, number, ids, settings, verify=self.work.verify)

    def time(self, pending: list[int], folder: StoreFolder) -> tuple[Estimate, list[ClipDone]]:
        """The estimate, and the clips that were made for it into ``folder``."""
        started = time.monotonic()
        timed = [prepare_clip(self.job(i, "", folder)) for i in (spread(pending) if pending else [])]
        seconds = time.monotonic() - started
        share = len(pending) / max(1, len(timed))
        estimate = Estimate(
            num_clips=self.num_clips,
            num_pending=len(pending),
            num_bytes=round(share * sum(done.num_bytes for done in timed)),
            hours=share * seconds / self.work.workers / 3600,
            workers=self.work.workers,
            free_bytes=free_bytes(self.folder.path),
        )
        return estimate, timed

    def job(self, index: int, known_key: str, folder: StoreFolder) -> ClipJob:
        """The job of one record."""
        number, place = locate(index)
        record = self.release.records[index]
        return ClipJob(
            shard=number,
            place=place,
            clip_id=record.clip_id,
            video=str(record.video.absolute()),
            part=str(folder.part(number, place).absolute()),
            known_key=known_key,
            config=self.config,
            front_end=self.front_end,
        )

    def jobs(self) -> Iterator[ClipJob]:
        """A job for every clip, also for stored ones: whether their source is still the same is found out there."""
        for number in self.numbers:
            there = self.known(number)
            for place, index in enumerate(places(number, len(self.release.records))):
                yield self.job(index, there.get(place, ""), self.folder)

    def results(self, jobs: Iterable[ClipJob]) -> Iterator[ClipDone]:
        """Results as they are finished."""
        if self.work.backend == "ray":
            from dferkit.preparation.on_ray import run_on_ray

            return run_on_ray(jobs)
        return run_parallel(prepare_clip, jobs, self.work.workers, in_order=False)

    def make(self, timed: list[ClipDone], on_progress: Callable[[int, int], None] | None) -> Preparation:
        """Make every clip, close every shard that is whole, write the tables when all are."""
        open_shards: dict[int, _OpenShard] = {}
        made = list(timed)
        num_new, num_frames, cpu_seconds = len(made), sum(d.num_frames for d in made), sum(d.cpu_seconds for d in made)
        for count, done in enumerate(self.results(self.jobs()), 1):
            shard = open_shards.setdefault(done.shard, _OpenShard(len(places(done.shard, len(self.release.records)))))
            shard.awaited -= 1
            shard.keys[done.place] = done.key
            num_new, num_frames = num_new + done.is_new, num_frames + done.num_frames
            cpu_seconds += done.cpu_seconds
            if shard.awaited == 0:
                self.close(done.shard, open_shards.pop(done.shard).keys)
            if on_progress:
                on_progress(count, self.num_clips)
        missing = missing_shards(self.folder, len(self.release.records))
        if not missing:
            write_tables(self.folder, self.release_value)
        return Preparation(
            path=self.folder.path,
            statuses=dict(read_counts(self.folder, self.numbers, len(self.release.records))),
            num_bytes=sum(self.folder.shard(number).stat().st_size for number in self.numbers),
            num_new=num_new,
            num_frames=num_frames,
            cpu_seconds=cpu_seconds,
            missing=tuple(missing),
        )

    def close(self, number: int, keys: dict[int, str]) -> None:
        """Merge a shard, unless the file that is there has exactly these clips and no part was made again."""
        abouts = read_header(self.folder.shard(number)) or []
        is_there = {place: about["key"] for place, about in enumerate(abouts)} == keys
        if not is_there or self.folder.parts(number).is_dir():
            merge_shard(self.folder, number, keys)
        remove_parts(self.folder, number)
