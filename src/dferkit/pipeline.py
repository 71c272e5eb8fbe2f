"""The whole flow in one readable file: path → prediction → explanation.

video → frames → faces → action units → caption and tokens → alignment → prediction → explanation
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dferkit.captions import describe, refine
from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.encoders.open import open_visual_encoder
from dferkit.encoders.text import TextEncoder, phrase_numbers
from dferkit.errors import CheckpointError, ConfigError, DataError, VideoError
from dferkit.explain import deletion_test, merge_pieces, region_grid, transport_maps, word_occlusion
from dferkit.faces import build_detector
from dferkit.faces.read import LOW_COVERAGE_BELOW, NO_FACE_BELOW, WindowFaces, read_faces
from dferkit.labels import BASIC
from dferkit.models.checkpoint import Checkpoint, load_checkpoint
from dferkit.models.coarse import unit_statistics
from dferkit.models.grace import GraceOutput
from dferkit.motion import measure_motion
from dferkit.readings import NOTHING, Guide, Outside, UnitTables, read_outside
from dferkit.reports.tables import Provenance, SampledFrames, alignments_table, frame_table, prediction_table
from dferkit.schema import (
    ActionUnits,
    Caption,
    CoarsePrediction,
    DeletionTest,
    Explanation,
    FaceClip,
    Prediction,
    TextTokens,
    VisualTokens,
)
from dferkit.video import clip_window, index_video, plan_windows

NUM_SAMPLES = 16
DELETED, DELETION_ORDERS = (0.0, 0.1, 0.2, 0.35, 0.5), 10
IN_USE = {"ok", "low_coverage", "truncated", "too_short", "abstain"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What the model saw in one window of one person; ``motion`` is measured only for models that read it."""

    clip: FaceClip
    action_units: ActionUnits
    caption: Caption
    visual: VisualTokens
    text: TextTokens
    output: GraceOutput
    motion: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One window's prediction with what led to it; ``reading`` is None without a face or a readable video."""

    prediction: Prediction
    faces: WindowFaces | None
    reading: Reading | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How videos are read.

    Attributes:
        window_seconds, stride_seconds: Time line; stride None means no overlap. whole_clip: One window over the whole video.
        face: Detector name or CSV of boxes. people: ``largest`` or ``all``.
    """

    window_seconds: float = 2.0
    stride_seconds: float | None = None
    whole_clip: bool = False
    face: str = "auto"
    people: str = "largest"

    def __post_init__(self) -> None:
        if not 0.1 <= self.window_seconds <= 600:
            raise ConfigError(f"window is {self.window_seconds} s; give 0.1 to 600")
        if self.stride_seconds is not None and not 0.05 <= self.stride_seconds <= 600:
            raise ConfigError(f"stride is {self.stride_seconds} s; give 0.05 to 600")
        if self.people not in ("largest", "all"):
            raise ConfigError(f"people is {self.people!r}; choose largest or all")

    def as_dict(self) -> dict[str, object]:
        """For ``run.json``."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Answers for many inputs, in their order; everything tabular is a plain pandas DataFrame."""

    answers: tuple[Answer, ...]
    provenance: Provenance
    labels: tuple[str, ...] = BASIC

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """One per input, person and window."""
        return tuple(answer.prediction for answer in self.answers)

    @property
    def clips(self) -> pd.DataFrame:
        """The table of ``predictions.csv``."""
        return prediction_table(self.predictions, self.provenance, labels=self.labels)

    @property
    def sampled_frames(self) -> list[SampledFrames]:
        """What the table of frames is made of."""
        return [
            SampledFrames(
                prediction=a.prediction,
                timestamps=a.faces.timestamps,
                track=a.reading.clip.track if a.reading else None,
                clip_weight=a.reading.output.motion[0].mean(1).numpy()
                if a.reading and a.reading.output.motion.shape[1] == len(a.faces.timestamps)
                else None,
                file_frames=a.faces.indices,
            )
            for a in self.answers
            if a.faces is not None
        ]

    @property
    def frames(self) -> pd.DataFrame:
        """The table of ``frames.csv``: one row per sampled frame, also those without a face."""
        return frame_table(self.sampled_frames)

    def __repr__(self) -> str:
        counts = pd.Series([p.status for p in self.predictions]).value_counts()
        return f"Batch({len(self.answers)} windows: " + ", ".join(f"{n} {status}" for status, n in counts.items()) + ")"


