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
from dferkit.encoders.attribution import owed_to_cells
from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.encoders.face_shape import AREAS
from dferkit.encoders.landmarks import seen_share
from dferkit.encoders.open import open_visual_encoder
from dferkit.encoders.protocols import DescribingEncoder, LandmarkReader, VisualEncoder
from dferkit.encoders.text import TextEncoder, phrase_numbers
from dferkit.errors import BackendError, CheckpointError, ConfigError, DataError, VideoError
from dferkit.explain import (
    MEASURED,
    REGION_SOURCE,
    deletion_test,
    measured_regions,
    merge_pieces,
    on_grid,
    region_grid,
    transport_maps,
    word_occlusion,
)
from dferkit.faces import FaceLandmarker, build_detector, open_landmarker
from dferkit.faces.read import LOW_COVERAGE_BELOW, NO_FACE_BELOW, WindowFaces, read_faces
from dferkit.judgement import Thresholds, find_doubts, judge
from dferkit.labels import BASIC
from dferkit.models.a3lign import A3lignReader
from dferkit.models.checkpoint import Checkpoint, load_checkpoint
from dferkit.models.coarse import unit_statistics
from dferkit.models.grace import Grace, GraceOutput
from dferkit.models.shipped import NAMES, head_folder
from dferkit.motion import measure_motion
from dferkit.readings import NOTHING, Guide, Outside, UnitTables, read_outside
from dferkit.reports.tables import Provenance, SampledFrames, alignments_table, frame_table, prediction_table
from dferkit.schema import (
    PARAGRAPH,
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
WITH_LANDMARKS = "landmarks"  # the box's front end where there is a landmarker
WITH_GEOMETRY = ("landmarks", "box+landmarks")
REGION_OF_AREA = tuple(area.region for area in AREAS)
DELETED, DELETION_ORDERS = (0.0, 0.1, 0.2, 0.35, 0.5), 10
_READS = {"box": "pixels", "box+landmarks": "pixels + landmarks"}
IN_USE = {"ok", "low_coverage", "truncated", "too_short", "abstain"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A checkpoint with the encoder that its tokens come from."""

    checkpoint: Checkpoint
    encoder: VisualEncoder

    @property
    def reads(self) -> str:
        """What it looks at, for tables."""
        return _READS.get(self.encoder.name, self.encoder.name)

    def can_read(self, clip: FaceClip) -> bool:
        """The clip has what the encoder needs."""
        return not self.encoder.needs_landmarks or seen_share(clip) >= LOW_COVERAGE_BELOW


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What the model saw in one window of one person; ``motion`` is measured only for models that read it."""

    head: Head
    clip: FaceClip
    action_units: ActionUnits
    caption: Caption
    visual: VisualTokens
    text: TextTokens
    output: GraceOutput
    motion: torch.Tensor | None = None

    @property
    def told(self) -> Caption:
        """The text whose words the model aligned: the caption, or the paragraph that A³lign-DFER learned for its answer."""
        model = self.head.checkpoint.model
        if isinstance(model, Grace):
            return self.caption
        label = model.config.labels[int(self.output.logits[0].argmax())].replace(" ", "_")
        names = [f"{label}-{number + 1}" for number in range(model.config.num_sentences)]
        return Caption(text=" ".join(names), phrases=(), source=PARAGRAPH)


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
        landmarker: ``auto``, ``none`` or a task file. neutral: A video of the same person at rest, the zero of the landmarks.
    """

    window_seconds: float = 2.0
    stride_seconds: float | None = None
    whole_clip: bool = False
    face: str = "auto"
    people: str = "largest"
    landmarker: str = "auto"
    neutral: str | None = None

    def __post_init__(self) -> None:
        if not 0.1 <= self.window_seconds <= 600:
            raise ConfigError(f"window is {self.window_seconds} s; give 0.1 to 600")
        if self.stride_seconds is not None and not 0.05 <= self.stride_seconds <= 600:
            raise ConfigError(f"stride is {self.stride_seconds} s; give 0.05 to 600")
        if self.people not in ("largest", "all"):
            raise ConfigError(f"people is {self.people!r}; choose largest or all")
        if self.neutral is not None and self.people == "all":
            raise ConfigError("a neutral clip shows one person's face at rest; use people largest with it")

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
        landmarker: FaceLandmarker | None = None,
        fallback: Checkpoint | None = None,
        units_from: UnitTables | None = None,
        guide_from: Guide | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            landmarker: For a checkpoint that reads landmarks. fallback: Answers where the landmarker sees no face.
            units_from, guide_from: What stands in for the describer of action units and for the coarse classifier.

        Raises:
            CheckpointError: A checkpoint was trained with another encoder or box. BackendError: It needs a landmarker, and there is none.
        """
        self.checkpoint, self.settings, self.landmarker = checkpoint, settings or Settings(), landmarker
        self.units_from, self.guide_from = units_from, guide_from
        self.labels = checkpoint.labels
        self.box = BoxEncoder(box)
        self.heads = tuple(self._head(found, box) for found in (checkpoint, fallback) if found is not None)
        about = checkpoint.about
        if self.heads[0].encoder.needs_landmarks and landmarker is None:
            raise BackendError(
                "this model reads landmarks: give --landmarker FILE.task (dferkit models get face-landmarker), with the extra installed: pip install 'dferkit[landmarks]'"
            )
        self._neutral: dict[str, np.ndarray] = {}
        self.text_encoder = TextEncoder(Path(box) / "text")
        self.detector = build_detector(self.settings.face)
        self.provenance = Provenance(
            model=str(about["name"]),
            weights_sha256=checkpoint.digest,
            calibration=str(about["calibration"]),
            trained_on=str(about["trained_on"]),
        )

    def _head(self, checkpoint: Checkpoint, box: Path | str) -> Head:
        about = checkpoint.about
        encoder = self.box if about["encoder"] == "box" else open_visual_encoder(str(about["encoder"]), box=box)
        checkpoint.require({"encoder_digest": encoder.digest, "box_digest": self.box.digest})
        return Head(checkpoint=checkpoint, encoder=encoder)

    @property
    def encoder(self) -> VisualEncoder:
        """Of the checkpoint."""
        return self.heads[0].encoder

    @property
    def front_end(self) -> str:
        """Who finds faces and what is read of them."""
        return f"{self.detector.name} + {self.heads[0].reads}"

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the landmarker's memory back."""
        if self.landmarker is not None:
            self.landmarker.close()

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
        heads = self._with_neutral(settings.neutral)  # a wrong one is refused before anything is read
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
            for faces in read_faces(
                index, windows, self.detector, people=settings.people, video_name=name, landmarker=self.landmarker
            ):
                window_number = faces.window.number + 1
                yield from self._answer_window(name, faces, heads, outside, settings, is_truncated=index.is_truncated)
        except (VideoError, DataError) as error:
            yield Answer(prediction=self._unreadable(name, str(error), window_number), faces=None, reading=None)

    def _answer_window(
        self,
        name: str,
        faces: WindowFaces,
        heads: tuple[Head, ...],
        outside: Outside,
        settings: Settings,
        *,
        is_truncated: bool,
    ) -> Iterator[Answer]:
        usable = [clip for clip in faces.clips if clip.quality.coverage >= NO_FACE_BELOW]
        if not usable:
            yield Answer(prediction=self._no_face(name, faces), faces=faces, reading=None)
            return
        for clip in usable:
            head = next((head for head in heads if head.can_read(clip)), None)
            if head is None:
                yield Answer(prediction=self._not_measured(name, faces, clip), faces=faces, reading=None)
                continue
            try:
                reading = self.read(clip, head, outside)
            except DataError as error:  # another tool has nothing for this window; the next may have its rows
                row = self._row(name, faces, front_end=self.front_end, clip=clip)
                yield Answer(prediction=replace(row, status="unreadable", message=str(error)), faces=None, reading=None)
                continue
            prediction = self._judge(name, faces, clip, reading, settings, is_truncated=is_truncated)
            yield Answer(prediction=outside.mark(prediction), faces=faces, reading=reading)

    def _with_neutral(self, path: str | None) -> tuple[Head, ...]:
        """The heads with the face of a named clip as their zero.

        Raises:
            ConfigError: The model reads no landmarks, or the clip shows no face that the landmarker sees.
        """
        if path is None:
            return self.heads
        if not self.encoder.needs_landmarks:
            raise ConfigError(
                "--neutral is for models that read landmarks; this one reads pixels (dferkit doctor says how to get a landmarker)"
            )
        if path not in self._neutral:
            try:
                self._neutral[path] = self._resting_face(path)
            except (VideoError, DataError) as error:
                raise ConfigError(f"--neutral: {error}") from error
        return tuple(
            replace(head, encoder=head.encoder.with_neutral(self._neutral[path]))
            if isinstance(head.encoder, LandmarkReader)
            else head
            for head in self.heads
        )

    def _resting_face(self, path: str) -> np.ndarray:
        encoder = self.encoder
        assert isinstance(encoder, LandmarkReader)
        index = index_video(path)
        window = clip_window(index.duration_seconds, NUM_SAMPLES)
        faces = next(read_faces(index, [window], self.detector, landmarker=self.landmarker))
        if not faces.clips or seen_share(faces.clips[0]) < LOW_COVERAGE_BELOW:
            raise DataError(
                f"{Path(path).name} shows no face that the landmarker sees; name a clip of the face at rest"
            )
        shape = encoder.shape(faces.clips[0])
        return np.asarray(np.median(shape.points[shape.seen], 0), np.float32)

    def read(self, clip: FaceClip, head: Head | None = None, outside: Outside = NOTHING) -> Reading:
        """Face clip → action units → caption → tokens → alignment and class.

        Args:
            head: By default the first that can read the clip. outside: What other tools measured of its video.

        Raises:
            DataError: No head can read it, or what should stand in for a part of it has nothing for this clip.
        """
        head = head or next((head for head in self.heads if head.can_read(clip)), None)
        if head is None:
            raise DataError("the landmarker saw no face in most frames of this clip, and the model reads landmarks")
        encoder = head.encoder
        describer = encoder if isinstance(encoder, DescribingEncoder) else self.box
        found = describer.read([clip])[0]
        units = outside.units(clip, found.action_units)
        visual = found.tokens if encoder is describer else encoder.encode([clip])[0]
        caption = self.caption(units, outside.guide(clip), head)
        text = self.text_encoder.encode_captions([caption])[0]
        motion = self._motion([clip], head)
        return Reading(
            head=head,
            clip=clip,
            action_units=units,
            caption=caption,
            visual=visual,
            text=text,
            output=self._forward(head, [visual], text, motion),
            motion=motion,
        )

    def caption(self, units: ActionUnits, guide: CoarsePrediction | None = None, head: Head | None = None) -> Caption:
        """CATE: the coarse description, rewritten to stress what the top-k of the guide (by default the coarse classifier) speak of."""
        checkpoint = (head or self.heads[0]).checkpoint
        coarse = describe(units)
        if guide is None:  # a video that was never trained on: no fold, and nothing to leak
            guide = checkpoint.coarse.guide(unit_statistics(units.intensity), fold=-1, is_out_of_fold=True)
        return refine(coarse, guide, top_k=int(checkpoint.about["caption"]["top_k"]))

    def _motion(self, clips: Sequence[FaceClip], head: Head) -> torch.Tensor | None:
        """Measured motion weights, for a model that reads them."""
        source, encoder = head.checkpoint.model.motion_source, head.encoder
        if source == "tokens":
            return None
        return measure_motion(clips, source, encoder.encode, grid=encoder.grid, num_steps=encoder.num_frames)

    @torch.inference_mode()
    def _forward(
        self,
        head: Head,
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
        return head.checkpoint.model(values, words, mask, sentence, summary=summary, phrases=phrases, motion=moving)

    def _judge(
        self, name: str, faces: WindowFaces, clip: FaceClip, reading: Reading, settings: Settings, *, is_truncated: bool
    ) -> Prediction:
        about = reading.head.checkpoint.about
        probabilities = reading.head.checkpoint.probabilities(reading.output.logits[0])
        label = self.labels[int(probabilities.argmax())]
        doubts = find_doubts(
            clip,
            reading.action_units,
            reading.caption.guided_by,
            label,
            yaw_degrees=self._yaw(clip, reading.head),
            num_people=faces.num_people if len(faces.clips) == 1 else 1,
            has_neutral=settings.neutral is not None and reading.head.encoder.needs_landmarks,
        )
        plain = float(about.get("abstain_below", 0.0))
        thresholds = Thresholds(plain=plain, in_doubt=float(about.get("abstain_below_in_doubt", plain)))
        verdict = judge(probabilities, doubts, thresholds, faces, clip, is_truncated=is_truncated)
        missed = (
            reading.head is not self.heads[0]
            and self.heads[0].encoder.needs_landmarks
            and not reading.head.encoder.needs_landmarks
        )
        notes = ["the landmarker saw no face in most frames, so pixels alone were read"] if missed else []
        return replace(
            self._row(name, faces, front_end=f"{clip.track.front_end} + {reading.head.reads}", clip=clip),
            label=None if verdict.abstain_reason else label,
            probabilities=probabilities,
            status=verdict.status,
            message=". ".join([*notes, verdict.message] if verdict.message else notes),
            num_frames=len(clip.timestamps),
            num_face_frames=int(clip.track.found.sum()),
            abstain_reason=verdict.abstain_reason,
        )

    def _yaw(self, clip: FaceClip, head: Head) -> float | None:
        """Median turn of the head to a side in degrees, where landmarks were read."""
        if not isinstance(head.encoder, LandmarkReader):
            return None
        shape = head.encoder.shape(clip)
        return float(np.median(np.abs(shape.yaw_degrees[shape.seen])))

    def _row(self, name: str, faces: WindowFaces, *, front_end: str, clip: FaceClip | None = None) -> Prediction:
        """A window, or one person in it, without an answer."""
        track = -1 if clip is None else clip.track.track_id
        return Prediction(
            input=name,
            clip_id=f"{name}#{faces.window.number}.{track}",
            track_id=track,
            window=faces.window.number,
            start_seconds=faces.window.start_seconds,
            end_seconds=faces.window.end_seconds,
            labels=self.labels,
            label=None,
            probabilities=None,
            status="no_face",
            num_frames=len(faces.timestamps),
            front_end=front_end,
        )

    def _not_measured(self, name: str, faces: WindowFaces, clip: FaceClip) -> Prediction:
        return replace(
            self._row(name, faces, front_end=self.front_end, clip=clip),
            message=f"the landmarker saw the face in {seen_share(clip):.0%} of the frames, and this model needs landmarks",
            num_face_frames=int(clip.track.found.sum()),
        )

    def _no_face(self, name: str, faces: WindowFaces) -> Prediction:
        return replace(
            self._row(name, faces, front_end=self.front_end),
            message=f"no face in {len(faces.timestamps)} sampled frames. Try --face yunet, or give boxes as a CSV",
            num_face_frames=int(max((clip.track.found.sum() for clip in faces.clips), default=0)),
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
            front_end=self.front_end,
        )

    # --- explain ------------------------------------------------------------------------------------------------------

    def explain(
        self, path: Path | str, *, top_k: int = 5, max_windows: int = 4, with_deletion: bool = True
    ) -> ExplanationResult:
        """Which words met which moving parts, for the first ``max_windows`` answered windows.

        Raises:
            ConfigError: The neutral clip cannot be used. Without an answered window the result has no explanations.
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
        visual, frames = reading.visual, len(reading.visual.timestamps)
        told, model = reading.told, reading.head.checkpoint.model
        if told.source == PARAGRAPH:  # each sentence is a word of its own
            words = tuple(told.text.split(" "))
            ends = np.cumsum([len(word) + 1 for word in words])
            spans = tuple((int(end) - 1 - len(word), int(end) - 1) for word, end in zip(words, ends, strict=True))
            word_of_piece = np.arange(len(words))
        else:
            words, spans, word_of_piece = merge_pieces(told.text, reading.text.spans)
        alignment = reading.output.alignment
        if alignment is None or alignment.plan.shape[1] != len(word_of_piece):
            raise DataError(
                "this model aligns no words with the video; explain a model with text tokens, such as grace"
            )
        of_tokens = transport_maps(
            alignment.plan[0].numpy(),
            alignment.visual_index[0].numpy(),
            frames,
            visual.values.shape[1],
            word_of_piece,
            len(words),
        )
        maps = on_grid(of_tokens, visual.grid, visual.coverage)
        motion = on_grid(reading.output.motion[0].double().numpy(), visual.grid, visual.coverage)
        motion = motion / motion.mean()
        target = int(reading.output.logits[0].argmax())

        def with_words(keep: np.ndarray) -> np.ndarray:
            # Punctuation belongs to no word and always stays, so that no version is without text.
            pieces = np.where(word_of_piece >= 0, keep[:, np.maximum(word_of_piece, 0)], True)
            if isinstance(model, A3lignReader):
                frames = visual.values[None, :, 0]
                logits = model.without_sentences(frames, target, torch.from_numpy(pieces))
                return reading.head.checkpoint.probabilities(logits)[:, target]
            return self._probability(
                reading.head,
                self._forward(reading.head, [visual], reading.text, reading.motion, text_mask=torch.from_numpy(pieces)),
                target,
            )

        weights = word_occlusion(with_words, len(words))
        evidence = evidence_map(maps, weights, self._owed(reading, target))
        deletion = self.check_ranking(reading, evidence, seed=seed) if with_deletion else None
        return Explanation(
            prediction=answer.prediction,
            face_clip=reading.clip,
            caption=told,
            action_units=reading.action_units,
            words=words,
            word_spans=spans,
            word_weights=weights,
            transport=over_frames(maps, len(reading.clip.images), axis=1) / (len(reading.clip.images) / frames),
            motion=over_frames(motion, len(reading.clip.images), axis=0),
            evidence=over_frames(evidence, len(reading.clip.images), axis=0) / (len(reading.clip.images) / frames),
            regions=region_grid(*visual.grid)
            if visual.coverage is None
            else measured_regions(visual.coverage, REGION_OF_AREA),
            region_source=REGION_SOURCE if visual.coverage is None else MEASURED,
            method=alignment.method,
            deletion=deletion,
        )

    def _probability(self, head: Head, output: GraceOutput, target: int) -> np.ndarray:
        return head.checkpoint.probabilities(output.logits)[:, target]

    def _owed(self, reading: Reading, target: int) -> np.ndarray:
        """How much of the answer's log-probability each cell's movement accounts for, through encoder and model."""
        text = reading.text
        with torch.enable_grad():  # copies: what inference made cannot be differentiated through
            words, sentence = text.values[None].clone(), text.sentence[None].clone()
            mask, phrases = torch.ones(words.shape[:2], dtype=torch.bool), phrase_numbers([text], len(text.pieces))
            moving = None if reading.motion is None else reading.motion.clone()

            def score(values: torch.Tensor, summary: torch.Tensor) -> torch.Tensor:
                model = reading.head.checkpoint.model
                output = model(values, words, mask, sentence, summary=summary, phrases=phrases, motion=moving)
                return (output.logits / reading.head.checkpoint.temperature).log_softmax(-1)[0, target]

            return owed_to_cells(reading.head.encoder.trace(reading.clip), score)

    def check_ranking(self, reading: Reading, ranking: np.ndarray, *, seed: int = 0) -> DeletionTest:
        """Take the movement out of cells of the video itself, the highest-ranked first, and ask the whole model again.

        Deletion acts on pixels and landmarks, not on tokens: a token can carry what its neighbours showed. The caption stays.

        Args:
            ranking: (steps, rows, columns).
        """
        head, target = reading.head, int(reading.output.logits[0].argmax())

        def probability(keep: np.ndarray) -> np.ndarray:
            clips = [without_movement(reading.clip, mask) for mask in keep]
            if isinstance(head.encoder, LandmarkReader):
                clips = [head.encoder.hold_still(clip, mask) for clip, mask in zip(clips, keep, strict=True)]
            tokens = head.encoder.encode(clips)
            return self._probability(head, self._forward(head, tokens, reading.text, self._motion(clips, head)), target)

        return deletion_test(probability, ranking, fractions=DELETED, num_orders=DELETION_ORDERS, seed=seed)

    @property
    def can_explain(self) -> bool:
        """The model aligns words with the video: those of a caption, or the sentences that it learned."""
        return self.checkpoint.model.aligns_words

    def about(self) -> dict[str, object]:
        """What reports say of the model."""
        about = dict(self.checkpoint.about)
        return {
            **about,
            "weights_sha256": self.checkpoint.digest,
            "front_end": self.front_end,
            "labels": list(self.labels),
            **self.outside_names,
        }

    @property
    def outside_names(self) -> dict[str, str]:
        """What stands in for parts of our own front end, by part."""
        parts = {"action_units_from": self.units_from, "guide_from": self.guide_from}
        return {part: source.name for part, source in parts.items() if source is not None}


def evidence_map(maps: np.ndarray, weights: np.ndarray, owed: np.ndarray) -> np.ndarray:
    """Evidence of each cell for the answer: the transport of the words that speak for it, times what the answer owes to the cell's movement.

    Args:
        maps: (words, steps, rows, columns) transport. weights: (words,) what the answer owes to each. owed: (steps, rows, columns).

    Returns:
        (steps, rows, columns) that sums to 1; all 0 where no cell speaks for the answer.
    """
    support = np.maximum(weights, 0)
    if not support.any():
        support = np.ones_like(weights)
    evidence = np.tensordot(support / support.sum(), maps, axes=1) * np.maximum(owed, 0)
    total = float(evidence.sum())
    return evidence / total if total > 0 else evidence


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
    landmarker: str = "auto",
    neutral: Path | str | None = None,
    box: Path | str = BOX_FOLDER,
    units_from: UnitTables | None = None,
    guide_from: Guide | None = None,
) -> Model:
    """A model ready to use: ``box`` (shipped with the package), or a checkpoint folder.

    The box has a head for every front end: with a landmarker it reads landmarks, and pixels where the landmarker sees no face; without, pixels.
    ``box-pixels``, ``box-landmarks`` and ``box-combined`` choose one.

    Args:
        face: Detector; ``auto`` takes the best that is there.
        landmarker: ``auto``: the file in DFERKIT_MODELS, where it and MediaPipe are there; ``none``; or a task file.
        neutral: A video of the same person at rest.
        units_from, guide_from: What stands in for the describer of action units and for the coarse classifier (``readings``).

    Raises:
        CheckpointError: No such model; the message says what is there. BackendError: The landmarker is not usable, or missing for a
            checkpoint that needs one.
    """
    settings = Settings(face=face, landmarker=str(landmarker), neutral=None if neutral is None else str(neutral))
    found = None
    if str(name) == "box":
        found = open_landmarker(settings.landmarker)
        folder = head_folder(box, "box" if found is None else WITH_LANDMARKS)
    else:
        folder = head_folder(box, NAMES[str(name)]) if str(name) in NAMES else Path(name)
        if not folder.exists():
            near = difflib.get_close_matches(str(name), ["box", *NAMES], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise CheckpointError(f"no model {str(name)!r}: give 'box' or a checkpoint folder.{hint}")
    checkpoint = load_checkpoint(folder)
    reads_landmarks = str(checkpoint.about["encoder"]) in WITH_GEOMETRY
    if settings.landmarker not in ("auto", "none") and not reads_landmarks:
        raise ConfigError(
            f"--landmarker {Path(settings.landmarker).name}: this model reads pixels; leave it out, or give another checkpoint"
        )
    if found is None and reads_landmarks:
        found = open_landmarker(settings.landmarker)
    return Model(
        checkpoint,
        box=box,
        settings=settings,
        landmarker=found,
        fallback=load_checkpoint(head_folder(box, "box")) if str(name) == "box" and found is not None else None,
        units_from=units_from,
        guide_from=guide_from,
    )
