"""The table of data sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dferkit.datasets.afew import AFEW
from dferkit.datasets.crema_d import CREMA_D
from dferkit.datasets.data_set import DataSet, Options, Source
from dferkit.datasets.dfew import DFEW
from dferkit.datasets.enterface import ENTERFACE
from dferkit.datasets.ferv39k import FERV39K
from dferkit.datasets.findings import Findings
from dferkit.datasets.folder import FOLDER
from dferkit.datasets.mafw import MAFW_43, MAFW_SINGLE
from dferkit.datasets.media import Media, choose_media, require_root
from dferkit.datasets.published import compare_with_published
from dferkit.datasets.ravdess import RAVDESS
from dferkit.errors import ConfigError
from dferkit.labels import hint
from dferkit.schema import Release

DATA_SETS: dict[str, DataSet] = {
    entry.name: entry
    for entry in (
        DFEW,
        FERV39K,
        MAFW_SINGLE,
        MAFW_43,
        CREMA_D,
        RAVDESS,
        ENTERFACE,
        AFEW,
        FOLDER,
    )
}


def read_release(name: str, root: Path | str, options: Options | None = None) -> Release:
    """A data set on disk, with the errors of its annotations as findings.

    Args:
        name: One of ``DATA_SETS`` or an alias, any case. root: The unpacked release.

    Raises:
        ConfigError: Unknown data set, a media folder that is not there, or an option for another data set.
        ManifestError: ``root`` holds no such release.
    """
    entry, root, options = find_data_set(name), Path(root), options or Options()
    for is_asked, what, fits in (
        (options.with_captions, "human captions", entry.has_captions),
        (options.with_votes, "votes", entry.has_votes),
        (options.strict, "published counts", entry.published.num_clips is not None),
    ):
        if is_asked and not fits:
            raise ConfigError(f"{entry.name} has no {what}; leave that option out")
    if not entry.is_root_file:
        require_root(root, entry.title)
    media = Media(None, "none", "lists only")
    if options.with_media or not entry.has_lists:
        media = choose_media(root, entry.media, options.media, or_root=entry.is_root_media)
    findings = Findings()
    release = entry.read(
        Source(name=entry.name, labels=entry.labels, root=root, options=options, media=media, findings=findings)
    )
    if options.strict:
        compare_with_published(release, entry.published, findings)
    return replace(release, findings=(*release.findings, *findings.items))


def find_data_set(name: str) -> DataSet:
    """The data set of a name or an alias; upper case and ``_`` in place of ``-`` are accepted.

    Raises:
        ConfigError: Unknown; the message names the nearest.
    """
    lower = name.strip().lower().replace("_", "-")
    found = DATA_SETS.get(lower) or next((entry for entry in DATA_SETS.values() if lower in entry.aliases), None)
    if found is None:
        raise ConfigError(f"unknown data set {name!r}{hint(lower, DATA_SETS)} Known: {', '.join(DATA_SETS)}")
    return found
