"""The nouns of dferkit, in the order of the flow.

release, record → frames → face clip → action units, caption, tokens → alignment → prediction → explanation → evaluation

Conventions: images are uint8 RGB (height, width, 3), upright; boxes are (x, y, width, height) in pixels of the upright frame, origin at
the top left; times are presentation times in seconds; action-unit intensity is 0 to 1; "found" and masks are True for what counts.
NumPy on the data side, torch from the tokens on. All types are frozen: a step makes a new value, it never changes its input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

ReportProgress = Callable[[str, int, int, str], None]
"""Called with (stage, done, of, note) while something long runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One row of an annotation: a video with what people said of it. Never opens the video.

    Attributes:
        clip_id: Name of the clip in its data set; never changes with the folder it was found in.
        video: A video file, or a folder of frame pictures.
        votes: Share of the annotators for each class, in the order of the data set's labels, sums to 1.
        caption: A human description. Written by people who knew the label, so it never enters a test.
        attributes: Anything else the data set tells, such as ``scene``; used for scores by group only.
    """

    clip_id: str
    video: Path
    label: str | None = None
    split: str | None = None
    subject: str | None = None
    votes: tuple[float, ...] | None = None
    caption: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fold:
    """One official split: names of its training and test clips, in the order of the release's lists."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that a check of a release found.

    Attributes:
        severity: ``error`` (wrong, or the score would be), ``warning`` (look at it), ``note`` (good to know).
        code: Stable, such as ``LABEL_RANGE`` (listed in ``docs/reference/data-findings.md``).
        where: ``file:line`` below the release's root; empty for the release as a whole.
        message: What was found, what was expected, what to do.
    """

    severity: str
    code: str
    message: str
    where: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.message} [{self.code}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """An official data set as it lies on disk: its clips, its folds, and what is wrong with it.

    Attributes:
        layout: Such as ``dfew`` or ``mafw-compound``.
        labels: Class names in dferkit's order.
        records: In natural order of their clip ids; ``split`` is None, since that depends on the fold.
        media: Folder of the videos or frames below the root, empty for none. media_reason: Why this one was chosen.
        media_kind: ``faces`` (folders of frames already cut to the face), ``frames`` (folders of whole frames), ``videos`` or ``none``.
        annotation_digest: SHA-256 of the annotation files that were read.
        findings: Of the annotations, in the order of the files.
    """

    layout: str
    labels: tuple[str, ...]
    records: tuple[Record, ...]
    folds: tuple[Fold, ...]
    media: str
    media_reason: str
    media_kind: str
    annotation_digest: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeReport:
    """What happened while a window was decoded.

    Attributes:
        num_requested: Sampling times asked for.
        num_decoded: Different frames that were got (fewer when frames repeat or the file ends early).
        num_damaged: Packets that could not be decoded.
        rotation_degrees: Rotation that was applied to make the frames upright (0, 90, 180 or 270, counter-clockwise).
        is_truncated: The file ends before its declared end, or its index is cut.
        is_variable_rate: Frame intervals differ by more than half a frame.
        warnings: Stable codes such as ``W_TRUNCATED``, ``W_HDR``, ``W_BAD_ROTATION``.
    """

    num_requested: int
    num_decoded: int
    num_damaged: int = 0
    rotation_degrees: int = 0
    is_truncated: bool = False
    is_variable_rate: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """Sampled upright frames of one window of one video.

    Attributes:
        images: One image per sampling time; a frame may repeat when the video has fewer.
        timestamps: Presentation time of each image, in seconds, not decreasing.
        indices: Number of each image among the file's frames in presentation order, from 0.
        start_seconds, end_seconds: The window.
    """

    images: UInt8[np.ndarray, "frames height width 3"]
    timestamps: Float[np.ndarray, " frames"]
    indices: np.ndarray
    start_seconds: float
    end_seconds: float
    report: DecodeReport


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceBox:
    """One detected face; ``score`` is the detector's own, NaN where it has none."""

    x: float
    y: float
    width: float
    height: float
    score: float = float("nan")


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceTrack:
    """One person's boxes through a window. A track id is not a person's identity.

    Attributes:
        boxes: (x, y, width, height) per frame, NaN where the face was not found.
        scores: Detector score per frame, NaN where unknown.
        found: Frames with a face, detected or tracked.
        num_people: How many tracks the window has (1 when only this one).
    """

    track_id: int
    boxes: Float[np.ndarray, "frames 4"]
    scores: Float[np.ndarray, " frames"]
    found: Bool[np.ndarray, " frames"]
    detector: str
    num_people: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceQuality:
    """Figures a user can check a face clip by.

    Attributes:
        coverage: Share of the sampled frames with a face, 0 to 1.
        median_height_pixels: Median face height in the frame.
        sharpness: Median variance of the Laplacian of the grey 112-pixel crop (levels 0 to 255); below 20 is blurred.
        brightness: Median grey level of the crops, 0 to 255.
        jitter: Median movement of the box centre between frames, as a share of the face height.
        warnings: Stable codes such as ``W_SMALL_FACE``, ``W_BLUR``, ``W_DARK``, ``W_MULTIPLE_FACES``.
    """

    coverage: float
    median_height_pixels: float
    sharpness: float
    brightness: float
    jitter: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceGeometry:
    """What a landmarker tells beyond the box, per frame; NaN in frames where it found no face, None where it does not tell it at all.

    Attributes:
        landmarks: x, y in pixels of the upright frame, z in the same unit, smaller towards the camera.
        blend_shapes: Strength of each facial movement, 0 to 1, in the order of ``blend_shape_names``.
        head_pose: Homogeneous matrix from the canonical head (centimetres) to the camera.
    """

    landmarks: Float[np.ndarray, "frames points 3"] | None = None
    blend_shapes: Float[np.ndarray, "frames shapes"] | None = None
    head_pose: Float[np.ndarray, "frames 4 4"] | None = None
    blend_shape_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceClip:
    """Sampled and warped faces of one person: what every model sees.

    Frames without a face repeat the nearest found one, so that ``images`` is always complete; ``found`` tells which.
    ``geometry`` is there only where a landmarker was used.
    """

    images: UInt8[np.ndarray, "frames size size 3"]
    timestamps: Float[np.ndarray, " frames"]
    track: FaceTrack
    quality: FaceQuality
    start_seconds: float
    end_seconds: float
    geometry: FaceGeometry | None = None


