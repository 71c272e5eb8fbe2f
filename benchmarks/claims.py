"""The papers' claims measured on the shipped heads, for every front end, on rendered clips with known truth.

    python benchmarks/claims.py --landmarker face_landmarker.task --work runs/claims
    python benchmarks/claims.py --head cosine=demo/checkpoints/grace_cosine --out aligners.json --work runs/claims

Do motion weights follow expression rather than nuisance? Does a phrase's transport mass lie where its action unit moves the face? Does the
probability of the answer fall further when the evidence is removed than when anything else is? Two removals: tokens, by their shares of the score, and
movement in the video itself, by the evidence that reports show. Insertion is the mirror: all is removed but for what ranks highest. The evidence of
another clip is the control. ``--head`` measures other checkpoints in place of the shipped heads.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from dferkit.datasets import read_manifest
from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.front_end import FRONT_ENDS, front_end_of
from dferkit.evaluation.claims import ClipEvidence, localisation_claim, motion_claim, on_crop, phrase_masses
from dferkit.explain import on_grid, summarise_deletion
from dferkit.faces import landmarker_file, open_landmarker
from dferkit.labels import BASIC
from dferkit.models.checkpoint import load_checkpoint
from dferkit.models.shipped import head_folder
from dferkit.parallel import run_parallel
from dferkit.pipeline import (
    Answer,
    Model,
    Reading,
    ReadingSettings,
    check_ranking,
    check_tokens_ranking,
    explain_answer,
)
from dferkit.schema import DeletionTest, Record
from dferkit.storage import write_json
from dferkit.synthetic import BenchmarkConfig, Truth, fingerprint, read_truth, render_benchmark
from dferkit.training.score import whole_plans

SEED, GRID = 78, (8, 8)
TOKENS, INSERTED = (0.0, 0.05), (0.0, 0.5, 0.65, 0.8, 0.9)
KINDS = (
    "deletion",
    "insertion",
    "deletion_by_another_clip",
    "tokens",
    "tokens_insertion",
    "tokens_of_another_clip",
    "deletion_by_phrases",
)
Tested = dict[str, DeletionTest]
Found = dict[str, tuple[ClipEvidence, Tested]]


def evidence(reading: Reading, truth: Truth, frame_size: tuple[int, int]) -> ClipEvidence:
    """Motion weights and phrases of one answer on the crop's grid, beside the truth."""
    visual, boxes = reading.visual, reading.clip.track.boxes
    (plan,) = whole_plans([reading.output], [reading.text])
    steps = len(visual.timestamps)
    drawn = on_grid(plan.reshape(len(plan), steps, -1), visual.grid, visual.coverage).reshape(len(plan), -1)
    motion = on_grid(reading.output.motion[0].double().numpy(), visual.grid, visual.coverage)
    heat = on_crop(truth.heat, np.nanmean(boxes, 0), frame_size, GRID).reshape(len(truth.heat), -1)
    phrases = phrase_masses(reading.caption, reading.text, drawn, heat, truth.au.max(0))
    return ClipEvidence(truth=truth, motion=motion, phrases=phrases, boxes=boxes, frame_size=frame_size)


def inserted(found: DeletionTest) -> DeletionTest:
    """A removal of the lowest-ranked first as an insertion of the highest-ranked: what rises is counted."""
    return replace(found, drop=-found.drop)


def token_shares(reading: Reading) -> np.ndarray:
    """Share of every token (steps, tokens) of the answer's score."""
    assert reading.output.contributions is not None
    target = int(reading.output.logits[0].argmax())
    return (
        reading.output.contributions[0, :, :, target].sum(0).double().numpy().reshape(reading.visual.values.shape[:2])
    )