@dataclass(frozen=True, kw_only=True, repr=False)
class Result(Batch):
    """Answers for one input. ``label``, ``confidence`` and ``probs`` are the mean over its answered windows."""

    @property
    def probs(self) -> pd.Series:
        """Mean probability of each class; NaN without an answer."""
        answered = [p.probabilities for p in self.predictions if p.probabilities is not None and p.status in IN_USE]
        values = np.mean(answered, 0) if answered else np.full(len(self.labels), np.nan)
        return pd.Series(values, index=list(self.labels))

    @property
    def label(self) -> str | None:
        """Apparent expression, None without an answer or when every window abstained."""
        named = [p for p in self.predictions if p.label is not None]
        return str(self.probs.idxmax()) if named else None

    @property
    def confidence(self) -> float:
        """Probability of the most probable class; NaN without an answer."""
        return float(self.probs.max())

    @property
    def status(self) -> str:
        """The most serious status of its windows that still gave an answer, else the first window's."""
        found = [p.status for p in self.predictions]
        if all(s == found[0] for s in found):
            return found[0]
        answered = [s for s in ("truncated", "low_coverage", "too_short", "ok", "abstain") if s in found]
        return answered[0] if answered else found[0]

    def __repr__(self) -> str:
        if self.label is None:
            return f"Result({self.predictions[0].input}: no label, {self.status}. {self.predictions[0].message})"
        return f"Result({self.predictions[0].input}: apparent expression {self.label} {self.confidence:.2f}, {self.status}, {len(self.answers)} windows)"


@dataclass(frozen=True, kw_only=True)
class ExplanationResult:
    """Explanations of one input's windows."""

    explanations: tuple[Explanation, ...]
    result: Result
    top_k: int = 5
    about: dict[str, object] = field(default_factory=dict)

    @property
    def alignments(self) -> pd.DataFrame:
        """Word, region, time, weight: the table of ``alignments.csv``."""
        return alignments_table(self.explanations, top_k=self.top_k)

    def to_html(self, path: Path | str) -> None:
        """Write the self-contained report."""
        from dferkit.reports.html import write_clip_report

        write_clip_report(path, self.explanations, about=self.about)