STATUSES = ("error", "unreadable", "no_face", "abstain", "truncated", "low_coverage", "too_short", "ok")
"""What becomes of a clip or window. Each rules out those after it; ``faces.status`` has the conditions."""
ANSWERED = STATUSES[4:]
"""Those with an answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipStatus:
    """What became of one clip or of one person in a window: one of ``STATUSES``, with a message for the user."""

    status: str
    message: str
    coverage: float
    detector: str
    end_seconds: float
    num_people: int = 1

    @property
    def has_features(self) -> bool:
        """The clip can be answered."""
        return self.status in ANSWERED


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionUnits:
    """Action-unit intensity through a clip.

    Attributes:
        names: FACS names such as ``AU12``, one per column.
        intensity: 0 (absent) to 1 (maximum).
        source: Who measured: ``truth`` or the model's name.
    """

    names: tuple[str, ...]
    intensity: Float[np.ndarray, "frames aus"]
    timestamps: Float[np.ndarray, " frames"]
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CoarsePrediction:
    """Class probabilities that guide a caption, with the proof that they do not leak the label.

    Attributes:
        fold: Number of the inner fold the clip was held out in; -1 for clips outside the training set.
        is_out_of_fold: The model never saw this clip. Must be True for training clips.
    """

    labels: tuple[str, ...]
    probabilities: Float[np.ndarray, " classes"]
    model: str
    fold: int
    is_out_of_fold: bool

    def top(self, k: int) -> tuple[str, ...]:
        """The ``k`` most probable labels, most probable first."""
        return tuple(self.labels[i] for i in np.argsort(-self.probabilities, kind="stable")[:k])


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrase:
    """One visible movement in words.

    Attributes:
        text: The words as they stand in the caption.
        action_unit: FACS name such as ``AU4``; empty for a phrase that tells of no single one (a still face).
        regions: Face regions it concerns, names of ``facs.yaml``.
        intensity: Peak intensity, 0 to 1.
        start_character, end_character: Where it stands in the caption's text.
        is_stressed: The rewriter stressed it because a top-k class speaks of it.
    """

    text: str
    action_unit: str
    regions: tuple[str, ...]
    start_seconds: float
    end_seconds: float
    intensity: float
    start_character: int
    end_character: int
    is_stressed: bool = False


PARAGRAPH = "learned paragraph"  # source of a caption of learned sentences, which hold no words


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """A description of what moved. ``source`` is ``template``, ``user``, a language model's name or ``PARAGRAPH``."""

    text: str
    phrases: tuple[Phrase, ...]
    source: str
    guided_by: CoarsePrediction | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class VisualTokens:
    """Visual tokens of one clip.

    Attributes:
        values: Patches run row by row over ``grid``; after them comes one token per face area.
        summary: The encoder's own vector per token step.
        grid: Rows and columns of the patches; (0, 0) where there are only areas.
        areas: Names of the face areas. coverage: Where each lies on the face crop at each step, as shares of the cells of an 8 × 8 grid.
    """

    values: Float[Tensor, "frames patches dim"]
    summary: Float[Tensor, "frames summary_dim"]
    grid: tuple[int, int]
    timestamps: Float[np.ndarray, " frames"]
    encoder: str
    areas: tuple[str, ...] = ()
    coverage: Float[np.ndarray, "frames areas cells"] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTokens:
    """Text tokens of one caption.

    Attributes:
        values: One vector per word piece; special tokens are left out.
        sentence: One vector for the whole text.
        pieces: Text of each piece.
        spans: (start, end) character of each piece in the caption.
        phrase_of_piece: Number of the caption's phrase that each piece belongs to, -1 for none; empty when no phrases are known.
    """

    values: Float[Tensor, "words dim"]
    sentence: Float[Tensor, " dim"]
    pieces: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    encoder: str
    phrase_of_piece: tuple[int, ...] = ()

    def pieces_within(self, start: int, end: int) -> list[int]:
        """Numbers of the pieces that overlap the characters from ``start`` to before ``end``."""
        return [i for i, (first, last) in enumerate(self.spans) if first < end and last > start]


