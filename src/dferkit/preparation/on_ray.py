"""The same work on a Ray cluster whose machines share the files: same jobs, same part files, same bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from dferkit.errors import MissingExtraError
from dferkit.preparation.clip_job import ClipDone, ClipJob, prepare_clip
from dferkit.preparation.config import PrepareConfig

_CLIPS_PER_TASK = 16


def run_on_ray(jobs: Iterable[ClipJob]) -> Iterator[ClipDone]:
    """Results as they are finished, from the cluster of ``RAY_ADDRESS``, or from this machine.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    # Before the import: nothing leaves the machine.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("--backend ray", "ray") from error
    rows = [{"job": json.dumps(asdict(job))} for job in jobs]
    if not rows:
        return
    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(include_dashboard=False, log_to_driver=False)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = False
        tasks = max(1, min(len(rows), -(-len(rows) // _CLIPS_PER_TASK)))
        found = ray.data.from_items(rows, override_num_blocks=tasks).map(_on_row)
        for row in found.iter_rows():
            yield ClipDone(**json.loads(row["done"]))
    finally:
        if is_ours:
            ray.shutdown()


def _on_row(row: dict[str, Any]) -> dict[str, str]:
    values = json.loads(row["job"])
    job = ClipJob(**{**values, "config": PrepareConfig(**values["config"])})
    return {"done": json.dumps(asdict(prepare_clip(job)))}
