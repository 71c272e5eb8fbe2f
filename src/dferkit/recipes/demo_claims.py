"""The papers' claims on the demo's test clips, and the clips that its report explains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dferkit.evaluation.claims import ClipEvidence, localisation_claim, motion_claim, on_crop, phrase_masses
from dferkit.explain import summarise_deletion
from dferkit.labels import BASIC
from dferkit.models.checkpoint import load_checkpoint
from dferkit.pipeline import Model, ReadingSettings, explain_answer
from dferkit.recipes.demo_data import DemoSide
from dferkit.recipes.demo_plan import DemoConfig
from dferkit.recipes.demo_rows import row_probabilities
from dferkit.schema import ActionUnits, Explanation, ReportProgress
from dferkit.synthetic import read_truth
from dferkit.tokens.files import load_texts
from dferkit.training.score import predict_outputs, whole_plans


def explain_clips(
    out: Path, config: DemoConfig, side: DemoSide, results: dict[str, Any], report: ReportProgress
) -> tuple[list[Explanation], dict[str, str]]:
    """The papers' claims on the test clips, and the clips that the report explains."""
    model = Model(
        load_checkpoint(out / "checkpoints" / "grace"), face="haar", settings=ReadingSettings(whole_clip=True)
    )
    evidence = _evidence(side, model)
    results["claims"]["motion"] = motion_claim(evidence)
    results["claims"]["localisation"] = localisation_claim(
        [phrase for clip in evidence for phrase in clip.phrases], seed=config.seed
    )
    explanations: list[Explanation] = []
    right = row_probabilities(side, "grace").argmax(1) == side.test.target
    shown = _chosen_clips(side, right, config.shown_clips)
    for number, i in enumerate(dict.fromkeys([*shown, *range(min(config.deletion_clips, len(side.test.records)))])):
        record = side.test.records[i]
        answer = next(iter(model.answers(record.video, name=record.clip_id)))
        explanations.append(explain_answer(answer, seed=config.seed))
        report("explaining and checking by deletion", number + 1, config.deletion_clips, "")
    results["claims"]["deletion"] = summarise_deletion([e.deletion for e in explanations if e.deletion is not None])
    truth = {
        e.prediction.clip_id: str(next(r.label for r in side.test.records if r.clip_id == e.prediction.input))
        for e in explanations
    }
    return explanations[: config.shown_clips], truth


def _chosen_clips(side: DemoSide, right: np.ndarray, count: int) -> list[int]:
    """One clip per class while there is room, the last one an error, so that the report also shows a failure."""
    chosen: list[int] = []
    for c in range(len(BASIC)):
        found = np.flatnonzero(right & (side.test.target == c))
        if len(found) and BASIC[c] != "neutral" and len(chosen) < count - 1:
            chosen.append(int(found[0]))
    wrong = np.flatnonzero(~right)
    return chosen + ([int(wrong[0])] if len(wrong) else [])


def _evidence(side: DemoSide, model: Model) -> list[ClipEvidence]:
    """Motion weights and plans of GRACE on every test clip, with the truth."""
    texts = tuple(load_texts(side.folder / "tokens" / "box-test.safetensors"))
    test = replace(side.test, texts=texts)
    outputs = list(predict_outputs(model.checkpoint.model, test))
    plans = whole_plans(outputs, texts)
    motion = torch.cat([output.motion for output in outputs if output.motion is not None]).numpy()
    result = []
    for i, record in enumerate(side.test.records):
        units = ActionUnits(
            names=test.au_names, intensity=test.units[i], timestamps=test.timestamps[i], source=test.describer
        )
        assert test.boxes is not None
        assert test.frame_sizes is not None
        truth, boxes = read_truth(side.folder / "video", Path(record.clip_id).stem), test.boxes[i]
        width, height = test.frame_sizes[i].tolist()
        heat = on_crop(truth.heat, np.nanmean(boxes, 0), (width, height), test.grid)
        result.append(
            ClipEvidence(
                truth=truth,
                motion=motion[i].reshape(-1, *test.grid),
                phrases=phrase_masses(
                    model.reader.heads[0].caption(units),
                    texts[i],
                    plans[i],
                    heat.reshape(len(heat), -1),
                    truth.au.max(0),
                ),
                boxes=boxes,
                frame_size=(width, height),
            )
        )
    return result
