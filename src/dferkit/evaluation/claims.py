"""The papers' claims as measurements on rendered clips with known truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dferkit.evaluation.metrics import spearman
from dferkit.faces import CROP_MARGIN
from dferkit.facs import AU_NAMES
from dferkit.schema import Caption, TextTokens
from dferkit.synthetic import Truth

HEAT_INSIDE = 0.5  # a cell is inside an AU's heat map when the AU moves it at least half as far as its farthest cell
_MOVING = 1e-3  # pixels per frame


def on_crop(maps: np.ndarray, box: np.ndarray, frame_size: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """Maps over the frame, resampled to the token grid of a face crop.

    Args:
        maps: (…, rows, columns) over the whole frame. box: (x, y, width, height) in pixels. frame_size: (width, height).

    Returns:
        (…, *grid); cells outside the frame are 0.
    """
    side = float(max(box[2], box[3])) * (1 + 2 * CROP_MARGIN)
    left, top = box[0] + box[2] / 2 - side / 2, box[1] + box[3] / 2 - side / 2
    rows, columns = maps.shape[-2:]
    fine = 4  # samples per cell and axis
    x = (left + side * (np.arange(grid[1] * fine) + 0.5) / (grid[1] * fine)) / frame_size[0] * columns - 0.5
    y = (top + side * (np.arange(grid[0] * fine) + 0.5) / (grid[0] * fine)) / frame_size[1] * rows - 0.5
    map_x, map_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    flat = maps.reshape(-1, rows, columns).astype(np.float32)
    sampled = np.stack(
        [cv2.remap(m, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0) for m in flat]
    )
    pooled = sampled.reshape(len(flat), grid[0], fine, grid[1], fine).mean((2, 4))
    return pooled.reshape(*maps.shape[:-2], *grid)


def truth_on_crop(
    maps: np.ndarray, boxes: np.ndarray, frame_size: tuple[int, int], grid: tuple[int, int], steps: int
) -> np.ndarray:
    """Per-frame maps (frames, rows, columns) on each frame's own crop, averaged to ``steps`` token steps."""
    boxes = _filled(boxes)
    crops = np.stack([on_crop(m, b, frame_size, grid) for m, b in zip(maps, boxes, strict=True)])
    return crops.reshape(steps, -1, *grid).mean(1)


def _filled(boxes: np.ndarray) -> np.ndarray:
    """Boxes with the frames without face taken from the nearest frame that has one, as the crops are."""
    found = np.flatnonzero(np.isfinite(boxes[:, 0]))
    nearest = found[np.abs(np.arange(len(boxes))[:, None] - found).argmin(1)]
    return boxes[nearest]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipEvidence:
    """What a model said of one clip, beside the truth.

    Attributes:
        motion: (steps, rows, columns) weights. plan: (pieces, steps · patches) transport, rows as they are.
        boxes: (frames, 4). frame_size: (width, height).
    """

    truth: Truth
    motion: np.ndarray
    plan: np.ndarray | None
    caption: Caption
    tokens: TextTokens
    boxes: np.ndarray
    frame_size: tuple[int, int]


def motion_claim(clips: Sequence[ClipEvidence]) -> dict[str, float]:
    """Do the motion weights follow expression rather than nuisance?

    Returns:
        Mean over clips of Spearman's correlation of the weights with ``flow_expression`` and with ``flow_nuisance``, their difference, and the share
        of the 10 % of cells with most expression that are among the 30 % with the largest weights (chance .30).
    """
    expression, nuisance, kept = [], [], []
    for clip in clips:
        steps, *grid = clip.motion.shape
        shown = truth_on_crop(
            clip.truth.flow_expression, clip.boxes, clip.frame_size, (grid[0], grid[1]), steps
        ).ravel()
        other = truth_on_crop(clip.truth.flow_nuisance, clip.boxes, clip.frame_size, (grid[0], grid[1]), steps).ravel()
        weights = clip.motion.ravel()
        if np.ptp(weights) < 1e-9:
            continue
        if shown.max() > _MOVING:
            expression.append(spearman(weights, shown))
            top = np.argsort(-shown, kind="stable")[: max(len(shown) // 10, 1)]
            chosen = np.argsort(-weights, kind="stable")[: int(0.3 * len(weights))]
            kept.append(float(np.isin(top, chosen).mean()))
        if other.max() > _MOVING:
            nuisance.append(spearman(weights, other))
    result = {"num_clips": float(len(expression))}
    for name, values in (
        ("spearman_expression", expression),
        ("spearman_nuisance", nuisance),
        ("top10_kept_in_top30", kept),
    ):
        result[name] = float(np.mean(values)) if values else float("nan")
    result["difference"] = result["spearman_expression"] - result["spearman_nuisance"]
    return result


def localisation_claim(clips: Sequence[ClipEvidence], *, seed: int = 0) -> dict[str, float]:
    """Does a phrase's transport mass lie where its action unit moves the face?

    Only phrases of action units that truly show (intensity ≥ .15 at some time) count.

    Returns:
        ``mass_inside``: Mean share of a phrase's mass in cells where its AU moves the skin at least half as far as anywhere; ``uniform``: The share
        of a uniform plan; ``shuffled``: the share in the heat map of another phrase's AU; the two ratios; ``num_phrases``.
    """
    rng = np.random.default_rng(seed)
    mass: list[np.ndarray] = []
    own: list[np.ndarray] = []
    units: list[str] = []
    for clip in clips:
        if clip.plan is None:
            continue
        steps, *grid = clip.motion.shape
        box = np.nanmean(clip.boxes, 0)
        heat = on_crop(clip.truth.heat, box, clip.frame_size, (grid[0], grid[1]))
        for phrase in clip.caption.phrases:
            if phrase.action_unit not in AU_NAMES or phrase.intensity <= 0:
                continue
            column = AU_NAMES.index(phrase.action_unit)
            if clip.truth.au[:, column].max() < 0.15 or heat[column].max() <= 0:
                continue
            pieces = [
                i
                for i, (a, b) in enumerate(clip.tokens.spans)
                if a < phrase.end_character and b > phrase.start_character
            ]
            rows = clip.plan[pieces].sum(0)
            if rows.sum() <= 0:
                continue
            mass.append((rows / rows.sum()).reshape(steps, *grid).sum(0))
            own.append(heat[column] >= HEAT_INSIDE * heat[column].max())
            units.append(phrase.action_unit)
    if not mass:
        return {"num_phrases": 0.0}
    inside = float(np.mean([m[h].sum() for m, h in zip(mass, own, strict=True)]))
    uniform = float(np.mean([h.mean() for h in own]))
    shuffled = []
    for i, m in enumerate(mass):
        others = [j for j in rng.permutation(len(mass))[:50] if units[j] != units[i]]
        if others:
            j = others[0]
            # The other map's size differs: it is judged against its own uniform share, then put on this phrase's scale.
            shuffled.append(m[own[j]].sum() / own[j].mean())
    ratio_shuffled = float(np.mean(shuffled)) if shuffled else float("nan")
    ratio = float(np.mean([m[h].sum() / h.mean() for m, h in zip(mass, own, strict=True)]))
    return {
        "num_phrases": float(len(mass)),
        "mass_inside": inside,
        "uniform": uniform,
        "times_uniform": ratio,
        "shuffled_times_uniform": ratio_shuffled,
        "times_shuffled": ratio / ratio_shuffled if ratio_shuffled else float("nan"),
    }
