"""Tokens → prediction."""

from dferkit.models.coarse import CoarseClassifier, fit_coarse, out_of_fold, unit_statistics
from dferkit.models.grace import Grace, GraceConfig, GraceOutput

__all__ = ["CoarseClassifier", "Grace", "GraceConfig", "GraceOutput", "fit_coarse", "out_of_fold", "unit_statistics"]
