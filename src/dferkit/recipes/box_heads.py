"""The last stage of the bundled model: a head for every front end, measured on looks that no part was trained on, and the card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from dferkit.encoders.front_end import FRONT_ENDS, front_end_of
from dferkit.encoders.text import TextEncoder
from dferkit.labels import BASIC
from dferkit.models.checkpoint import save_checkpoint
from dferkit.models.shipped import head_folder
from dferkit.pretraining.heads import HeadConfig, train_head
from dferkit.pretraining.measure import Answers, answer_clips, au_correlation, localise, measure_answers
from dferkit.pretraining.rendered_faces import RenderedFaces
from dferkit.pretraining.rendered_tokens import RenderedTokens, encode_front_ends
from dferkit.reports.card import write_card
from dferkit.reports.gallery import write_gallery
from dferkit.schema import ReportProgress
from dferkit.storage import read_json, write_json
from dferkit.synthetic.benchmark import fingerprint
from dferkit.tokens.features import one_thread

_CALIBRATION_SHARE = 5  # every fifth person of the held-back looks is for calibration, the others for measuring
_NUM_FAILURES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadFaces:
    """Rendered faces for the heads.

    Attributes:
        train: For training. held: Held-back looks; some people are for calibration, the others for measuring.
        measure, measure_large: For measuring; the same clips in frames of two sizes.
    """

    train: RenderedFaces
    held: RenderedFaces
    measure: RenderedFaces
    measure_large: RenderedFaces

    @property
    def unseen(self) -> dict[str, RenderedFaces]:
        """Clips that no part is trained on."""
        return {"held": self.held, "measure": self.measure, "measure_large": self.measure_large}

    @property
    def is_calibration(self) -> Bool[np.ndarray, " held"]:
        """True for the clips of ``held`` that are for calibration."""
        return self.held.subject % _CALIBRATION_SHARE == 0


def build_heads(
    faces: HeadFaces,
    box: Path,
    work: Path,
    config: HeadConfig,
    *,
    device: str = "cpu",
    on_progress: ReportProgress,
) -> None:
    """Train the head of every front end, measure it, and write the folders of ``models.shipped.HEADS``, ``card.json`` and ``CARD.md``."""
    card: dict[str, Any] = {}
    answers: dict[str, dict[str, Answers]] = {}
    with one_thread():
        text_encoder = TextEncoder(box / "text")
        train = encode_front_ends(faces.train, box, fit_mixture=True, device=device)
        unseen = {part: encode_front_ends(shard, box, device=device) for part, shard in faces.unseen.items()}
        for name in FRONT_ENDS.values():
            held = unseen["held"][name]
            calibration = held.data.take(np.flatnonzero(faces.is_calibration[held.rows]))
            head = train_head(name, train[name], calibration, box, config, device=device, on_progress=on_progress)
            save_checkpoint(head, head_folder(box, front_end_of(name)))
            answers[name] = {
                part: _for_all_clips(
                    answer_clips(head, clips[name], text_encoder, device=device),
                    clips[name],
                    answers.get(FRONT_ENDS["pixels"], {}).get(part),
                )
                for part, clips in unseen.items()
            }
            card[name] = {
                **measure_answers(faces.unseen, answers[name], ~faces.is_calibration),
                "au_correlation": au_correlation(held),
                "localisation": localise(head, held, text_encoder, seed=config.seed, device=device),
                "temperature": head.temperature,
                "abstention": {
                    "threshold": head.about["abstain_below"],
                    "threshold_in_doubt": head.about["abstain_below_in_doubt"],
                    "coverage": head.about["answered_share"],
                },
                "no_landmarks": 1 - len(held.rows) / len(faces.held),
            }
    for front_end in ("pixels", "landmarks"):
        _draw_failures(work, faces, answers[FRONT_ENDS[front_end]]["held"], front_end)
    _write_cards(box, work, card, faces, config.seed)


def _for_all_clips(answers: Answers, clips: RenderedTokens, pixels: Answers | None) -> Answers:
    """Answers for all clips of a shard: where the landmarker found no face, those of the pixels, as in use."""
    if pixels is None or len(clips.rows) == len(pixels):
        return answers
    filled = pixels.copy()
    filled[clips.rows] = answers
    return filled


def _draw_failures(work: Path, faces: HeadFaces, answers: Answers, front_end: str) -> None:
    """Draw the wrong answers with the highest probability."""
    held = faces.held
    wrong = np.flatnonzero(~faces.is_calibration & (answers.argmax(1) != held.label))
    worst = wrong[np.argsort(-answers[wrong].max(1), kind="stable")][:_NUM_FAILURES]
    titles = [f"{BASIC[held.label[i]]}: read as {BASIC[answers[i].argmax()]} ({answers[i].max():.2f})" for i in worst]
    title = f"Wrong answers of highest probability on held-back looks, {front_end}"
    write_gallery(work / f"failures-{front_end}.jpg", [held.crops[i] for i in worst], titles, title=title)


def _write_cards(box: Path, work: Path, front_ends: dict[str, Any], faces: HeadFaces, seed: int) -> None:
    write_json(
        box / "card.json",
        {
            "front_ends": front_ends,
            "networks": {name: read_json(work / f"{name}.json") for name in ("visual", "landmarks")},
            "text_encoder": read_json(work / "text.json"),
            "generator": fingerprint(),
            "seed": seed,
            "clips": {
                "heads": len(faces.train),
                "calibration": int(faces.is_calibration.sum()),
                "held": int((~faces.is_calibration).sum()),
                "measure": len(faces.measure),
            },
        },
    )
    write_card(box)
