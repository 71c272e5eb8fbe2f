"""Checks of a release on disk: lists, media and contents, with everything that is wrong reported at once."""

from dferkit.inspection.check import CheckReport, check_release

__all__ = ["CheckReport", "check_release"]
