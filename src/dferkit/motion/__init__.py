"""Weights of visual tokens by their motion, removal of rigid motion, and selection of tokens."""

from dferkit.motion.learned import LearnedMotion, fit_motion
from dferkit.motion.measure import SOURCES, measure_motion
from dferkit.motion.rigid import residual_differences, steady_faces
from dferkit.motion.selection import select_by_mass, select_tokens, spread_evenly
from dferkit.motion.weights import Mode, apply_motion, motion_weights, proportional_weights

__all__ = [
    "SOURCES",
    "LearnedMotion",
    "Mode",
    "apply_motion",
    "fit_motion",
    "measure_motion",
    "motion_weights",
    "proportional_weights",
    "residual_differences",
    "select_by_mass",
    "select_tokens",
    "spread_evenly",
    "steady_faces",
]
