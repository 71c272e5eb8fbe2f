"""Is a release on disk what it says it is? Lists, media and contents, with everything that is wrong told at once."""

from dferkit.inspection.check import CheckReport, check_release

__all__ = ["CheckReport", "check_release"]
