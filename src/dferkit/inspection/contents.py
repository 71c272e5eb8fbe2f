"""Clips that are there more than once: the same bytes, or pictures that look the same."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8, UInt64

from dferkit.errors import DataError
from dferkit.parallel import run_parallel
from dferkit.schema import Frames, Record
from dferkit.video import clip_window, decode_source, index_frame_folder, index_source

NUM_HASHES = 8
SAME_BELOW = 6.0
"""Two clips look the same when their perceptual hashes differ by at most so many of 64 bits, on average over eight frames."""

_SIDE, _KEPT = 32, 8
_UNREADABLE = (DataError, OSError, cv2.error)
_CHUNK = 64


def digest_clip(video: Path) -> str:
    """SHA-256 over the bytes of a video, or of all pictures of a folder in their order; names do not count."""
    digest = hashlib.sha256()
    for path in _files(video):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files(video: Path) -> list[Path]:
    if not video.is_dir():
        return [video]
    try:
        return [video / name for name in index_frame_folder(video).names]
    except DataError:
        return []


def same_bytes(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Groups of clips with equal bytes. Only clips of equal length are read."""
    by_size: dict[tuple[int, int], list[Record]] = defaultdict(list)
    for record in records:
        if record.video.exists():
            files = _files(record.video)
            by_size[len(files), sum(path.stat().st_size for path in files)].append(record)
    by_digest: dict[str, list[str]] = defaultdict(list)
    for (num_files, _), members in by_size.items():
        if len(members) > 1 and num_files:
            for record in members:
                by_digest[digest_clip(record.video)].append(record.clip_id)
    return [tuple(clips) for clips in by_digest.values() if len(clips) > 1]


def perceptual_hash(image: UInt8[np.ndarray, "height width"]) -> int:
    """64 bits: which of the 8×8 lowest cosine frequencies of a grey picture are above their median.

    Source: the pHash of Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010. Survives scaling and compression.
    """
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:_KEPT, :_KEPT].ravel()
    return int(np.packbits(low > np.median(low[1:])).view(">u8")[0])


def hash_clip(video: Path) -> UInt64[np.ndarray, " 8"] | None:
    """Hashes of eight frames spread over the clip; None where it cannot be read."""
    greys = list(_greys(video))
    return np.array([perceptual_hash(grey) for grey in greys], dtype=np.uint64) if len(greys) == NUM_HASHES else None


def _sample(video: Path) -> Frames:
    """Eight frames spread over the clip; raises one of ``_UNREADABLE``."""
    source = index_source(video)
    return next(decode_source(source, [clip_window(source.duration_seconds, NUM_HASHES)]))


def _greys(video: Path) -> Iterator[np.ndarray]:
    try:
        frames = _sample(video)
    except _UNREADABLE:
        return
    yield from (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in frames.images)


def why_unreadable(video: Path) -> str:
    """Why a clip that has no hash cannot be read."""
    try:
        _sample(video)
    except _UNREADABLE as error:
        return str(error)
    return "fewer pictures can be read than are needed"


def _hash_chunk(videos: Sequence[str]) -> list[np.ndarray | None]:
    cv2.setNumThreads(1)
    return [hash_clip(Path(video)) for video in videos]


def hash_all(
    records: Sequence[Record], *, workers: int, on_progress: Callable[[int, int], None] | None = None
) -> dict[str, np.ndarray | None]:
    """Hashes by clip id; None for a clip that cannot be read."""
    there = [record for record in records if _files(record.video) and record.video.exists()]
    chunks = [there[i : i + _CHUNK] for i in range(0, len(there), _CHUNK)]
    found: dict[str, np.ndarray | None] = {}
    done = 0
    jobs = [[str(record.video) for record in chunk] for chunk in chunks]
    for chunk, hashes in zip(chunks, run_parallel(_hash_chunk, jobs, workers), strict=True):
        found |= {r.clip_id: h for r, h in zip(chunk, hashes, strict=True)}
        done += len(chunk)
        if on_progress:
            on_progress(done, len(there))
    return found


def near_duplicates(
    hashes: Mapping[str, np.ndarray], is_apart: Callable[[str, str], bool]
) -> list[tuple[str, str, float]]:
    """Pairs of clips that look the same, with the mean number of differing bits.

    Args:
        is_apart: Whether two clips are on different sides of a split; only such pairs are reported.
    """
    names = list(hashes)
    if not names:
        return []
    table = np.stack([hashes[name] for name in names])
    pairs = []
    for first in range(0, len(names), 512):
        # One frame in the middle first: its distance bounds nothing, but equal clips are close in every frame.
        near = np.bitwise_count(table[first : first + 512, None, NUM_HASHES // 2] ^ table[None, :, NUM_HASHES // 2])
        rows, columns = np.nonzero(near <= 2 * SAME_BELOW)
        i, j = (part[first + rows < columns] for part in (first + rows, columns))
        distance = np.bitwise_count(table[i] ^ table[j]).mean(1)
        for a, b, bits in zip(*(part[distance <= SAME_BELOW] for part in (i, j, distance)), strict=True):
            if is_apart(names[a], names[b]):
                pairs.append((names[a], names[b], float(bits)))
    return pairs