class Model:
    """A loaded model: the box's, or a trained checkpoint.

    Attributes:
        labels: Classes, in the order of every probability.
        provenance: What every output says of the model.
        units_from: Tables of another tool that replace the describer of action units. guide_from: A classifier that replaces the coarse one.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        box: Path | str = BOX_FOLDER,
        settings: Settings | None = None,
        units_from: UnitTables | None = None,
        guide_from: Guide | None = None,
    ) -> None:
        self.checkpoint, self.settings = checkpoint, settings or Settings()
        self.units_from, self.guide_from = units_from, guide_from
        self.labels = checkpoint.labels
        self.box = BoxEncoder(box)
        about = checkpoint.about
        self.encoder = self.box if about["encoder"] == "box" else open_visual_encoder(str(about["encoder"]))
        for what, found, wanted in (
            ("visual encoder", self.encoder.digest, about["encoder_digest"]),
            ("box", self.box.digest, about["box_digest"]),
        ):
            if found != wanted:
                raise CheckpointError(
                    f"the checkpoint was trained with another {what} (digest {str(wanted)[:8]}, installed {found[:8]}); train it again or install the version it names"
                )
        self.text_encoder = TextEncoder(Path(box) / "text")
        self.detector = build_detector(self.settings.face)
        self.provenance = Provenance(
            model=str(about["name"]),
            weights_sha256=checkpoint.digest,
            calibration=str(about["calibration"]),
            trained_on=str(about["trained_on"]),
        )

    # --- predict ------------------------------------------------------------------------------------------------------

    def predict(
        self,
        inputs: Path | str | Sequence[Path | str],
        *,
        people: str | None = None,
        window: float | None = None,
        stride: float | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Result | Batch:
        """Apparent expression of one video (a ``Result``) or of several (a ``Batch``); a bad input becomes a row, never an exception.

        Args:
            inputs: A path, or several.
            people: ``largest`` or ``all``. window, stride: Seconds; by default those of the model's settings.
        """
        changes: dict[str, Any] = {
            key: value
            for key, value in (("people", people), ("window_seconds", window), ("stride_seconds", stride))
            if value is not None
        }
        settings = replace(self.settings, **changes)
        if isinstance(inputs, str | Path):
            return Result(
                answers=tuple(self.answers(inputs, settings=settings)), provenance=self.provenance, labels=self.labels
            )
        answers: list[Answer] = []
        for number, path in enumerate(inputs):
            answers += self.answers(path, settings=settings)
            if on_progress:
                on_progress(number + 1, len(inputs))
        return Batch(answers=tuple(answers), provenance=self.provenance, labels=self.labels)

    def answers(
        self, path: Path | str, *, settings: Settings | None = None, name: str | None = None
    ) -> Iterator[Answer]:
        """Answers window by window; memory does not grow with the video's length.

        Args:
            name: How outputs name the input; by default the path as given.
        """
        settings, name = settings or self.settings, name or str(path)
        window_number = 0
        try:
            index = index_video(path)
            if settings.whole_clip:
                windows = [clip_window(index.duration_seconds, NUM_SAMPLES)]
            else:
                windows = plan_windows(
                    index.duration_seconds,
                    window_seconds=settings.window_seconds,
                    stride_seconds=settings.stride_seconds,
                    num_samples=NUM_SAMPLES,
                )
            outside = read_outside(path, index.timestamps, units_from=self.units_from, guide_from=self.guide_from)
            for faces in read_faces(index, windows, self.detector, people=settings.people, video_name=name):
                window_number = faces.window.number + 1
                yield from self._answer_window(name, faces, outside, is_truncated=index.is_truncated)
        except (VideoError, DataError) as error:
            yield Answer(prediction=self._unreadable(name, str(error), window_number), faces=None, reading=None)

    def _answer_window(
        self, name: str, faces: WindowFaces, outside: Outside, *, is_truncated: bool
    ) -> Iterator[Answer]:
        usable = [clip for clip in faces.clips if clip.quality.coverage >= NO_FACE_BELOW]
        if not usable:
            yield Answer(prediction=self._no_face(name, faces), faces=faces, reading=None)
            return
        for clip in usable:
            try:
                reading = self.read(clip, outside)
            except DataError as error:  # another tool has nothing for this window; the next may have its rows
                window = faces.window
                prediction = self._unreadable(name, str(error), window.number)
                prediction = replace(prediction, start_seconds=window.start_seconds, end_seconds=window.end_seconds)
                yield Answer(prediction=prediction, faces=None, reading=None)
                continue
            prediction = outside.mark(self._judge(name, faces, clip, reading, is_truncated))
            yield Answer(prediction=prediction, faces=faces, reading=reading)

    def read(self, clip: FaceClip, outside: Outside = NOTHING) -> Reading:
        """Face clip → action units → caption → tokens → alignment and class.

        Raises:
            DataError: What should stand in for a part of it has nothing for this clip.
        """
        box = self.box.read([clip])[0]
        units = outside.units(clip, box.action_units)
        visual = box.tokens if self.encoder is self.box else self.encoder.encode([clip])[0]
        caption = self.caption(units, outside.guide(clip))
        text = self.text_encoder.encode_captions([caption])[0]
        motion = self._motion([clip])
        return Reading(
            clip=clip,
            action_units=units,
            caption=caption,
            visual=visual,
            text=text,
            output=self._forward([visual], text, motion),
            motion=motion,
        )

    def caption(self, units: ActionUnits, guide: CoarsePrediction | None = None) -> Caption:
        """CATE: the coarse description, rewritten to stress what the top-k of the guide (by default the coarse classifier) speak of."""
        coarse = describe(units)
        if guide is None:  # a video that was never trained on: no fold, and nothing to leak
            guide = self.checkpoint.coarse.guide(unit_statistics(units.intensity), fold=-1, is_out_of_fold=True)
        return refine(coarse, guide, top_k=int(self.checkpoint.about["caption"]["top_k"]))

    def _motion(self, clips: Sequence[FaceClip]) -> torch.Tensor | None:
        """Measured motion weights, for a model that reads them."""
        source = self.checkpoint.model.config.motion_source
        if source == "tokens":
            return None
        return measure_motion(
            clips, source, self.encoder.encode, grid=self.encoder.grid, num_steps=self.encoder.num_frames
        )

    @torch.inference_mode()
    def _forward(
        self,
        visuals: Sequence[VisualTokens],
        text: TextTokens,
        motion: torch.Tensor | None,
        *,
        text_mask: torch.Tensor | None = None,
    ) -> GraceOutput:
        """The network on several versions of a clip: other tokens, or other words left out by ``text_mask``."""
        versions = max(len(visuals), 0 if text_mask is None else len(text_mask))
        mask = torch.ones(versions, len(text.pieces), dtype=torch.bool) if text_mask is None else text_mask
        # Half precision and back, as training saw them.
        values = torch.stack([v.values for v in visuals]).half().float().expand(versions, -1, -1, -1)
        summary = torch.stack([v.summary for v in visuals]).half().float().expand(versions, -1, -1)
        words, sentence = text.values.expand(versions, -1, -1), text.sentence.expand(versions, -1)
        phrases = phrase_numbers([text], len(text.pieces)).expand(versions, -1)
        moving = None if motion is None else motion.expand(versions, -1, -1)
        return self.checkpoint.model(values, words, mask, sentence, summary=summary, phrases=phrases, motion=moving)

    def _judge(self, name: str, faces: WindowFaces, clip: FaceClip, reading: Reading, is_truncated: bool) -> Prediction:
        probabilities = reading.output.logits[0].double().softmax(0).numpy()
        num_faces, num_frames = int(clip.track.found.sum()), len(clip.timestamps)
        status, notes = "ok", []
        if len(set(faces.indices.tolist())) < num_frames and len(set(faces.indices.tolist())) < 8:
            status = "too_short"
            notes.append(
                f"{len(set(faces.indices.tolist()))} frames; the model wants {num_frames}. Repeated frames were used"
            )
        if clip.quality.coverage < LOW_COVERAGE_BELOW:
            status = "low_coverage"
            notes.append(
                f"face in {num_faces} of {num_frames} frames ({clip.quality.coverage:.0%}). The result is weak"
            )
        if is_truncated or faces.report.is_truncated:
            status = "truncated"
            notes.append(
                f"the file ends early; used {faces.report.num_decoded} of {faces.report.num_requested} frames of this window"
            )
        reason = ""
        if probabilities.max() < float(self.checkpoint.about.get("abstain_below", 0.0)):
            status, reason = "abstain", "little evidence"
            notes.append(f"no class reaches {float(self.checkpoint.about['abstain_below']):.2f}")
        if faces.num_people > 1:
            notes.append(
                f"{faces.num_people} people found; used the largest. --people all for each"
                if len(faces.clips) == 1
                else f"{faces.num_people} people found"
            )
        return Prediction(
            input=name,
            clip_id=f"{name}#{faces.window.number}.{clip.track.track_id}",
            track_id=clip.track.track_id,
            window=faces.window.number,
            start_seconds=faces.window.start_seconds,
            end_seconds=faces.window.end_seconds,
            labels=self.labels,
            label=None if reason else self.labels[int(probabilities.argmax())],
            probabilities=probabilities,
            status=status,
            message=". ".join(notes),
            num_frames=num_frames,
            num_face_frames=num_faces,
            front_end=clip.track.front_end,
            abstain_reason=reason,
        )

    def _no_face(self, name: str, faces: WindowFaces) -> Prediction:
        found = int(max((clip.track.found.sum() for clip in faces.clips), default=0))
        return Prediction(
            input=name,
            clip_id=f"{name}#{faces.window.number}.-1",
            track_id=-1,
            window=faces.window.number,
            start_seconds=faces.window.start_seconds,
            end_seconds=faces.window.end_seconds,
            labels=self.labels,
            label=None,
            probabilities=None,
            status="no_face",
            message=f"no face in {len(faces.timestamps)} sampled frames. Try --face yunet, or give boxes as a CSV",
            num_frames=len(faces.timestamps),
            num_face_frames=found,
            front_end=self.detector.name,
        )

    def _unreadable(self, name: str, message: str, window: int) -> Prediction:
        return Prediction(
            input=name,
            clip_id=f"{name}#{window}.-1",
            track_id=-1,
            window=window,
            start_seconds=0.0,
            end_seconds=0.0,
            labels=self.labels,
            label=None,
            probabilities=None,
            status="unreadable",
            message=message,
            front_end=self.detector.name,
        )

    # --- explain ------------------------------------------------------------------------------------------------------

    def explain(
        self, path: Path | str, *, top_k: int = 5, max_windows: int = 4, with_deletion: bool = True
    ) -> ExplanationResult:
        """Which words met which moving parts, for the first ``max_windows`` answered windows.

        Raises:
            VideoError, NoFaceError: There is nothing to explain.
        """
        answers = tuple(self.answers(path, name=Path(path).name))
        result = Result(answers=answers, provenance=self.provenance, labels=self.labels)
        answered = [a for a in answers if a.reading is not None][:max_windows]
        explanations = tuple(self.explain_answer(a, with_deletion=with_deletion) for a in answered)
        return ExplanationResult(explanations=explanations, result=result, top_k=top_k, about=self.about())

    def explain_answer(self, answer: Answer, *, with_deletion: bool = True, seed: int = 0) -> Explanation:
        """Explain one answered window."""
        reading = answer.reading
        if reading is None:
            raise DataError(f"{answer.prediction.input}: {answer.prediction.message}")
        grid, frames = reading.visual.grid, len(reading.visual.timestamps)
        words, spans, word_of_piece = merge_pieces(reading.caption.text, reading.text.spans)
        alignment = reading.output.alignment
        if alignment is None or alignment.plan.shape[1] != len(reading.text.pieces):
            raise DataError(
                "this model aligns no words with the video; explain a model with text tokens, such as grace"
            )
        maps = transport_maps(
            alignment.plan[0].numpy(), alignment.visual_index[0].numpy(), grid, frames, word_of_piece, len(words)
        )
        target = int(reading.output.logits[0].argmax())

        def with_words(keep: np.ndarray) -> np.ndarray:
            # Punctuation belongs to no word and always stays, so that no version is without text.
            pieces = np.where(word_of_piece >= 0, keep[:, np.maximum(word_of_piece, 0)], True)
            return self._probability(
                self._forward([reading.visual], reading.text, reading.motion, text_mask=torch.from_numpy(pieces)),
                target,
            )

        weights = word_occlusion(with_words, len(words))
        deletion = self._deletion(reading, maps, weights, target, seed) if with_deletion else None
        return Explanation(
            prediction=answer.prediction,
            face_clip=reading.clip,
            caption=reading.caption,
            action_units=reading.action_units,
            words=words,
            word_spans=spans,
            word_weights=weights,
            transport=over_frames(maps, len(reading.clip.images), axis=1) / (len(reading.clip.images) / frames),
            motion=over_frames(
                reading.output.motion[0].numpy().reshape(frames, *grid), len(reading.clip.images), axis=0
            ),
            regions=region_grid(*grid),
            method=alignment.method,
            deletion=deletion,
        )

    def _probability(self, output: GraceOutput, target: int) -> np.ndarray:
        return output.logits.double().softmax(1)[:, target].numpy()

    def _deletion(
        self, reading: Reading, maps: np.ndarray, weights: np.ndarray, target: int, seed: int
    ) -> DeletionTest:
        """Take the movement out of cells of the video itself, and ask the whole model again.

        Deletion acts on pixels, not on tokens: a token can carry what its neighbours showed. The caption stays.
        """

        def probability(keep: np.ndarray) -> np.ndarray:
            clips = [without_movement(reading.clip, mask) for mask in keep]
            return self._probability(
                self._forward(self.encoder.encode(clips), reading.text, self._motion(clips)), target
            )

        return deletion_test(
            probability, evidence_ranking(maps, weights), fractions=DELETED, num_orders=DELETION_ORDERS, seed=seed
        )

    @property
    def can_explain(self) -> bool:
        """The model aligns the words of a caption with the video."""
        config = self.checkpoint.model.config
        return config.use_visual and config.text in ("tokens", "phrases")

    def about(self) -> dict[str, object]:
        """What reports say of the model."""
        about = dict(self.checkpoint.about)
        return {
            **about,
            "weights_sha256": self.checkpoint.digest,
            "front_end": self.detector.name,
            "labels": list(self.labels),
            **self.outside_names,
        }

    @property
    def outside_names(self) -> dict[str, str]:
        """What stands in for parts of our own front end, by part."""
        parts = {"action_units_from": self.units_from, "guide_from": self.guide_from}
        return {part: source.name for part, source in parts.items() if source is not None}


def evidence_ranking(maps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Evidence of each cell for the answer: the transport of the words that speak for it, (frames, rows, columns)."""
    support = np.maximum(weights, 0)
    if not support.any():
        support = np.ones_like(weights)
    return np.tensordot(support / support.sum(), maps, axes=1)


