"""Names of layouts → readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from dferkit.datasets.afew import read_afew
from dferkit.datasets.assemble import Options
from dferkit.datasets.crema_d import read_crema_d
from dferkit.datasets.dfew import read_dfew
from dferkit.datasets.enterface import read_enterface
from dferkit.datasets.ferv39k import read_ferv39k
from dferkit.datasets.folder import read_folder
from dferkit.datasets.mafw import read_mafw
from dferkit.datasets.published import PUBLISHED
from dferkit.datasets.ravdess import read_ravdess
from dferkit.errors import ConfigError
from dferkit.labels import nearest_name
from dferkit.schema import Release

LAYOUTS: Mapping[str, Callable[[Path, Options], Release]] = MappingProxyType(
    {
        "dfew": read_dfew,
        "ferv39k": read_ferv39k,
        "mafw-single": partial(read_mafw, setting="single"),
        "mafw-compound": partial(read_mafw, setting="compound"),
        "crema-d": read_crema_d,
        "ravdess": read_ravdess,
        "enterface": read_enterface,
        "afew": read_afew,
        "folder": read_folder,
    }
)
_ALIASES = {
    "mafw": "mafw-single",
    "mafw11": "mafw-single",
    "mafw43": "mafw-compound",
    "cremad": "crema-d",
    "csv": "folder",
}


def read_release(layout: str, root: Path | str, options: Options | None = None) -> Release:
    """A data set as it lies on disk, with everything that is wrong with its annotations as findings.

    Args:
        layout: One of ``LAYOUTS``, any case. root: The unpacked release.

    Raises:
        ConfigError: Unknown layout, a media folder that is not there, or an option for another layout.
        ManifestError: ``root`` holds no such release.
    """
    name, options = layout_name(layout), options or Options()
    for is_asked, what, fits in (
        (options.with_captions, "human captions", name.startswith("mafw")),
        (options.with_votes, "votes", name == "dfew"),
        (options.strict, "published counts", name in PUBLISHED),
    ):
        if is_asked and not fits:
            raise ConfigError(f"{name} has no {what}; leave that option out")
    return LAYOUTS[name](Path(root), options)


def layout_name(name: str) -> str:
    """Canonical name of a layout.

    Raises:
        ConfigError: Unknown; the message names the nearest.
    """
    lower = name.strip().lower().replace("_", "-")
    lower = _ALIASES.get(lower, lower)
    if lower not in LAYOUTS:
        raise ConfigError(
            f"unknown layout {name!r}; did you mean {nearest_name(lower, LAYOUTS)!r}? Known: {', '.join(LAYOUTS)}"
        )
    return lower
