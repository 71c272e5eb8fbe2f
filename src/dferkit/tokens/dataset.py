"""Labelled clips as every training, scoring and calibration reads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from dferkit.errors import DataError
from dferkit.schema import ClipStatus, Record, TextTokens, TokenBatch, TokenShape
from dferkit.storage import digest_arrays, digest_json
from dferkit.tokens.batches import number_clips, pad_texts
from dferkit.tokens.rows import TokenRows, digest_rows, take_rows

AT_ONCE = 32
"""Rows of a batch where nothing is trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenDataset:
    """Labelled clips with the tokens of a frozen encoder, or with frames in their place; a row per clip, or per view of one.

    Attributes:
        records: Of the rows; a record repeats where its clip has several views. labels: Classes that ``target`` numbers.
        target: (rows,) class numbers. groups: (rows,) names; rows of one name are never in two inner folds (people, or neighbouring clips).
        visual: float16 (rows, frames, patches, dim), in memory or on disk. frames: uint8 (rows, frames, height, width, 3), in place of it.
        summary: float16 (rows, frames, summary_dim); width 0 where the encoder has none. motion: Measured motion weights (rows, frames, patches).
        texts: Tokens of one caption per row, from any source; None before the clips are captioned.
        soft_target: (rows, classes) shares of the annotators, used in place of ``target``.
        units: (rows, samples, AUs) action units of the describer, 0 to 1. timestamps: (rows, samples) seconds.
        boxes, frame_sizes: (rows, samples, 4) and (rows, 2) width, height, to map a known truth onto crops.
        view: (rows,) number of each row's view of its clip; 0 is the middle of every segment.
        statuses: Status of every requested clip, by clip id.
        encoder, encoder_digest: The visual encoder. text_encoder_digest: Of the text encoder of ``texts``, where it is known. describer: Who measured the action units.
    """

    records: tuple[Record, ...]
    labels: tuple[str, ...]
    target: np.ndarray
    groups: np.ndarray
    visual: Tensor | TokenRows | None = None
    frames: Tensor | TokenRows | None = None
    summary: Tensor | None = None
    motion: Tensor | None = None
    texts: tuple[TextTokens, ...] | None = None
    soft_target: np.ndarray | None = None
    units: np.ndarray
    timestamps: np.ndarray
    boxes: np.ndarray | None = None
    frame_sizes: np.ndarray | None = None
    view: np.ndarray
    au_names: tuple[str, ...] = ()
    grid: tuple[int, int] = (0, 0)
    areas: tuple[str, ...] = ()
    encoder: str = ""
    encoder_digest: str = ""
    text_encoder_digest: str = ""
    describer: str = ""
    statuses: Mapping[str, ClipStatus] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """Clip of each row."""
        return tuple(record.clip_id for record in self.records)

    @property
    def subjects(self) -> np.ndarray:
        """Person of each row; a clip without one counts as another person."""
        return subjects_of(self.records)

    @property
    def clips(self) -> np.ndarray:
        """Number of each row's clip: views of one clip have one number."""
        return number_clips(self.clip_ids)

    @property
    def first_rows(self) -> np.ndarray:
        """The first row of every clip."""
        return np.unique(self.clips, return_index=True)[1]

    @property
    def class_shares(self) -> dict[str, float]:
        """Share of each class among the clips."""
        counts = np.bincount(self.target[self.first_rows], minlength=len(self.labels))
        return {label: round(float(n / counts.sum()), 6) for label, n in zip(self.labels, counts, strict=True)}

    @property
    def digest(self) -> str:
        """SHA-256 of all that a training reads of the rows."""
        arrays = {"target": self.target.astype(np.int64), "clips": self.clips}
        for name in ("summary", "motion"):
            value = getattr(self, name)
            if value is not None:
                arrays[name] = value.numpy()
        if self.soft_target is not None:
            arrays["soft_target"] = self.soft_target.astype(np.float64)
        rows = [digest_rows(values) for values in (self.visual, self.frames) if values is not None]
        return digest_json([self.labels, digest_arrays(arrays), rows, digest_texts(self.texts or ())])

    def shape(
        self, *, text_dim: int, token_width: int = 0, has_joint_space: bool = False, shares_space: bool = False
    ) -> TokenShape:
        """Sizes that a model is built for."""
        if self.visual is None:
            raise DataError("these clips hold frames and no tokens; this model reads tokens")
        return TokenShape(
            labels=self.labels,
            visual_dim=self.visual.shape[-1],
            num_frames=self.visual.shape[1],
            grid=self.grid,
            num_areas=len(self.areas),
            summary_dim=0 if self.summary is None else self.summary.shape[-1],
            text_dim=text_dim,
            token_width=token_width,
            has_joint_space=has_joint_space,
            shares_space=shares_space,
        )

    def visual_in_memory(self) -> Tensor:
        """All visual tokens as one tensor."""
        assert self.visual is not None
        return self.visual.load() if isinstance(self.visual, TokenRows) else self.visual

    def take(self, chosen: Sequence[int] | np.ndarray) -> TokenDataset:
        """Some rows, in this order."""
        index = np.asarray(chosen, dtype=np.int64)
        changes: dict[str, object] = {}
        for name in ("target", "groups", "units", "timestamps", "boxes", "frame_sizes", "view", "soft_target"):
            value = getattr(self, name)
            changes[name] = None if value is None else value[index]
        for name in ("visual", "frames", "summary", "motion"):
            value = getattr(self, name)
            changes[name] = None if value is None else take_rows(value, index)
        changes["records"] = tuple(self.records[i] for i in index)
        changes["texts"] = None if self.texts is None else tuple(self.texts[i] for i in index)
        return replace(self, **changes)  # type: ignore[arg-type]

    def of_clips(self, clip_ids: Iterable[str], *, all_views: bool = False) -> TokenDataset:
        """Rows of some clips, in the data set's order; the first view alone, or all."""
        wanted = set(clip_ids)
        return self.take(
            [i for i, r in enumerate(self.records) if r.clip_id in wanted and (all_views or self.view[i] == 0)]
        )

    def with_labels(self, labels: tuple[str, ...]) -> TokenDataset:
        """The same rows with their classes numbered as in ``labels``; -1 for a class that is not among them."""
        return replace(self, labels=labels, target=targets_of(self.records, labels))

    def num_views(self) -> dict[int, int]:
        """How many clips have how many different views."""
        _, counts = np.unique(self.clips, return_counts=True)
        return {int(n): int(k) for n, k in zip(*np.unique(counts, return_counts=True), strict=True)}

    def with_votes(self) -> TokenDataset:
        """The same clips with the shares of their annotators as soft target.

        Raises:
            DataError: Some clips have none.
        """
        missing = [record.clip_id for record in self.records if record.votes is None]
        if missing:
            raise DataError(
                f"{len(missing)} training clips have no votes, such as {missing[0]}; prepare the store with --votes"
            )
        return replace(self, soft_target=np.array([record.votes for record in self.records]))

    def batch(self, rows: slice | np.ndarray) -> TokenBatch:
        """Some rows as a model reads them: texts padded to the longest, tokens as float32."""
        index = rows if isinstance(rows, slice) else torch.from_numpy(np.asarray(rows, dtype=np.int64))
        numbers = range(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        text, mask, sentence, phrases = (
            (None,) * 4 if self.texts is None else pad_texts([self.texts[i] for i in numbers])
        )
        has_summary = self.summary is not None and self.summary.shape[-1] > 0
        return TokenBatch(
            visual=None if self.visual is None else self.visual[index].float(),
            frames=None if self.frames is None else self.frames[index],
            text=text,
            text_mask=mask,
            sentence=sentence,
            phrases=phrases,
            phrase_steps=self._phrase_steps(rows, numbers),
            target=torch.from_numpy(self.target[rows]).long(),
            soft_target=None if self.soft_target is None else torch.from_numpy(self.soft_target[rows]).float(),
            summary=self.summary[index].float() if self.summary is not None and has_summary else None,
            motion=None if self.motion is None else self.motion[index],
        )

    def _phrase_steps(self, rows: slice | np.ndarray, numbers: Iterable[int]) -> Tensor | None:
        """``TokenBatch.phrase_steps``: a step belongs to a phrase if its middle lies in the phrase's time."""
        if self.texts is None or self.visual is None:
            return None
        parts = np.array_split(self.timestamps[rows], self.visual.shape[1], axis=1)
        middles, found = np.stack([part.mean(1) for part in parts], 1), []
        for number, of_row in zip(numbers, middles, strict=True):
            times = np.array(self.texts[number].phrase_seconds).reshape(-1, 2, 1)
            found.append(torch.from_numpy((times[:, 0] <= of_row) & (of_row < times[:, 1])))
        return torch.nn.utils.rnn.pad_sequence(found, batch_first=True)

    def batches(self, size: int = AT_ONCE) -> Iterator[TokenBatch]:
        """All rows in order."""
        for first in range(0, len(self), size):
            yield self.batch(slice(first, first + size))


def subjects_of(records: Sequence[Record]) -> np.ndarray:
    """Person of each record; a clip without one counts as another person."""
    return np.array([record.subject or f"clip:{record.clip_id}" for record in records], dtype=np.str_)


def targets_of(records: Sequence[Record], labels: tuple[str, ...]) -> np.ndarray:
    """Class number of each record; -1 for a class that is not among ``labels``."""
    number = {label: i for i, label in enumerate(labels)}
    return np.array([number.get(str(record.label), -1) for record in records], dtype=np.int64)


def digest_texts(texts: Sequence[TextTokens]) -> str:
    """SHA-256 over the words, their phrases with their times, and their vectors, and those of the sentences, in order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(json.dumps([text.pieces, text.phrase_of_piece, text.phrase_seconds]).encode())
        for values in (text.values, text.sentence):
            digest.update(values.contiguous().numpy().tobytes())
    return digest.hexdigest()


def in_order(data: TokenDataset, order: str, *, seed: int = 0) -> TokenDataset:
    """The same clips with their token steps in time ``normal``, ``reversed``, or ``random`` (another order for each clip)."""
    if order == "normal":
        return data
    visual = data.visual_in_memory()
    steps = np.tile(np.arange(visual.shape[1])[::-1], (len(visual), 1))
    if order == "random":
        steps = np.random.default_rng(seed).permuted(steps, axis=1)
    rows, index = torch.arange(len(visual))[:, None], torch.from_numpy(steps.copy())
    motion = None if data.motion is None else data.motion[rows, index]
    return replace(
        data,
        visual=visual[rows, index],
        summary=None if data.summary is None else data.summary[rows, index],
        motion=motion,
    )
