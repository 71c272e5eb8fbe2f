"""Video → frames → faces → action units → caption and tokens → alignment → prediction, window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.encoders.landmarks import seen_share
from dferkit.encoders.open import open_visual_encoder
from dferkit.encoders.protocols import DescribingEncoder, LandmarkReader, VisualEncoder
from dferkit.encoders.text import TextEncoder
from dferkit.errors import BackendError, ConfigError, DataError, VideoError
from dferkit.faces import FaceLandmarker, build_detector
from dferkit.faces.read import LOW_COVERAGE_BELOW, NO_FACE_BELOW, WindowFaces, read_faces
from dferkit.faces.warp import no_face_message
from dferkit.judgement import Thresholds, find_doubts, judge
from dferkit.models.checkpoint import Checkpoint
from dferkit.pipeline.explanation import explain_answer
from dferkit.pipeline.head import Head
from dferkit.pipeline.results import Answer, Batch, ExplanationResult, Reading, Result
from dferkit.readings import NOTHING, Guide, Outside, UnitTables, read_outside
from dferkit.reports.tables import Provenance
from dferkit.schema import FaceClip, Prediction
from dferkit.video import clip_window, display_name, index_source, plan_windows

NUM_SAMPLES = 16


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
            index = index_source(path)
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
        index = index_source(path)
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
        caption = head.caption(units, outside.guide(clip))
        text = self.text_encoder.encode_captions([caption])[0]
        motion = head.motion([clip])
        return Reading(
            head=head,
            clip=clip,
            action_units=units,
            caption=caption,
            visual=visual,
            text=text,
            output=head.forward([visual], text, motion),
            motion=motion,
        )

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
            message=no_face_message(len(faces.timestamps), self.detector.name),
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

    def explain(
        self, path: Path | str, *, top_k: int = 5, max_windows: int = 4, with_deletion: bool = True
    ) -> ExplanationResult:
        """Which words met which moving parts, for the first ``max_windows`` answered windows.

        Raises:
            ConfigError: The neutral clip cannot be used. Without an answered window the result has no explanations.
        """
        answers = tuple(self.answers(path, name=display_name(Path(path).absolute())))
        result = Result(answers=answers, provenance=self.provenance, labels=self.labels)
        answered = [a for a in answers if a.reading is not None][:max_windows]
        explanations = tuple(explain_answer(a, with_deletion=with_deletion) for a in answered)
        return ExplanationResult(explanations=explanations, result=result, top_k=top_k, about=self.about())

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
