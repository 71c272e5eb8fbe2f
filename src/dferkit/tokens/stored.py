"""A store's faces → a frozen encoder's tokens in the same folder, shard by shard → a data set.

Every shard of faces gets one shard of tokens; it is keyed by its clips and the encoder's weights, so that a changed clip or another encoder is
encoded again and the rest is kept.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dferkit.devices import device_facts
from dferkit.encoders.landmarks import require_landmarks, share_seen
from dferkit.encoders.open import describer_of, open_visual_encoder
from dferkit.encoders.protocols import DescribingEncoder, VisualEncoder, num_tokens
from dferkit.errors import CheckpointError, ConfigError, DataError
from dferkit.faces.read import LOW_COVERAGE_BELOW
from dferkit.faces.status import landmarks_missing
from dferkit.parallel import run_parallel
from dferkit.preparation import FaceStore
from dferkit.preparation.shards import StoreFolder, num_shards, places
from dferkit.schema import FaceClip
from dferkit.storage import atomic_path, digest_file, digest_json, read_json, write_json
from dferkit.tokens.dataset import TokenDataset
from dferkit.tokens.features import (
    TokenConfig,
    dataset_of,
    digest_tensors,
    encode_clips,
    one_thread,
    refuse_motion,
    stored_key,
)
from dferkit.tokens.rows import TokenRows
from dferkit.tokens.views import View, clip_views

_CLIPS_AT_ONCE = 16
IN_MEMORY_BYTES = 2 * 2**30
"""Tokens up to this size are held in memory; larger sets stay on disk and are read by the batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Encoders:
    visual: VisualEncoder
    describer: DescribingEncoder

    @classmethod
    def load(cls, config: TokenConfig) -> _Encoders:
        visual = open_visual_encoder(config.encoder, box=config.box, device=config.device)
        return cls(visual=visual, describer=describer_of(visual, config.box, device=config.device))

    def key(self, config: TokenConfig) -> str:
        """What the tokens are made with; where its files lie does not matter."""
        settings = {name: getattr(config, name) for name in ("num_samples", "times", "with_flip", "motion")}
        made_by = {"encoder": self.visual.digest, "describer": self.describer.digest, **device_facts(config.device)}
        return digest_json({**settings, **made_by})


def token_folder(store: Path, name: str, key: str) -> Path:
    """Folder of one encoder's tokens in a store."""
    return store / "tokens" / f"{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-')}-{key[:12]}"


def encode_store(
    store: Path | str,
    config: TokenConfig | None = None,
    *,
    shard: tuple[int, int] = (0, 1),
    workers: int | None = None,
    verify: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, list[int]]:
    """Encode the faces of a store; what is there already and whole is kept.

    Args:
        shard: (i, n): this process encodes every n-th shard from the i-th on; processes may run at once.
        verify: Check every byte of what is there; otherwise only what it was made of.

    Returns:
        The folder of the tokens, and the numbers of the shards that are still missing (other processes' ones).

    Raises:
        CheckpointError: The store is not complete, or the encoder cannot be loaded.
    """
    config = config or TokenConfig()
    faces = FaceStore.open(store)
    encoders = _Encoders.load(config)
    refuse_motion(encoders.visual, config.motion)
    if encoders.visual.needs_landmarks and config.with_flip:
        raise ConfigError(
            "mirrored views are for pixels: landmarks have other numbers in a mirrored face; leave --flip out"
        )
    key = encoders.key(config)
    folder = token_folder(faces.path, encoders.visual.name, key)
    num_clips = len(faces.release.records)
    numbers = range(num_shards(num_clips))
    mine = [number for number in numbers if number % shard[1] == shard[0]]
    keys = {number: _shard_key(faces, number, key) for number in numbers}
    sweep(folder, mine)
    is_there = stored_key if verify else _noted_key
    todo = [number for number in mine if is_there(_file(folder, number)) != keys[number]]
    done = sum(len(places(number, num_clips)) for number in mine if number not in todo)
    of = sum(len(places(number, num_clips)) for number in mine)
    if on_progress and of:
        on_progress(done, of)
    jobs = ((str(faces.path), number, config, str(_file(folder, number)), keys[number]) for number in todo)
    for count in run_parallel(_encode_shard, jobs, workers or os.cpu_count() or 1, in_order=False):
        done += count
        if on_progress:
            on_progress(done, of)
    missing = [number for number in numbers if _noted_key(_file(folder, number)) != keys[number]]
    if not missing:
        # Paths stay out: the folder may be moved with its store.
        settings = {name: getattr(config, name) for name in ("num_samples", "times", "with_flip", "motion")}
        describer = encoders.describer
        write_json(
            folder / "index.json",
            {
                "key": key,
                "encoder": encoders.visual.name,
                "digest": encoders.visual.digest,
                "grid": list(encoders.visual.grid),
                "areas": list(encoders.visual.areas),
                "au_names": list(describer.au_names),
                "describer": describer.name,
                "settings": settings,
                "shards": [_about(_file(folder, number))["sha256"] for number in numbers],
            },
        )
    return folder, missing


