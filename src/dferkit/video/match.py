"""Which name in a table of another tool means a given video."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from dferkit.errors import ManifestError


def match_video(names: Iterable[str], video: str, where: str) -> str | None:
    """The name with the most equal parts at the end of its path; without any, the one whose file differs in its suffix only.

    Args:
        where: The table's name, for the message.

    Raises:
        ManifestError: Several names match equally well.
    """
    scores = {name: _agreement(name, video) for name in names}
    best = max(scores.values(), default=0.0)
    found = [name for name, score in scores.items() if score == best]
    if best == 0:
        return None
    if len(found) > 1:
        raise ManifestError(
            f"{where}: {len(found)} names, such as {path_end(found[0])}, fit {path_end(video)} equally well; write the videos with their folders"
        )
    return found[0]


def path_end(name: str) -> str:
    """The last two parts of a path: enough to recognise it, without the folders of a machine."""
    return "/".join(_parts(name)[1::-1])


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part][::-1]


def _agreement(name: str, video: str) -> float:
    own, wanted = _parts(name), _parts(video)
    equal = next((i for i, (a, b) in enumerate(zip(own, wanted, strict=False)) if a != b), min(len(own), len(wanted)))
    if equal:
        return float(equal)
    has_name = own and wanted and PurePosixPath(own[0]).stem == PurePosixPath(wanted[0]).stem
    return 0.5 if has_name else 0.0
