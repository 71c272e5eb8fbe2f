"""Labelled clips of a ``clips.csv`` or of a store, read in the same way by every recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dferkit.datasets import check_disjoint, choose_split, read_manifest, with_groups
from dferkit.datasets.protocol import inner_groups
from dferkit.errors import ConfigError, ManifestError
from dferkit.faces import build_detector
from dferkit.labels import BASIC
from dferkit.preparation import FaceStore
from dferkit.schema import Fold, Record, ReportProgress
from dferkit.storage import digest_file, digest_json
from dferkit.tokens.dataset import TokenDataset
from dferkit.tokens.features import TokenConfig, extract_features
from dferkit.tokens.stored import encode_store, open_tokens
from dferkit.video import digest_source


@dataclass(kw_only=True)
class StoreClips:
    """A store of ``dferkit prepare``: clips in one or several views.

    Attributes:
        records: Every clip.
    """

    store: FaceStore
    records: tuple[Record, ...]
    workers: int | None = None
    _opened: dict[TokenConfig, TokenDataset] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path | str, *, groups: Path | None = None, workers: int | None = None) -> StoreClips:
        """A complete store.

        Args:
            groups: CSV of attributes by clip, for scores by group (``datasets.with_groups``).

        Raises:
            CheckpointError: The store is not complete. ManifestError: ``groups`` cannot be used.
        """
        store = FaceStore.open(path)
        release = store.release if groups is None else with_groups(store.release, groups)
        return cls(store=store, records=release.records, workers=workers)

    @property
    def name(self) -> str:
        """The data set's layout."""
        return self.store.release.layout

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the data set."""
        return self.store.release.labels

    @property
    def folds(self) -> tuple[Fold, ...]:
        """The official ones."""
        return self.store.release.folds

    @property
    def about(self) -> Mapping[str, Any]:
        """Facts of the data for a checkpoint: its layout and the digest of the annotations."""
        return {"layout": self.name, "annotation_digest": self.store.release.annotation_digest}

    @property
    def digest(self) -> str:
        """Of annotations and faces."""
        clips = [[record.clip_id, self.store.digest(record.clip_id)] for record in self.store.release.records]
        return digest_json([self.store.release.annotation_digest, clips])

    def tokens(self, config: TokenConfig, report: ReportProgress) -> TokenDataset:
        """Every clip in every view; what is not encoded yet is encoded first."""
        if config not in self._opened:
            encode_store(
                self.store.path, config, workers=self.workers, verify=False, on_progress=lambda a, b: report("tokens", a, b, "")
            )  # fmt: skip
            self._opened[config] = open_tokens(self.store, config)
        return self._opened[config]

    def read(
        self,
        records: Sequence[Record],
        tokens: TokenConfig,
        *,
        part: str,
        all_views: bool = False,
        report: ReportProgress,
    ) -> TokenDataset:
        """Tokens of some clips, made once and kept on disk; a row per clip that has a face, or per view of one.

        Args:
            part: Names the place of a part of a ``clips.csv`` on disk; a store needs none.
        """
        return _grouped(self.tokens(tokens, report).of_clips((r.clip_id for r in records), all_views=all_views))


@dataclass(kw_only=True)
class ListedClips:
    """A ``clips.csv``."""

    path: Path
    records: tuple[Record, ...]
    labels: tuple[str, ...]
    cache: Path
    face: str = "haar"
    workers: int | None = None
    _opened: dict[tuple[str, TokenConfig], TokenDataset] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        cache: Path,
        labels: tuple[str, ...] | None = None,
        face: str = "haar",
        workers: int | None = None,
    ) -> ListedClips:
        """Read the list; no video is opened yet.

        Args:
            cache: Folder for tokens. labels: Classes other than the seven basic ones. face: Detector.

        Raises:
            ManifestError: A faulty list, or a person in two splits. ConfigError: No such detector.
        """
        path, classes = Path(path), labels or BASIC
        try:
            records = read_manifest(path, labels=classes)
        except ManifestError as error:
            if labels is None and "unknown label" in str(error):
                raise ManifestError(
                    f"{error}\nGive classes of your own with --labels, such as --labels onset,offset"
                ) from error
            raise
        check_disjoint(records)
        build_detector(face)
        return cls(path=path, records=tuple(records), labels=classes, cache=cache, face=face, workers=workers)

    @property
    def name(self) -> str:
        """Of the file."""
        return self.path.name

    @property
    def folds(self) -> tuple[Fold, ...]:
        """One named ``test``, where rows are marked train and test, else none."""
        sides = {side: tuple(r.clip_id for r in self.records if r.split == side) for side in ("train", "test")}
        return (Fold(name="test", **sides),) if all(sides.values()) else ()

    @property
    def about(self) -> Mapping[str, Any]:
        """Facts of the data for a checkpoint: the digest of the list."""
        return {"data_digest": digest_file(self.path)}

    @property
    def digest(self) -> str:
        """Of the list, the videos and the detector."""
        clips = [[r.clip_id, digest_source(r.video)] for r in self.records]
        boxes = digest_file(self.face) if self.face.endswith(".csv") else self.face
        return digest_json([digest_file(self.path), clips, boxes])

    def side(self, split: str) -> list[Record]:
        """Rows of one side; all of them where the list has no column split."""
        return choose_split(list(self.records), split)

    def read(
        self,
        records: Sequence[Record],
        tokens: TokenConfig,
        *,
        part: str,
        all_views: bool = False,
        report: ReportProgress,
    ) -> TokenDataset:
        """As ``StoreClips.read``; a ``clips.csv`` has one view of each clip."""
        key = (part, tokens)
        if key not in self._opened:
            name = f"{tokens.encoder.replace('/', '_').replace(':', '-')}-{tokens.motion}-{part}"
            self._opened[key] = _grouped(
                extract_features(
                    records,
                    self.cache / name,
                    replace(tokens, face=self.face),
                    labels=self.labels,
                    workers=self.workers,
                    on_progress=lambda a, b: report(f"faces and tokens, {part}", a, b, ""),
                )
            )
        return self._opened[key]


LabelledClips = StoreClips | ListedClips
"""Labelled clips that an encoder can read: the same attributes, and ``read``."""


def _grouped(data: TokenDataset) -> TokenDataset:
    """Groups for inner folds: people, or neighbouring clips where people are not named."""
    return replace(data, groups=inner_groups(data.records)) if len(data) else data


@dataclass(frozen=True, kw_only=True, slots=True)
class DataOptions:
    """How a data set is opened.

    Attributes:
        labels: Classes of a ``clips.csv`` other than the seven. face: Detector for one, ``haar`` by default. groups: Of a store.
    """

    labels: tuple[str, ...] | None = None
    face: str | None = None
    groups: Path | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        labels = self.labels
        if labels is not None and (len(set(labels)) < max(len(labels), 2) or not all(labels)):
            raise ConfigError(f"labels are {', '.join(map(repr, labels))}; give two or more different names")


def open_clips(path: Path | str, cache: Path, options: DataOptions | None = None) -> LabelledClips:
    """A store, or a ``clips.csv``.

    Raises:
        ManifestError: Neither is there. ConfigError: An option for the other kind of data.
    """
    path, options = Path(path), options or DataOptions()
    if not path.exists():
        raise ManifestError(
            f"no {path.name}: give a clips.csv (video,label[,split,subject]), or a store of dferkit prepare"
        )
    if not path.is_dir():
        if options.groups is not None:
            raise ConfigError("--groups is for a store; attributes of a clips.csv are its other columns")
        return ListedClips.open(
            path, cache=cache, labels=options.labels, face=options.face or "haar", workers=options.workers
        )
    if options.labels is not None:
        raise ConfigError("labels are for a clips.csv; a store has its own classes")
    if options.face is not None:
        raise ConfigError("a face detector is for a clips.csv; the faces of a store are cut already")
    if not (path / "store.json").is_file():
        other = (
            f"did you mean {path.name}/clips.csv?"
            if (path / "clips.csv").is_file()
            else f"make one: dferkit prepare LAYOUT {path.name} --out faces/{path.name}"
        )
        raise ManifestError(f"{path.name}/ is no store of dferkit prepare; {other}")
    return StoreClips.open(path, groups=options.groups, workers=options.workers)