def _file(folder: Path, number: int) -> Path:
    return folder / f"tokens-{number:05d}.safetensors"


def _shard_key(faces: FaceStore, number: int, key: str) -> str:
    clips = [faces.release.records[i].clip_id for i in places(number, len(faces.release.records))]
    return digest_json([key, [[clip_id, faces.digest(clip_id)] for clip_id in clips]])


def sweep(folder: Path, numbers: Iterable[int]) -> None:
    """Remove what killed processes left of these shards."""
    for number in numbers:
        for left in folder.glob(f".tokens-{number:05d}.*"):
            left.unlink(missing_ok=True)


def _noted_key(path: Path) -> str:
    """Key that is noted in a shard; empty where there is none."""
    try:
        return str(_about(path)["key"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return ""


def _about(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as handle:
        return dict(json.loads(handle.metadata()["about"]))


@functools.lru_cache(maxsize=1)
def _opened(store: str, content: str, config: TokenConfig) -> tuple[FaceStore, _Encoders]:
    """Store and encoders, loaded once per process and content."""
    return FaceStore.open(store), _Encoders.load(config)


def _encode_shard(job: tuple[str, int, TokenConfig, str, str]) -> int:
    with one_thread():
        return _encode(*job)


def _encode(store: str, number: int, config: TokenConfig, out: str, key: str) -> int:
    cv2.setNumThreads(1)
    faces, encoders = _opened(store, digest_file(StoreFolder(Path(store)).about), config)
    records = faces.release.records
    rows: list[dict[str, Any]] = []
    parts: list[dict[str, Tensor]] = []
    pending: list[FaceClip] = []
    unseen: list[str] = []

    def flush() -> None:
        parts.append(
            encode_clips(
                pending, encoders.describer, encoders.visual, num_samples=config.num_samples, motion=config.motion
            )
        )
        pending.clear()

    for i in places(number, len(records)):
        clip_id = records[i].clip_id
        if not faces.num_frames(clip_id):
            continue
        if encoders.visual.needs_landmarks and not _is_measured(faces, clip_id):
            unseen.append(clip_id)
            continue
        views = clip_views(
            faces.num_frames(clip_id), config.num_samples, times=config.times, with_flip=config.with_flip
        )
        for view_number, view in enumerate(views):
            pending.append(read_view(faces, clip_id, view))
            rows.append({"clip_id": clip_id, "view": view_number, "frame_size": list(faces.frame_size(clip_id))})
        if len(pending) >= _CLIPS_AT_ONCE:
            flush()
    flush()
    tensors = {name: torch.cat([part[name] for part in parts]).contiguous() for name in parts[0]}
    _require_finite(tensors["visual"], rows, encoders.visual.name)
    about = {"key": key, "sha256": digest_tensors(tensors), "rows": rows, "unseen": unseen}
    with atomic_path(out) as temporary:
        save_file(tensors, temporary, metadata={"about": json.dumps(about, sort_keys=True)})
    return len(places(number, len(records)))


def _is_measured(faces: FaceStore, clip_id: str) -> bool:
    """The landmarker saw the face in most frames.

    Raises:
        DataError: The faces were stored without landmarks.
    """
    return share_seen(require_landmarks(faces.landmarks(clip_id))) >= LOW_COVERAGE_BELOW


def _require_finite(visual: Tensor, rows: Sequence[dict[str, Any]], encoder: str) -> None:
    bad = (~torch.isfinite(visual).flatten(1).all(1)).nonzero()[:, 0].tolist() if len(visual) else []
    if bad:
        raise DataError(f"{encoder} gave tokens of {rows[bad[0]]['clip_id']} that are not finite; use other weights")


def read_view(faces: FaceStore, clip_id: str, view: View) -> FaceClip:
    """A view of a stored clip."""
    clip = faces.read(clip_id, view.frames)
    return replace(clip, images=np.ascontiguousarray(clip.images[:, :, ::-1])) if view.is_flipped else clip


def open_tokens(
    store: FaceStore, config: TokenConfig | None = None, *, in_memory_bytes: int = IN_MEMORY_BYTES
) -> TokenDataset:
    """The tokens that ``encode_store`` made of this store with these settings.

    Args:
        in_memory_bytes: Larger token sets stay on disk.

    Raises:
        CheckpointError: They are not there, not complete, or not of this store's clips.
    """
    config = config or TokenConfig()
    encoders = _Encoders.load(config)
    key = encoders.key(config)
    folder = token_folder(store.path, encoders.visual.name, key)
    if not (folder / "index.json").is_file():
        raise CheckpointError(
            f"{store.path.name}/ has no tokens of {encoders.visual.name} with these settings; run dferkit encode"
        )
    num_clips = len(store.release.records)
    paths = [_file(folder, number) for number in range(num_shards(num_clips))]
    columns: dict[str, list[Tensor]] = {}
    rows: list[dict[str, Any]] = []
    unseen: list[str] = []
    places_of: list[tuple[int, int]] = []
    digests = []
    for number, path in enumerate(paths):
        try:
            noted = _about(path)
            if noted["key"] != _shard_key(store, number, key):
                raise CheckpointError(f"{path.name} was made from other faces; run dferkit encode again")
            with safe_open(path, framework="pt") as handle:
                for name in set(handle.keys()) - {"visual"}:
                    columns.setdefault(name, []).append(handle.get_tensor(name))
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path.name} is missing or damaged; run dferkit encode again") from error
        places_of += [(number, row) for row in range(len(noted["rows"]))]
        rows += noted["rows"]
        unseen += noted["unseen"]
        digests.append(str(noted["sha256"]))
    about = read_json(folder / "index.json")
    if about["shards"] != digests:
        raise CheckpointError(f"the shards in {folder.name}/ are not those of its index; run dferkit encode again")
    if not rows:
        raise DataError(f"no clip of {store.path.name}/ has a face; see its index.csv")
    lazy = TokenRows(
        paths=tuple(paths),
        tensor="visual",
        places=np.array(places_of, dtype=np.int64),
        row_shape=(encoders.visual.num_frames, num_tokens(encoders.visual), encoders.visual.dim),
        dtype=torch.float16,
        digests=tuple(digests),
    )
    tensors: dict[str, Any] = {name: torch.cat(parts) for name, parts in columns.items()}
    tensors["visual"] = lazy.load() if lazy.num_bytes <= in_memory_bytes else lazy
    tensors["frame_sizes"] = torch.tensor([row["frame_size"] for row in rows])
    record_of = {record.clip_id: record for record in store.release.records}
    return dataset_of(
        [record_of[row["clip_id"]] for row in rows],
        store.release.labels,
        tensors,
        about,
        statuses={**store.statuses, **{clip_id: landmarks_missing(store.statuses[clip_id]) for clip_id in unseen}},
        view=np.array([row["view"] for row in rows]),
    )
