"""Measurements of the papers' claims on rendered clips with known motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dferkit.evaluation.metrics import spearman
from dferkit.faces import CROP_MARGIN, nearest_found
from dferkit.facs import AU_NAMES
from dferkit.schema import Caption, TextTokens
from dferkit.synthetic import Truth

HEAT_INSIDE = 0.5  # a cell is inside an AU's heat map when the AU moves it at least half as far as its farthest cell
_MOVING = 1e-3  # pixels per frame
SHOWN = 0.15  # an action unit that never gets stronger does not show


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
    boxes = boxes[
        nearest_found(np.isfinite(boxes[:, 0]))
    ]  # a frame without a face is cropped as the nearest that has one
    crops = np.stack([on_crop(m, b, frame_size, grid) for m, b in zip(maps, boxes, strict=True)])
    return crops.reshape(steps, -1, *grid).mean(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class PhraseMass:
    """Position of the mass of one phrase: ``mass`` (patches) sums to 1, ``moved`` marks the patches that its action unit moves."""

    action_unit: str
    mass: np.ndarray
    moved: np.ndarray


def phrase_masses(
    caption: Caption, tokens: TextTokens, plan: np.ndarray, heat: np.ndarray, peak: np.ndarray
) -> list[PhraseMass]:
    """Mass of the phrases whose action unit truly shows (intensity ≥ .15 at some time).

    Args:
        plan: (pieces, steps · patches). heat: (AUs, patches) how far a unit moves the cell. peak: (AUs,) its highest intensity in the clip.
    """
    found = []
    for phrase in caption.phrases:
        if phrase.action_unit not in AU_NAMES or phrase.intensity <= 0:
            continue
        unit = AU_NAMES.index(phrase.action_unit)
        pieces = tokens.pieces_within(phrase.start_character, phrase.end_character)
        mass = plan[pieces].sum(0).reshape(-1, heat.shape[1]).sum(0)
        placed = place_mass(phrase.action_unit, mass, heat)
        if peak[unit] >= SHOWN and placed is not None:
            found.append(placed)
    return found


def place_mass(action_unit: str, mass: np.ndarray, heat: np.ndarray) -> PhraseMass | None:
    """The mass (patches) of one phrase beside the patches that its action unit moves; None where there is no mass, or the unit moves nothing.

    Args:
        heat: (AUs, patches), as in ``phrase_masses``.
    """
    moves = heat[AU_NAMES.index(action_unit)]
    if moves.max() <= 0 or mass.sum() <= 0:
        return None
    return PhraseMass(action_unit=action_unit, mass=mass / mass.sum(), moved=moves >= HEAT_INSIDE * moves.max())


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipEvidence:
    """Motion weights and phrase masses of a model for one clip, with the truth.

    Attributes:
        motion: (steps, rows, columns) weights. phrases: Position of the mass of the words.
        boxes: (frames, 4). frame_size: (width, height).
    """

    truth: Truth
    motion: np.ndarray
    phrases: Sequence[PhraseMass]
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


def localisation_claim(phrases: Sequence[PhraseMass], *, seed: int = 0) -> dict[str, float]:
    """Does a phrase's transport mass lie where its action unit moves the face?

    Returns:
        ``mass_inside``: Mean share of a phrase's mass in cells where its AU moves the skin at least half as far as anywhere; ``uniform``: The share
        of a uniform plan; ``shuffled``: the share in the heat map of another phrase's AU; the two ratios; ``num_phrases``.
    """
    if not phrases:
        return {"num_phrases": 0.0}
    rng = np.random.default_rng(seed)
    shuffled = []
    for phrase in phrases:
        others = [j for j in rng.permutation(len(phrases))[:50] if phrases[j].action_unit != phrase.action_unit]
        if others:
            moved = phrases[others[0]].moved
            # The other map's size differs: its mass is divided by its own uniform share.
            shuffled.append(phrase.mass[moved].sum() / moved.mean())
    ratio_shuffled = float(np.mean(shuffled)) if shuffled else float("nan")
    ratio = float(np.mean([p.mass[p.moved].sum() / p.moved.mean() for p in phrases]))
    return {
        "num_phrases": float(len(phrases)),
        "mass_inside": float(np.mean([p.mass[p.moved].sum() for p in phrases])),
        "uniform": float(np.mean([p.moved.mean() for p in phrases])),
        "times_uniform": ratio,
        "shuffled_times_uniform": ratio_shuffled,
        "times_shuffled": ratio / ratio_shuffled if ratio_shuffled else float("nan"),
    }
