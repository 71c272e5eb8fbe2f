"""A loaded model: video → frames → faces → action units → caption and tokens → alignment → prediction, window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dferkit.encoders.box import BOX_FOLDER, BoxEncoder
from dferkit.encoders.open import open_text_encoder
from dferkit.encoders.protocols import LandmarkReader
from dferkit.errors import BackendError, ConfigError, DataError, VideoError
from dferkit.faces import FaceLandmarker, build_detector
from dferkit.faces.read import read_faces
from dferkit.faces.status import unreadable
from dferkit.judgement import Place, answer_row
from dferkit.models.checkpoint import Checkpoint
from dferkit.models.installed import check_fits
from dferkit.pipeline.answering import OneVideo, answer_window
from dferkit.pipeline.explanation import explain_answer
from dferkit.pipeline.head import Head
from dferkit.pipeline.neutral import resting_face
from dferkit.pipeline.people import PeopleOfVideo
from dferkit.pipeline.reading import Reader
from dferkit.pipeline.results import Answer, ExplanationResult, Result, Results
from dferkit.pipeline.settings import ReadingSettings
from dferkit.readings import ExternalTools
from dferkit.reports.tables import Provenance
from dferkit.video import display_name, index_source


class Model:
    """A loaded model: the one shipped with dferkit, or a trained checkpoint.

    Attributes:
        labels: Classes, in the order of every probability.
        settings: How videos are read where a call does not choose.
        reader: The networks. external: Other tools in place of parts of the front end.
        provenance: Name, weights, training data and calibration, for every output.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        face: str = "auto",
        landmarker: FaceLandmarker | None = None,
        fallback: Checkpoint | None = None,
        device: str = "cpu",
        settings: ReadingSettings | None = None,
        external: ExternalTools | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            face: Detector name or CSV of boxes. landmarker: For a checkpoint that reads landmarks.
            fallback: A checkpoint that answers where the landmarker finds no face. device: Of torch, where the networks run.

        Raises:
            CheckpointError: A checkpoint was trained with another encoder or bundled model. BackendError: It needs a landmarker, and there is none.
        """
        self.checkpoint, self.labels, self.landmarker = checkpoint, checkpoint.labels, landmarker
        self.settings, self.external = settings or ReadingSettings(), external or ExternalTools()
        pixels = BoxEncoder(BOX_FOLDER).to(device)
        heads = tuple(_open_head(found, device) for found in (checkpoint, fallback) if found is not None)
        if heads[0].encoder.needs_landmarks and landmarker is None:
            raise BackendError(
                "this model reads landmarks: give --landmarker FILE.task (dferkit models get face-landmarker), with the extra installed: pip install '.[landmarks]'"
            )
        names = str(checkpoint.about["text_encoder"]), str(checkpoint.about["encoder"])
        self.reader = Reader(heads=heads, box=pixels, text_encoder=open_text_encoder(*names, device=device))
        self._with_neutral: dict[str, Reader] = {}
        self.detector = build_detector(face)
        about = checkpoint.about
        self.provenance = Provenance(
            model=str(about["name"]),
            weights_sha256=checkpoint.digest,
            calibration=str(about["calibration"]),
            trained_on=str(about["trained_on"]),
            front_end=heads[0].front_end,
        )

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
    ) -> Result | Results:
        """Apparent expression of one video (a ``Result``) or of several (``Results``); a video that cannot be read becomes a row, never an exception.

        Args:
            inputs: A path, or several.
            people: ``largest`` or ``all``. window, stride: Seconds; by default those of the model's settings.
        """
        changes: dict[str, Any] = {"people": people, "window_seconds": window, "stride_seconds": stride}
        settings = replace(self.settings, **{name: value for name, value in changes.items() if value is not None})
        if isinstance(inputs, str | Path):
            return self._result(self.answers(inputs, settings=settings))
        answers: list[Answer] = []
        for number, path in enumerate(inputs):
            answers += self.answers(path, settings=settings)
            if on_progress:
                on_progress(number + 1, len(inputs))
        return Results(answers=tuple(answers), provenance=self.provenance, labels=self.labels)

    def _result(self, answers: Iterator[Answer]) -> Result:
        return Result(answers=tuple(answers), provenance=self.provenance, labels=self.labels)

    def answers(
        self, path: Path | str, *, settings: ReadingSettings | None = None, name: str | None = None
    ) -> Iterator[Answer]:
        """Answers window by window; memory does not grow with the video's length.

        Args:
            path: A video, or a folder of numbered pictures.
            name: How outputs name the input; by default the path as given.

        Raises:
            ConfigError: The neutral video cannot be used.
        """
        settings, name, windows_done = settings or self.settings, name or str(path), 0
        reader = self._reader(settings.neutral)  # a wrong one is refused before anything is read
        try:
            source = index_source(path)
            video = OneVideo(
                name=name,
                detector=self.detector.name,
                reader=reader,
                labels=self.labels,
                external=self.external.read(path, source.timestamps),
                people=PeopleOfVideo() if settings.people == "all" else None,
                has_neutral=settings.neutral is not None,
            )
            for faces in read_faces(
                source,
                settings.windows(source.duration_seconds),
                self.detector,
                people=settings.people,
                video_name=name,
                landmarker=self.landmarker,
            ):
                windows_done = faces.window.number + 1
                yield from answer_window(video, faces)
        except (VideoError, DataError) as error:
            place = Place(input=name, clip_id=f"{name}#{windows_done}.-1", window=windows_done)
            row = answer_row(place, unreadable(str(error)), self.labels, front_end=self.reader.front_end)
            yield Answer(prediction=row)

    def _reader(self, neutral: str | None) -> Reader:
        """The networks, with the face of a neutral video as their zero where one is named."""
        if neutral is None:
            return self.reader
        encoder = self.reader.heads[0].encoder
        if not isinstance(encoder, LandmarkReader):
            raise ConfigError(
                "--neutral is for models that read landmarks; this one reads pixels (dferkit doctor shows how to get a landmarker)"
            )
        if neutral not in self._with_neutral:
            points = resting_face(neutral, encoder, self.detector, self.landmarker)
            self._with_neutral[neutral] = self.reader.with_neutral(points)
        return self._with_neutral[neutral]

    def explain(
        self,
        path: Path | str,
        *,
        settings: ReadingSettings | None = None,
        top_k: int = 5,
        max_windows: int = 4,
        with_deletion: bool = True,
    ) -> ExplanationResult:
        """Explanations of the first ``max_windows`` answered windows; none without an answered window.

        Raises:
            ConfigError: The model aligns no words, or the neutral video cannot be used.
        """
        if not self.can_explain:
            raise ConfigError(
                f"{self.provenance.model} aligns no words with the video, so there is nothing to explain; give a model that does, such as box or grace"
            )
        result = self._result(self.answers(path, settings=settings, name=display_name(Path(path).absolute())))
        answered = [a for a in result.answers if a.reading is not None][:max_windows]
        explanations = tuple(explain_answer(a, with_deletion=with_deletion) for a in answered)
        return ExplanationResult(explanations=explanations, result=result, top_k=top_k, about=self.about())

    @property
    def can_explain(self) -> bool:
        """The model aligns words with the video: those of a caption, or the sentences that it learned."""
        return self.checkpoint.model.aligns_words

    @property
    def parts(self) -> dict[str, str]:
        """Detector, front end, and the tools that replace parts of it, by their keys in ``run.json``."""
        return {"detector": self.detector.name, "front_end": self.reader.front_end, **self.external.names}

    def about(self) -> dict[str, object]:
        """The model in reports: its checkpoint, weights, front end and classes, and the tools that replace parts of it."""
        return {
            **self.checkpoint.about,
            "weights_sha256": self.checkpoint.digest,
            "labels": list(self.labels),
            **self.parts,
        }


def _open_head(checkpoint: Checkpoint, device: str) -> Head:
    encoder = check_fits(checkpoint, device=device)
    checkpoint.model.to(device)
    return Head(checkpoint=checkpoint, encoder=encoder, device=device)
