"""One window's answer → the share of each phrase in it, where and when in the face that share arises, and a deletion test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dferkit.captions import on_video_clock
from dferkit.encoders.attribution import cell_attribution
from dferkit.encoders.face_shape import AREAS
from dferkit.encoders.protocols import LandmarkReader
from dferkit.errors import DataError
from dferkit.explain import (
    MEASURED,
    REGION_SOURCE,
    deletion_test,
    find_words,
    measured_regions,
    merge_pieces,
    occlusion,
    on_grid,
    region_grid,
    transport_maps,
)
from dferkit.pipeline.reading import Reading
from dferkit.pipeline.results import Answer
from dferkit.schema import PARAGRAPH, Caption, DeletionTest, Explanation, FaceClip, Phrase, PhraseEvidence, TokenBatch
from dferkit.tokens.batches import pad_texts

_REGION_OF_AREA = tuple(area.region for area in AREAS)
_BETWEEN = "words between the phrases"
DELETED, _DELETION_ORDERS = (0.0, 0.1, 0.2, 0.35, 0.5), 10


def explain_answer(answer: Answer, *, with_deletion: bool = True, seed: int = 0) -> Explanation:
    """Explain one answered window.

    Args:
        with_deletion: Run the deletion test, which takes most of the time. seed: Of its random orders.

    Raises:
        DataError: The window has no answer, or the model aligns no words.
    """
    reading = answer.reading
    if reading is None:
        raise DataError(f"{answer.prediction.input}: {answer.prediction.message}")
    caption = on_video_clock(reading.aligned_text)
    aligned, visual, alignment = _aligned_words(reading, caption), reading.visual, reading.output.alignment
    if alignment is None or alignment.plan.shape[1] != len(aligned.of_piece):
        raise DataError("this model aligns no words with the video; explain a model with text tokens, such as grace")
    steps, frames = len(visual.timestamps), len(reading.clip.images)
    of_tokens = transport_maps(
        alignment.plan[0].numpy(),
        alignment.visual_index[0].numpy(),
        steps,
        visual.values.shape[1],
        aligned.of_piece,
        len(aligned.words),
    )
    maps = on_grid(of_tokens, visual.grid, visual.coverage)
    moved = reading.output.motion
    of_clip = np.ones(of_tokens.shape[1:]) if moved is None else moved[0].double().numpy()
    motion = on_grid(of_clip, visual.grid, visual.coverage)
    target, attention = int(reading.output.logits[0].argmax()), reading.output.frame_attention
    attribution = _attribution(reading, target, maps.shape[1:])
    if reading.output.contributions is None:
        phrases, remainder = _estimated_phrases(reading, caption, aligned, maps, target), None
        evidence = evidence_map([phrase.evidence for phrase in phrases], attribution)
    else:
        phrases, remainder = _exact_phrases(reading, caption, target)
        evidence = _share_of_whole(np.maximum(attribution, 0))

    def over_time(values: np.ndarray) -> np.ndarray:
        return spread(values, frames, axis=values.ndim - 3) / (frames / steps)

    return Explanation(
        prediction=answer.prediction,
        face_clip=reading.clip,
        caption=caption,
        action_units=reading.action_units,
        phrases=tuple(replace(phrase, evidence=over_time(phrase.evidence)) for phrase in phrases),
        remainder=remainder,
        words=aligned.words,
        word_spans=aligned.spans,
        transport=over_time(maps),
        motion=spread(motion / motion.mean(), frames, axis=0),
        evidence=over_time(evidence),
        regions=region_grid(*visual.grid)
        if visual.coverage is None
        else measured_regions(visual.coverage, _REGION_OF_AREA),
        region_source=REGION_SOURCE if visual.coverage is None else MEASURED,
        method=alignment.method,
        deletion=check_ranking(reading, evidence, seed=seed) if with_deletion else None,
        attention=None if attention is None else spread(attention[0].numpy(), frames, axis=0) / (frames / steps),
    )


@dataclass(frozen=True, slots=True)
class _AlignedWords:
    """Words of a text, their first and last characters, and the word that each aligned piece belongs to (-1: none)."""

    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    of_piece: np.ndarray


def _aligned_words(reading: Reading, caption: Caption) -> _AlignedWords:
    """Words of the caption, whose times may differ from the text that the model read; of a learned paragraph its sentences, each of which is one piece."""
    if caption.source != PARAGRAPH:
        _, _, of_piece = merge_pieces(reading.aligned_text.text, reading.text.spans)
        return _AlignedWords(*find_words(caption.text), of_piece)
    words = tuple(caption.text.split(" "))
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    spans = tuple((int(end) - len(word), int(end)) for word, end in zip(words, ends, strict=True))
    return _AlignedWords(words, spans, np.arange(len(words)))


def _whole(text: str, span: tuple[int, int], share: float, evidence: np.ndarray, *, is_seen: bool) -> PhraseEvidence:
    """A text without times of its own."""
    return PhraseEvidence(
        text=text, span=span, start_seconds=np.nan, end_seconds=np.nan, is_seen=is_seen, share=share, evidence=evidence
    )


def _of_phrase(phrase: Phrase, share: float, evidence: np.ndarray) -> PhraseEvidence:
    span = (phrase.start_character, phrase.end_character)
    found = _whole(phrase.text, span, share, evidence, is_seen=not phrase.is_absent)
    if phrase.is_absent or not phrase.action_unit:
        return found
    return replace(found, start_seconds=phrase.start_seconds, end_seconds=phrase.end_seconds)


def _exact_phrases(reading: Reading, caption: Caption, target: int) -> tuple[list[PhraseEvidence], float]:
    """Each phrase's share of the answer's score above the mean of the classes, read off; and the share of the class itself."""
    contributions = reading.output.contributions
    assert contributions is not None
    visual = reading.visual
    of_unit = contributions[0, :, :, target].double().numpy().reshape(-1, *visual.values.shape[:2])
    logits = reading.output.logits[0].double().numpy()
    score = float(logits[target] - logits.mean()) or 1.0  # 0: all classes are equal, and every share is 0
    shares = on_grid(of_unit / score, visual.grid, visual.coverage)
    if len(shares) == len(reading.text.pieces) != len(caption.phrases):  # the units are word pieces
        numbers = np.array(reading.text.phrase_of_piece)
        shares = np.stack([shares[numbers == i].sum(0) for i in (*range(len(caption.phrases)), -1)])
    if not caption.phrases:
        whole = shares.sum(0)
        phrases = [_whole(caption.text, (0, len(caption.text)), float(whole.sum()), whole, is_seen=True)]
    else:
        phrases = [_of_phrase(p, float(of.sum()), of) for p, of in zip(caption.phrases, shares, strict=False)]
        between = shares[len(caption.phrases) :].sum(0)
        if between.any():
            phrases.append(_whole(_BETWEEN, (0, 0), float(between.sum()), between, is_seen=False))
    return phrases, 1 - sum(phrase.share for phrase in phrases)


def _estimated_phrases(
    reading: Reading, caption: Caption, aligned: _AlignedWords, maps: np.ndarray, target: int
) -> list[PhraseEvidence]:
    """Each phrase with the fall of the answer's probability without its words, spread over the cells that its words are aligned with.

    Args:
        maps: (words, steps, rows, columns) transport.
    """
    spans: list[tuple[int, int]]
    if caption.source == PARAGRAPH:
        spans = list(aligned.spans)
    else:
        spans = [(p.start_character, p.end_character) for p in caption.phrases] or [(0, len(caption.text))]
    starts = np.array([start for start, _ in aligned.spans])
    inside = np.array([(starts >= first) & (starts < last) for first, last in spans])
    falls = occlusion(lambda keep: _with_words(reading, aligned, ~(~keep @ inside), target), len(spans))
    phrases = []
    for number, (span, words, fall) in enumerate(zip(spans, inside, falls, strict=True)):
        evidence = fall * _share_of_whole(maps[words].sum(0))
        if caption.source != PARAGRAPH and caption.phrases:
            phrases.append(_of_phrase(caption.phrases[number], float(fall), evidence))
        else:
            phrases.append(_whole(caption.text[slice(*span)], span, float(fall), evidence, is_seen=True))
    return phrases


def _with_words(reading: Reading, aligned: _AlignedWords, keep: np.ndarray, target: int) -> np.ndarray:
    """Probability of the answer with some words only; ``keep`` is (versions, words)."""
    # Punctuation belongs to no word and always stays, so that no version is without text.
    pieces = torch.from_numpy(np.where(aligned.of_piece >= 0, keep[:, np.maximum(aligned.of_piece, 0)], True))
    head = reading.head
    with torch.inference_mode():
        batch = head.batch([reading.visual], reading.text, reading.motion).to(head.device)
        logits = head.checkpoint.model.scores_without_words(batch, target, pieces.to(head.device))
    return head.checkpoint.probabilities(logits.cpu())[:, target]


def _attribution(reading: Reading, target: int, cells: tuple[int, ...]) -> np.ndarray:
    """What each cell's movement adds to the answer's log-probability, through encoder and model; the same for all where the encoder has no trace."""
    text = reading.text
    with torch.enable_grad():  # copies: what inference made cannot be differentiated through
        words, mask, sentence, phrases = pad_texts([text])
        moving = None if reading.motion is None else reading.motion.clone()
        known = TokenBatch(
            text=words.clone(), text_mask=mask, sentence=sentence.clone(), phrases=phrases, motion=moving
        )

        def score(values: torch.Tensor, summary: torch.Tensor) -> torch.Tensor:
            head = reading.head
            output = head.checkpoint.model(replace(known, visual=values, summary=summary).to(head.device))
            return (output.logits.cpu() / head.checkpoint.temperature).log_softmax(-1)[0, target]

        trace = reading.head.encoder.trace(reading.clip)
        return np.ones(cells) if trace is None else cell_attribution(trace, score)


def check_ranking(
    reading: Reading, ranking: np.ndarray, *, fractions: Sequence[float] = DELETED, seed: int = 0
) -> DeletionTest:
    """Take the movement out of cells of the video itself, the highest-ranked first, and run the whole model again.

    Deletion acts on pixels and landmarks, not on tokens: a token can carry what its neighbours showed. The caption stays.

    Args:
        ranking: (steps, rows, columns). fractions: Shares of the cells, rising from 0.
    """
    head, target = reading.head, int(reading.output.logits[0].argmax())

    def probability(keep: np.ndarray) -> np.ndarray:
        clips = [without_movement(reading.clip, mask) for mask in keep]
        if isinstance(head.encoder, LandmarkReader):
            clips = [head.encoder.hold_still(clip, mask) for clip, mask in zip(clips, keep, strict=True)]
        tokens = head.encoder.encode(clips)
        return head.probability(head.forward(tokens, reading.text, head.motion(clips)), target)

    return deletion_test(probability, ranking, fractions=fractions, num_orders=_DELETION_ORDERS, seed=seed)


def check_tokens_ranking(
    reading: Reading, ranking: np.ndarray, *, fractions: Sequence[float] = (0.0, 0.05), seed: int = 0
) -> DeletionTest:
    """Replace tokens by the clip's mean, the highest-ranked first, and run the model without its encoder again.

    Args:
        ranking: (steps, tokens). fractions: Shares of the tokens, rising from 0.
    """
    head, target = reading.head, int(reading.output.logits[0].argmax())

    def probability(keep: np.ndarray) -> np.ndarray:
        versions = head.batch([reading.visual] * len(keep), reading.text, reading.motion)
        with torch.inference_mode():
            output = head.checkpoint.model(replace(versions, visual_keep=torch.from_numpy(keep[:, 0])).to(head.device))
        return head.probability(output.to("cpu"), target)

    return deletion_test(probability, ranking[None], fractions=fractions, num_orders=2 * _DELETION_ORDERS, seed=seed)


def evidence_map(phrases: Sequence[np.ndarray], attribution: np.ndarray) -> np.ndarray:
    """Evidence of each cell for the answer, estimated: where the phrases that support it are aligned, times what the answer owes to the cell's movement.

    Args:
        phrases: Where each phrase's share of the answer comes from, (steps, rows, columns).
        attribution: (steps, rows, columns) what the answer loses without the movement in each cell.

    Returns:
        (steps, rows, columns) that sums to 1; all 0 where no cell supports the answer.
    """
    support = sum((np.maximum(of, 0) for of in phrases), np.zeros(attribution.shape))
    if not support.any():
        support = sum((np.abs(of) for of in phrases), np.zeros(attribution.shape))
    return _share_of_whole(support * np.maximum(attribution, 0))


def _share_of_whole(values: np.ndarray) -> np.ndarray:
    """The values, scaled to sum to 1; all 0 where they are."""
    total = float(values.sum())
    return values / total if total > 0 else values


def spread(values: np.ndarray, count: int, *, axis: int) -> np.ndarray:
    """Values of token steps (or cells), repeated for each of the ``count`` frames (or pixels) that they cover."""
    return values.take(np.arange(count) * values.shape[axis] // count, axis)


def without_movement(clip: FaceClip, keep: np.ndarray) -> FaceClip:
    """The clip with its cells marked False replaced by what they show on average over the clip.

    Args:
        keep: (steps, rows, columns) over time and crop; frame ``i`` belongs to step ``i * steps // frames``.
    """
    frames, size = clip.images.shape[:2]
    pixels = keep
    for axis, count in enumerate((frames, size, size)):
        pixels = spread(pixels, count, axis=axis)
    mean = np.round(clip.images.mean(0)).astype(np.uint8)
    return replace(clip, images=np.where(pixels[..., None], clip.images, mean))
