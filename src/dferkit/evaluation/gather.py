"""Evaluation over several processes: the rows are gathered, then scored once.

A mean of per-process scores is not the score: UAR is no mean over clips, and padded samplers count some clips twice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from dferkit.errors import DataError
from dferkit.evaluation.scored import ScoredClips, join


def gather_clips(
    rows: ScoredClips,
    *,
    order: Sequence[str] | None = None,
    tolerance: float = 1e-3,
    group: dist.ProcessGroup | None = None,
) -> ScoredClips:
    """The rows of all processes on every process: each clip of a fold once, in a fixed order.

    Without a process group the rows are those of this process; repeats are dropped and the order is the same, so that
    the same code serves both. Collective: every process of the group has to call it, with the same classes and columns.

    Args:
        rows: Of this process; may be none, and may repeat clips of others (padding).
        order: Clip ids in the wanted order, such as that of the official list; by default sorted by fold and clip id.
        tolerance: Largest distance of the probabilities of one clip that two processes answered. Larger than that of
            ``join``, since half precision in another batch differs by about this much; the lowest rank's row is kept.

    Raises:
        DataError: Two rows of a clip contradict each other, processes have different classes or columns, or the clips are not
            those of ``order``. Raised on every process alike, so none is left waiting.
    """
    is_distributed = dist.is_available() and dist.is_initialized()
    whole = join(_exchange(rows, group) if is_distributed else [rows], tolerance=tolerance)
    if order is None:
        return whole.take(
            np.array(sorted(range(len(whole.clip_ids)), key=lambda i: (whole.folds[i], whole.clip_ids[i])), dtype=int)
        )
    place = {clip_id: i for i, clip_id in enumerate(order)}
    missing = place.keys() - set(whole.clip_ids)
    extra = set(whole.clip_ids) - place.keys()
    if missing or extra:
        raise DataError(
            f"{len(missing)} of {len(place)} clips were not scored by any process, and {len(extra)} were scored that are not listed (such as {min(missing | extra)})"
        )
    return whole.take(np.array(sorted(range(len(whole.clip_ids)), key=lambda i: place[whole.clip_ids[i]]), dtype=int))


def _exchange(rows: ScoredClips, group: dist.ProcessGroup | None) -> list[ScoredClips]:
    """Rows of each process, by rank. Texts travel as the bytes of a JSON: nothing is unpickled."""
    texts = json.dumps(
        {
            "labels": rows.labels,
            "clip_ids": rows.clip_ids,
            "folds": rows.folds,
            "subjects": rows.subjects,
            "attributes": dict(rows.attributes),
        }
    ).encode()
    # NCCL moves tensors of a GPU only.
    device = torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")
    columns = [
        torch.from_numpy(np.frombuffer(texts, dtype=np.uint8).copy()),
        torch.from_numpy(np.ascontiguousarray(rows.true)),
        torch.from_numpy(np.ascontiguousarray(rows.probabilities).reshape(-1)),
    ]
    of_column = [_all_gather(column.to(device), group) for column in columns]
    return [_rows(*(part.cpu().numpy() for part in parts)) for parts in zip(*of_column, strict=True)]


def _all_gather(values: Tensor, group: dist.ProcessGroup | None) -> list[Tensor]:
    """A flat tensor of each process; they may differ in length, which ``all_gather`` does not allow."""
    num_ranks = dist.get_world_size(group)
    own = torch.tensor([len(values)], device=values.device)
    sizes = [torch.zeros_like(own) for _ in range(num_ranks)]
    dist.all_gather(sizes, own, group=group)
    longest = max(int(size) for size in sizes)
    padded = torch.zeros(longest, dtype=values.dtype, device=values.device)
    padded[: len(values)] = values
    parts = [torch.zeros_like(padded) for _ in range(num_ranks)]
    dist.all_gather(parts, padded, group=group)
    return [part[: int(size)] for part, size in zip(parts, sizes, strict=True)]


def _rows(texts: np.ndarray, true: np.ndarray, probabilities: np.ndarray) -> ScoredClips:
    found = json.loads(texts.tobytes())
    return ScoredClips(
        labels=tuple(found["labels"]),
        clip_ids=tuple(found["clip_ids"]),
        true=true,
        probabilities=probabilities.reshape(-1, len(found["labels"])),
        folds=tuple(found["folds"]),
        subjects=None if found["subjects"] is None else tuple(found["subjects"]),
        attributes={name: tuple(values) for name, values in found["attributes"].items()},
    )
