"""Two real processes with gloo; the oracle is one process with all clips."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scored_examples import imagined_clips

from dferkit.errors import DataError
from dferkit.evaluation.gather import gather_clips
from dferkit.evaluation.scored import evaluate_clips, join

_PROGRAM = """
import json, sys
import numpy as np
import torch.distributed as dist
from scored_examples import imagined_clips
from dferkit.errors import DataError
from dferkit.evaluation.gather import gather_clips
from dferkit.evaluation.metrics import confusion_matrix, uar, war
from dferkit.evaluation.scored import evaluate_clips
from dataclasses import replace

case, out = sys.argv[1:]
dist.init_process_group("gloo")
rank = dist.get_rank()
clips = imagined_clips(40, num_folds=2, fails_every=25, has_subjects=True, skill=1.0).take(np.arange(20, 27))
clips = replace(clips, clip_ids=("ü", *clips.clip_ids[1:]))
mine = list(range(rank, 7, 2))
mine += [0] * (4 - len(mine))  # a sampler pads with the first clip, as torch's does
if case == "uneven":
    mine = [] if rank else list(range(6, -1, -1))
rows = clips.take(np.array(mine, dtype=int))
if case == "contradiction":
    rows = replace(rows, true=(rows.true + rank) % 7)
if case == "order":
    order = [*clips.clip_ids[::-1]]
try:
    whole = gather_clips(rows, order=order if case == "order" else None)
    table = confusion_matrix(rows.true, np.where(rows.predicted < 0, 7, rows.predicted), 8)[:7] if len(rows.true) else np.zeros((7, 7))
    found = {
        "ids": whole.clip_ids, "true": whole.true.tolist(), "p": np.nan_to_num(whole.probabilities, nan=-1).tolist(),
        "folds": whole.folds, "subjects": whole.subjects, "scene": whole.attributes["scene"],
        "uar": evaluate_clips(whole).uar, "war": evaluate_clips(whole).war,
        "own": [float(uar(table)), float(war(table))],
    }
except DataError as error:
    found = {"error": str(error)}
with open(f"{out}/{rank}.json", "w") as handle:
    json.dump(found, handle)
dist.destroy_process_group()
"""


def two_processes(case, folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = str(Path(__file__).parent)
    paths = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, case, str(folder)],
            env={
                **os.environ, "PYTHONPATH": paths, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in started:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def all_clips():
    clips = imagined_clips(40, num_folds=2, fails_every=25, has_subjects=True, skill=1.0).take(np.arange(20, 27))
    return replace(clips, clip_ids=("ü", *clips.clip_ids[1:]))


def check(found, expected):
    assert found["ids"] == list(expected.clip_ids)
    assert found["true"] == expected.true.tolist()
    assert found["p"] == np.nan_to_num(expected.probabilities, nan=-1).tolist()
    assert found["folds"] == list(expected.folds)
    assert found["subjects"] == list(expected.subjects)
    assert found["scene"] == list(expected.attributes["scene"])
    scores = evaluate_clips(expected)
    assert (found["uar"], found["war"]) == (scores.uar, scores.war)


def in_fixed_order(clips):
    order = sorted(range(7), key=lambda i: (clips.folds[i], clips.clip_ids[i]))
    return clips.take(np.array(order))


def test_padded_ranks_give_the_scores_of_one_process(tmp_path):
    found = two_processes("padded", tmp_path)
    assert found[0] | {"own": 0} == found[1] | {"own": 0}
    expected = in_fixed_order(all_clips())
    for one in found:
        check(one, expected)
    # What averaging over processes would have said, with the padded clip counted twice, is another number.
    averaged = np.mean([one["own"] for one in found], axis=0)
    assert abs(averaged[0] - found[0]["uar"]) > 0.01
    assert abs(averaged[1] - found[0]["war"]) > 0.01


def test_a_process_without_clips_takes_part(tmp_path):
    for one in two_processes("uneven", tmp_path):
        check(one, in_fixed_order(all_clips()))


def test_the_order_of_the_list(tmp_path):
    for one in two_processes("order", tmp_path):
        check(one, all_clips().take(np.arange(7)[::-1]))


def test_every_process_hears_of_a_contradiction(tmp_path):
    for one in two_processes("contradiction", tmp_path):
        assert "'ü'" in one["error"]
        assert "contradict" in one["error"]


def test_without_a_group_only_repeats_are_dropped():
    clips = all_clips()
    found = gather_clips(clips.take(np.array([4, 2, 2, 0, 1, 3, 5, 6])))
    assert found.clip_ids == in_fixed_order(clips).clip_ids
    assert join([found, clips]).clip_ids == found.clip_ids
    assert gather_clips(clips, order=clips.clip_ids).clip_ids == clips.clip_ids
    with pytest.raises(DataError, match=r"1 of 8 clips were not scored by any process, and 0 were"):
        gather_clips(clips, order=[*clips.clip_ids, "more"])
    with pytest.raises(DataError, match=r"0 of 6 .* and 1 were scored that are not listed \(such as ü\)"):
        gather_clips(clips, order=clips.clip_ids[1:])