def test_removals(answer: Answer, another: dict[str, np.ndarray]) -> tuple[Tested, dict[str, np.ndarray]]:
    """All removals of one answer, and its rankings, which are the control of the next clip."""
    shown, reading = explain_answer(answer), answer.reading
    assert shown.deletion is not None
    assert reading is not None
    steps = len(reading.visual.timestamps)

    def of_steps(values: np.ndarray) -> np.ndarray:
        return values.reshape(steps, -1, *GRID).mean(1)

    pixels, tokens = of_steps(shown.evidence), token_shares(reading)
    tested = {
        "deletion": shown.deletion,
        "insertion": inserted(check_ranking(reading, -pixels, fractions=INSERTED)),
        "deletion_by_phrases": check_ranking(reading, of_steps(np.sum([p.evidence for p in shown.phrases], axis=0))),
        "tokens": check_tokens_ranking(reading, tokens, fractions=TOKENS),
        "tokens_insertion": inserted(check_tokens_ranking(reading, -tokens, fractions=(0.0, 0.95))),
    }
    if another:
        tested["deletion_by_another_clip"] = check_ranking(reading, another["pixels"])
        tested["tokens_of_another_clip"] = check_tokens_ranking(reading, another["tokens"], fractions=TOKENS)
    return tested, {"pixels": pixels, "tokens": tokens}


def read_part(job: tuple[list[Record], str, str, int, dict[str, Path]]) -> list[Found]:
    records, folder, landmarker_path, deletions, heads = job
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    landmarker, pixels = open_landmarker(landmarker_path), load_checkpoint(head_folder(BOX_FOLDER, "pixels"))
    settings = ReadingSettings(whole_clip=True)
    models = {
        name: Model(load_checkpoint(head), face="haar", landmarker=landmarker, fallback=pixels, settings=settings)
        for name, head in heads.items()
    }
    result, rankings = [], {name: {} for name in models}
    for number, record in enumerate(records):
        truth, found = read_truth(folder, record.video.stem), {}
        for name, model in models.items():
            answer = next(model.answers(record.video))
            if answer.reading is None or answer.faces is None:
                continue
            tested: Tested = {}
            if number < deletions and answer.reading.head.front_end == model.reader.front_end:
                tested, rankings[name] = test_removals(answer, rankings[name])
            found[name] = evidence(answer.reading, truth, answer.faces.frame_size), tested
        result.append(found)
    if landmarker is not None:
        landmarker.close()
    return result


def main() -> None:
    """Render, answer, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=84)
    parser.add_argument("--deletions", type=int, default=60)
    parser.add_argument("--landmarker", default="auto")
    parser.add_argument("--head", action="append", metavar="NAME=CHECKPOINT", help="in place of the shipped heads")
    parser.add_argument("--work", type=Path, default=Path("runs/claims"))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/claims.json"))
    given = parser.parse_args()
    heads = {name: head_folder(BOX_FOLDER, front_end_of(name)) for name in FRONT_ENDS.values()}
    if given.head:
        heads = {name: Path(folder) for name, _, folder in (one.partition("=") for one in given.head)}
    manifest = render_benchmark(BenchmarkConfig(clips=given.clips, seed=SEED), given.work, workers=given.workers)
    records, count = read_manifest(manifest, labels=BASIC), given.workers
    task, share = str(landmarker_file(given.landmarker)), -(-given.deletions // count)
    jobs = [(list(records[i::count]), str(given.work), task, share, heads) for i in range(count)]
    rows = [found for part in run_parallel(read_part, jobs, count) for found in part]
    table = {}
    for name in heads:
        found = [row[name] for row in rows if name in row]
        table[name] = {
            "motion": motion_claim([e for e, _ in found]),
            "localisation": localisation_claim([p for e, _ in found for p in e.phrases]),
            **{kind: summarise_deletion([tested[kind] for _, tested in found if kind in tested]) for kind in KINDS},
        }
    write_json(given.out, {"clips": given.clips, "seed": SEED, "generator": fingerprint(), "front_ends": table})
    for name, row in table.items():
        for kind in KINDS:
            d = row[kind]
            print(
                f"{name}, {kind}: {d['mean_drop']:+.3f} ({d['low']:+.3f} to {d['high']:+.3f}), {d['share_above_chance']:.0%}, p {d['sign_test_p']:.2g}"
            )
        m, l, d = row["motion"], row["localisation"], row["deletion"]
        print(
            f"{name}: motion {m['spearman_expression']:.2f} with expression, {m['spearman_nuisance']:.2f} with nuisance; mass {l['times_uniform']:.1f} x "
            f"uniform, {l['times_shuffled']:.1f} x shuffled; deletion drop {d['mean_drop']:.3f} ({d['low']:.3f} to {d['high']:.3f}), p {d['sign_test_p']:.4f}"
        )


if __name__ == "__main__":
    main()
