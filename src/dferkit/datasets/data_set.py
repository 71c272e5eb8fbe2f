"""Everything that dferkit holds on one data set, and its release while it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dferkit.datasets.findings import Findings
from dferkit.datasets.media import Candidate, Media
from dferkit.datasets.mini import Mini
from dferkit.datasets.published import Published
from dferkit.schema import Fold, Record, Release


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How a release is read.

    Attributes:
        media: Folder to use instead of the first known one.
        with_media: Look for the media; False reads lists only, where the data set has lists.
        with_captions: Give records their human captions (MAFW). For study: they were written by people who knew the label.
        with_votes: Give records the shares of their annotators (DFEW), a soft label.
        strict: Compare with the published counts.
    """

    media: str = ""
    with_media: bool = True
    with_captions: bool = False
    with_votes: bool = False
    strict: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A release on disk while it is read.

    Attributes:
        name, labels: Of the data set.
        root: The unpacked release.
        media: Its folder of videos or frames.
        findings: The reader adds what is wrong with the annotations.
    """

    name: str
    labels: tuple[str, ...]
    root: Path
    options: Options
    media: Media
    findings: Findings

    def release(self, records: Iterable[Record], folds: Iterable[Fold], digest: str) -> Release:
        """The release with these clips. ``digest``: Of the annotations, see ``schema.Release``."""
        return Release(
            layout=self.name,
            labels=self.labels,
            records=tuple(records),
            folds=tuple(folds),
            media=self.media.name(self.root),
            media_reason=self.media.reason,
            media_kind=self.media.kind,
            annotation_digest=digest,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """Everything that dferkit holds on one data set.

    Attributes:
        name: As commands take it. title: As its authors write it. aliases: Other names that commands take.
        labels: Its classes, in the order of ``labels.BASIC`` first; empty where the clips decide.
        read: Reads a release. It may raise ``ManifestError`` where there is no such release.
        media: Folders that hold the videos or frames in releases and known copies, the best first.
        is_root_media: The release may be one of these folders itself. is_root_file: It may be a file.
        is_flat: All clips lie side by side in the media folder, so that clips that no list names can be counted.
        has_lists: Labels come from lists, so that they can be read without media.
        has_captions, has_votes: It has human captions, or the votes of its annotators.
        published: Counts to compare with. mini: How a small release with rendered faces is written; None for none.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    read: Callable[[Source], Release]
    aliases: tuple[str, ...] = ()
    media: tuple[Candidate, ...] = ()
    is_root_media: bool = False
    is_root_file: bool = False
    is_flat: bool = False
    has_lists: bool = False
    has_captions: bool = False
    has_votes: bool = False
    published: Published = field(default_factory=Published)
    mini: Mini | None = None
