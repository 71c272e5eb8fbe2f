"""What is wrong with a release, collected instead of raised, so that everything is reported at once."""

from __future__ import annotations

from collections.abc import Iterable

from dferkit.errors import ManifestError
from dferkit.schema import Finding

_MOST_SHOWN = 50


class Findings:
    """Findings in the order in which they were made."""

    def __init__(self) -> None:
        self.items: list[Finding] = []

    def error(self, code: str, message: str, where: str = "") -> None:
        """Add a fault that makes the annotations, or a score, wrong."""
        self.items.append(Finding(severity="error", code=code, message=message, where=where))

    def warning(self, code: str, message: str, where: str = "") -> None:
        """Add a doubt that should be looked at before a score is believed."""
        self.items.append(Finding(severity="warning", code=code, message=message, where=where))

    def note(self, code: str, message: str, where: str = "") -> None:
        """Add a remark."""
        self.items.append(Finding(severity="note", code=code, message=message, where=where))


def require_sound(findings: Iterable[Finding], what: str) -> None:
    """Refuse annotations with errors; warnings and notes pass.

    Raises:
        ManifestError: All errors, one a line, the first fifty.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f"\n… and {len(errors) - _MOST_SHOWN} more" if len(errors) > _MOST_SHOWN else ""
        lines = "\n".join(str(finding) for finding in errors[:_MOST_SHOWN])
        count = "1 thing is" if len(errors) == 1 else f"{len(errors)} things are"
        raise ManifestError(f"{what}: {count} wrong with the annotations\n{lines}{more}")
