"""A made-up explanation on a rendered face: brows furrow, lip corners rise, and the words know where."""

from __future__ import annotations

import functools

import numpy as np

from dferkit.captions.describe import describe
from dferkit.explain import deletion_test, merge_pieces, region_grid, transport_maps
from dferkit.faces import crop_face
from dferkit.facs import AU_NAMES
from dferkit.labels import BASIC
from dferkit.schema import ActionUnits, Explanation, FaceClip, FaceQuality, FaceTrack, PhraseEvidence, Prediction
from dferkit.synthetic.benchmark import BenchmarkConfig, draw_clip, draw_identity, plan_clips
from dferkit.synthetic.render import render_frames

GRID = (14, 14)
NUM_FRAMES = 16
_PLACES = {"brows": ("brow", "glabella"), "lips": ("mouth",), "lip": ("mouth",), "corners": ("mouth", "cheeks"),
           "mouth": ("mouth",), "jaw": ("chin",), "nose": ("nose",), "eyes": ("eyes",), "eyelids": ("eyes",),
           "cheeks": ("cheeks",), "chin": ("chin",)}  # fmt: skip


@functools.cache
def _clip(number: int) -> tuple[str, np.ndarray, np.ndarray]:
    config = BenchmarkConfig(clips=14)
    plan = plan_clips(config)[number]
    act = draw_clip(config, plan)
    images = render_frames(draw_identity(config, plan.subject), act.au, act.asymmetry, act.scene, size=112)
    box = np.array([24.3, 19.1, 60.3, 60.3])
    return plan.label, act.au, np.stack([crop_face(image, box, size=112) for image in images])


@functools.cache
def make_explanation(number: int = 0, *, name: str = "", is_rendered: bool = True, window: int = 0) -> Explanation:
    """Explanation of clip ``number``; without ``is_rendered`` the pixels are noise, which is faster."""
    generator = np.random.default_rng(number)
    timestamps = np.arange(NUM_FRAMES) / 8 + 2.0 * window
    if is_rendered:
        label, au, images = _clip(number)
    else:
        label, au = BASIC[number % 7], np.zeros((NUM_FRAMES, len(AU_NAMES)))
        au[4:, AU_NAMES.index("AU12")] = 0.8
        au[8:, AU_NAMES.index("AU4")] = 0.6
        images = generator.integers(0, 255, (NUM_FRAMES, 112, 112, 3), dtype=np.uint8)
    units = ActionUnits(names=AU_NAMES, intensity=au, timestamps=timestamps, source="truth")
    caption = describe(units)
    pieces = [(i, i + 4) for i in range(0, len(caption.text), 4)]
    words, spans, word_of_piece = merge_pieces(caption.text, pieces)
    regions = region_grid(*GRID)
    names = np.asarray(regions)
    rise = au.max(1) / max(au.max(), 1e-6)
    logits = generator.gamma(1.0, 0.3, (len(pieces), NUM_FRAMES, *GRID))
    for piece, word in enumerate(word_of_piece):
        places = _PLACES.get(words[word].lower(), ()) if word >= 0 else ()
        logits[piece] += 4.0 * rise[:, None, None] * np.isin(names, places)
    plan = logits.reshape(len(pieces), -1)
    plan /= plan.sum()
    index = np.arange(plan.shape[1])
    maps = transport_maps(plan, index, NUM_FRAMES, GRID[0] * GRID[1], word_of_piece, len(words)).reshape(
        -1, NUM_FRAMES, *GRID
    )
    motion = generator.gamma(2.0, 0.5, (NUM_FRAMES, *GRID)) * (0.5 + rise[:, None, None] * (names != "outside"))
    motion /= motion.mean()
    shares = generator.uniform(0.1, 1, len(caption.phrases))
    shares[-1] = -0.2  # the last phrase speaks for another class
    shares *= 0.9 / shares.sum()
    of_phrase = [
        maps[[i for i, (start, _) in enumerate(spans) if p.start_character <= start < p.end_character]].mean(0)
        for p in caption.phrases
    ]
    phrases = tuple(
        PhraseEvidence(
            text=p.text,
            span=(p.start_character, p.end_character),
            start_seconds=p.start_seconds,
            end_seconds=p.end_seconds,
            is_seen=True,
            share=float(share),
            evidence=share * where / where.sum(),
        )
        for p, share, where in zip(caption.phrases, shares, of_phrase, strict=True)
    )
    probabilities = np.full(7, 0.02)
    probabilities[BASIC.index(label)], probabilities[(BASIC.index(label) + 1) % 7] = 0.81, 0.09
    probabilities /= probabilities.sum()
    prediction = Prediction(
        input=name or f"videos/clip{number:05d}.mp4", clip_id=f"clip{number:05d}", track_id=0, window=window,
        start_seconds=2.0 * window, end_seconds=2.0 * window + 2.0, labels=BASIC, label=label,
        probabilities=probabilities, status="ok", num_frames=NUM_FRAMES, num_face_frames=14, detector="haar", front_end="pixels",
    )  # fmt: skip
    found = np.ones(NUM_FRAMES, dtype=bool)
    found[[2, 3]] = False
    boxes = np.tile([20.0, 20.0, 70.0, 70.0], (NUM_FRAMES, 1))
    boxes[~found] = np.nan
    track = FaceTrack(track_id=0, boxes=boxes, scores=np.full(NUM_FRAMES, np.nan), found=found, detector="haar")
    quality = FaceQuality(
        coverage=14 / 16, median_height_pixels=70.0, sharpness=61.0, brightness=124.0, jitter=0.012,
        warnings=("W_SMALL_FACE",),
    )  # fmt: skip
    ranking = maps.mean(0)
    worth = np.random.default_rng(1).uniform(0, 1, ranking.shape) * ranking / ranking.mean()
    worth /= worth.sum()
    deletion = deletion_test(lambda keep: 0.1 + 0.71 * (keep * worth).sum((1, 2, 3)), ranking, seed=0)
    return Explanation(
        prediction=prediction,
        face_clip=FaceClip(
            images=images, timestamps=timestamps, track=track, quality=quality, start_seconds=2.0 * window,
            end_seconds=2.0 * window + 2.0,
        ),
        caption=caption,
        action_units=units,
        phrases=phrases,
        remainder=0.1,
        words=words,
        word_spans=spans,
        transport=maps,
        motion=motion,
        evidence=ranking / ranking.sum(),
        regions=regions,
        method="transport",
        deletion=deletion,
    )  # fmt: skip