@dataclass(frozen=True, kw_only=True, slots=True)
class TransportPlan:
    """Answer of an entropy-regularised transport solver, and how the solving went.

    Attributes:
        plan: Mass moved from each word to each visual token; rows sum to the text mass, columns to the visual mass.
        transport_cost: ⟨plan, cost⟩ per batch element.
        marginal_error: L1 distance of the plan's marginals from the wanted ones, per batch element.
        num_iterations: Sweeps or steps used (the whole batch).
        converged: ``marginal_error`` ≤ tolerance, per batch element. Not converging is a value, not an exception.
    """

    plan: Float[Tensor, "batch words visual"]
    transport_cost: Float[Tensor, " batch"]
    marginal_error: Float[Tensor, " batch"]
    num_iterations: int
    converged: Bool[Tensor, " batch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """How words meet visual tokens; every aligner returns one.

    Attributes:
        plan: Non-negative weights; rows of live words sum to the text mass (1 / number of live words by default).
        score: Similarity of text and video per batch element, higher is closer.
        visual_index: Position (frame · patches + patch) of each visual column, -1 for padding; tokens may have been selected.
        method: ``transport``, ``cosine``, ``cross_attention``, or ``similarity`` (A³lign-DFER: a row is spread over the frames).
    """

    plan: Float[Tensor, "batch words visual"]
    score: Float[Tensor, " batch"]
    visual_index: Tensor
    method: str
    marginal_error: Float[Tensor, " batch"] | None = None
    num_iterations: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenShape:
    """Sizes that the data decides; a model is built for them. 0 where the data has no such thing.

    Attributes:
        visual_dim, num_frames, grid, num_areas: Of the visual tokens. summary_dim: Of the encoder's own vector per token step.
        text_dim: Width of a text token. token_width: Width of the token embeddings of the encoder's own text tower (CLIP).
        has_joint_space: A trained joint space exists for these tokens.
    """

    labels: tuple[str, ...]
    visual_dim: int = 96
    num_frames: int = 8
    grid: tuple[int, int] = (8, 8)
    num_areas: int = 0
    summary_dim: int = 0
    text_dim: int = 128
    token_width: int = 0
    has_joint_space: bool = False


def _moved(value: Any, device: torch.device | str) -> Any:
    """The same value with its tensors, also those of values in it, on another device."""
    found = {f.name: getattr(value, f.name) for f in fields(value)}
    tensors = {name: part.to(device) for name, part in found.items() if isinstance(part, Tensor)}
    values = {name: _moved(part, device) for name, part in found.items() if is_dataclass(part)}
    return replace(value, **tensors, **values)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenBatch:
    """What a model reads at once; None for what the data does not hold.

    Attributes:
        visual: Visual tokens, float32. frames: RGB frames in place of tokens, for models that hold their own encoder.
        text: Token vectors of the captions, padded; ``text_mask`` is True for real ones. sentence: One vector per caption.
        phrases: Number of the phrase that each word belongs to, -1 for none.
        target: Class numbers, 0 where they are not known. soft_target: Shares of the annotators, each row sums to 1.
        summary: The visual encoder's own vector per token step. motion: Measured motion weights, mean 1 per clip.
        visual_keep: For deletion tests: tokens marked False are replaced by the clip's mean token and take no part in the alignment.
    """

    visual: Float[Tensor, "batch frames patches visual_dim"] | None = None
    frames: UInt8[Tensor, "batch frames height width 3"] | None = None
    text: Float[Tensor, "batch words text_dim"] | None = None
    text_mask: Bool[Tensor, "batch words"] | None = None
    sentence: Float[Tensor, "batch text_dim"] | None = None
    phrases: Int[Tensor, "batch words"] | None = None
    target: Int[Tensor, " batch"] | None = None
    soft_target: Float[Tensor, "batch classes"] | None = None
    summary: Float[Tensor, "batch frames summary_dim"] | None = None
    motion: Float[Tensor, "batch frames patches"] | None = None
    visual_keep: Bool[Tensor, "batch frames patches"] | None = None

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same batch on another device."""
        moved: TokenBatch = _moved(self, device)
        return moved


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOutput:
    """Answer of a model for a batch.

    Attributes:
        logits: Class scores, before the checkpoint's temperature.
        alignment: How the words met the visual tokens; None for a model that aligns none.
        motion: Motion weight of every visual token, mean 1 per clip; None for a model without them.
        frame_attention: Share of each frame in the video's vector, of models that attend to frames.
        contributions: Share of each phrase and visual token in each class score, of models whose evidence is exact.
    """

    logits: Float[Tensor, "batch classes"]
    alignment: Alignment | None = None
    motion: Float[Tensor, "batch frames patches"] | None = None
    frame_attention: Float[Tensor, "batch frames"] | None = None
    contributions: Float[Tensor, "batch phrases visual classes"] | None = None

    def to(self, device: torch.device | str) -> Self:
        """The same answer on another device."""
        moved: Self = _moved(self, device)
        return moved

    def among(self, classes: Int[Tensor, " shown"]) -> ModelOutput:
        """The answer as a choice among some classes."""
        return replace(self, logits=self.logits[:, classes])


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """The answer for one window of one input: the apparent expression, never what a person feels.

    Attributes:
        label: Predicted class, None without an answer.
        probabilities: One per label, sums to 1; None without an answer.
        status: One of ``STATUSES``.
        message: For the user, empty when all is well.
        detector: Who found the face, such as ``haar``. front_end: What was read of it: ``pixels``, ``landmarks``, ``both``, or a foreign backbone's name.
        abstain_reason: Why no label is given although a face was seen.
    """

    input: str
    clip_id: str
    track_id: int
    window: int
    start_seconds: float
    end_seconds: float
    labels: tuple[str, ...]
    label: str | None
    probabilities: Float[np.ndarray, " classes"] | None
    status: str
    message: str = ""
    num_frames: int = 0
    num_face_frames: int = 0
    detector: str = ""
    front_end: str = ""
    abstain_reason: str = ""

    @property
    def confidence(self) -> float:
        """Probability of the most probable class; NaN without an answer."""
        return float("nan") if self.probabilities is None else float(self.probabilities.max())

    @property
    def margin(self) -> float:
        """Most probable minus second; NaN without an answer."""
        if self.probabilities is None:
            return float("nan")
        second, first = np.sort(self.probabilities)[-2:]
        return float(first - second)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeletionTest:
    """Does the picture of the explanation say what the model used?

    Attributes:
        fractions: Shares of the visual tokens that were removed, rising from 0.
        ranked_probability: Probability of the predicted class when the highest-ranked tokens go first.
        random_probability: The same for random orders, one row per order.
        drop: Mean over fractions of (random − ranked); above 0 the explanation beats chance.
    """

    fractions: Float[np.ndarray, " steps"]
    ranked_probability: Float[np.ndarray, " steps"]
    random_probability: Float[np.ndarray, "orders steps"]
    drop: float

    @property
    def num_beaten(self) -> int:
        """Random orders that lower the probability less than the ranked one does."""
        return int((self.random_probability.mean(1) > self.ranked_probability.mean()).sum())


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Why: which words met which moving parts of the face, for one prediction.

    Attributes:
        words: Whole words of the caption, in order (pieces are merged).
        word_spans: (start, end) character of each word in the caption.
        word_weights: How much the predicted class owes to each word (occlusion), scaled so that the largest magnitude is 1.
        transport: Mass of each word on each cell; each word's map sums to 1.
        motion: Motion weight of each cell, mean 1.
        evidence: Where the words that speak for the answer met the face, times how much the answer owes to the movement there; sums to 1, or all 0.
        attention: Share of each frame in the video's vector, of models that attend to frames.
        regions: Region name of each cell, row by row. region_source: ``crop fractions`` (a frontal face assumed) or ``landmarks`` (measured).
    """

    prediction: Prediction
    face_clip: FaceClip
    caption: Caption
    action_units: ActionUnits
    words: tuple[str, ...]
    word_spans: tuple[tuple[int, int], ...]
    word_weights: Float[np.ndarray, " words"]
    transport: Float[np.ndarray, "words frames rows columns"]
    motion: Float[np.ndarray, "frames rows columns"]
    evidence: Float[np.ndarray, "frames rows columns"]
    regions: tuple[tuple[str, ...], ...]
    method: str
    deletion: DeletionTest | None = None
    region_source: str = "crop fractions"
    attention: Float[np.ndarray, " frames"] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Scores of one model on one set of clips, all float64.

    Attributes:
        uar: Unweighted average recall: mean over the classes present of their recall.
        war: Weighted average recall: share of correct clips.
        uar_ci95, war_ci95: Percentile bootstrap interval; by subject where subjects are known.
        per_class_recall: NaN for a class without clips.
        confusion: Rows are true classes, columns predicted ones, in the order of ``labels``.
    """

    labels: tuple[str, ...]
    uar: float
    war: float
    uar_ci95: tuple[float, float]
    war_ci95: tuple[float, float]
    per_class_recall: Float[np.ndarray, " classes"]
    confusion: np.ndarray
    num_clips: int
    num_failed: int = 0
    warnings: tuple[str, ...] = field(default=())