def over_frames(values: np.ndarray, num_frames: int, *, axis: int) -> np.ndarray:
    """Values of token steps, given to each of the frames that a step spans."""
    steps = values.shape[axis]
    return values.take(np.minimum(np.arange(num_frames) * steps // num_frames, steps - 1), axis)


def without_movement(clip: FaceClip, keep: np.ndarray) -> FaceClip:
    """The clip with its cells marked False replaced by what they show on average over the clip.

    Args:
        keep: (steps, rows, columns) over time and crop; a step spans frames / steps frames.
    """
    frames, size = clip.images.shape[:2]
    steps, rows, columns = keep.shape
    in_time = np.repeat(np.arange(steps), -(-frames // steps))[:frames]
    down, across = (np.minimum(np.arange(size) * n // size, n - 1) for n in (rows, columns))
    pixels = keep[in_time][:, down][:, :, across]
    mean = np.round(clip.images.mean(0)).astype(np.uint8)
    return replace(clip, images=np.where(pixels[..., None], clip.images, mean))


def load(
    name: Path | str = "box",
    *,
    face: str = "auto",
    box: Path | str = BOX_FOLDER,
    units_from: UnitTables | None = None,
    guide_from: Guide | None = None,
) -> Model:
    """A model ready to use: ``box`` (shipped with the package), or a checkpoint folder.

    Args:
        face: Detector; ``auto`` takes the best that is there.
        units_from, guide_from: What stands in for the describer of action units and for the coarse classifier (``readings``).

    Raises:
        CheckpointError: No such model; the message says what is there.
    """
    folder = Path(box) / "grace" if str(name) == "box" else Path(name)
    if str(name) != "box" and not folder.exists():
        near = difflib.get_close_matches(str(name), ["box"], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise CheckpointError(f"no model {str(name)!r}: give 'box' or a checkpoint folder.{hint}")
    settings = Settings(face=face)
    return Model(load_checkpoint(folder), box=box, settings=settings, units_from=units_from, guide_from=guide_from)
