"""Labelled clips of a ``clips.csv`` or of a store, read in the same way by every recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from dferkit.datasets import check_disjoint, read_manifest, with_groups
from dferkit.datasets.folder import SPLITS
from dferkit.datasets.protocol import ProtocolConfig, choose_folds, inner_groups, split_fold
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Sides:
    """Clips by side, in the order of the data; ``rest`` has those of no side.

    Attributes:
        fold: Name of the fold; empty where there is none.
    """

    train: tuple[Record, ...] = ()
    val: tuple[Record, ...] = ()
    test: tuple[Record, ...] = ()
    rest: tuple[Record, ...] = ()
    fold: str = ""

    @classmethod
    def marked(cls, records: Sequence[Record], fold: str = "") -> Sides:
        """As the user marked them in the column split."""
        found = {side: tuple(r for r in records if r.split == side) for side in SPLITS}
        return cls(**found, rest=tuple(r for r in records if r.split is None), fold=fold)

    def of(self, side: str) -> list[Record]:
        """Clips of ``train`` or ``test``; all of them where no clip has a side."""
        return list(getattr(self, side) if self.train or self.val or self.test else self.rest)


@dataclass(kw_only=True)
class StoreClips:
    """A store of ``dferkit prepare``: clips in one or several views.

    Attributes:
        records: Every clip. labels: Classes, by default those of the data set. fold: The one whose sides are used; empty where there is one only.
    """

    store: FaceStore
    records: tuple[Record, ...]
    labels: tuple[str, ...]
    fold: str = ""
    workers: int | None = None
    _opened: dict[TokenConfig, TokenDataset] = field(default_factory=dict)

    @classmethod
    def open(
        cls, path: Path | str, *, groups: Path | None = None, fold: str = "", workers: int | None = None
    ) -> StoreClips:
        """A complete store.

        Args:
            groups: CSV of attributes by clip, for scores by group (``datasets.with_groups``).

        Raises:
            CheckpointError: The store is not complete. ManifestError: ``groups`` cannot be used. ConfigError: No such fold.
        """
        store = FaceStore.open(path)
        release = store.release if groups is None else with_groups(store.release, groups)
        if fold:
            choose_folds(release, fold)
        return cls(store=store, records=release.records, labels=release.labels, fold=fold, workers=workers)

    @property
    def name(self) -> str:
        """The data set's layout."""
        return self.store.release.layout

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

    def sides(self, *, with_block: bool = False) -> Sides:
        """The sides of one fold.

        Args:
            with_block: Where the data set marks no validation clips, hold out the block of the protocol (``datasets.protocol.split_fold``).

        Raises:
            ConfigError: Several folds, and none was named. ManifestError: A person is in two splits. DataError: No block can be held out.
        """
        release = self.store.release
        folds = choose_folds(release, self.fold) if self.fold else release.folds
        if len(folds) > 1:
            raise ConfigError(
                f"{self.name} has the folds {', '.join(fold.name for fold in folds)}; give one of them with --fold"
            )
        if not folds or any(record.split for record in self.records):
            check_disjoint(self.records)
            return Sides.marked(self.records, folds[0].name if folds else "")
        found = split_fold(release, folds[0], ProtocolConfig(select="val" if with_block else "last"))
        by_id = {record.clip_id: record for record in self.records}
        sides = {side: tuple(by_id[clip_id] for clip_id in getattr(found, side)) for side in SPLITS}
        return Sides(**sides, fold=found.name)

    def trained_ids(self, about: Mapping[str, Any]) -> set[str]:
        """Clips that a checkpoint was trained on, by its ``about``."""
        if about.get("annotation_digest") != self.about["annotation_digest"]:
            return set()
        whole = Fold(name="", train=tuple(record.clip_id for record in self.records), test=())
        own = next((fold for fold in self.folds if fold.name == about.get("fold")), whole)
        return set(
            split_fold(self.store.release, own, ProtocolConfig(select=str(about.get("selection", "last")))).train
        )

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
        data = self.tokens(tokens, report).of_clips((r.clip_id for r in records), all_views=all_views)
        return _grouped(data.with_labels(self.labels))


@dataclass(kw_only=True)
class ListedClips:
    """A ``clips.csv``."""

    path: Path
    records: tuple[Record, ...]
    labels: tuple[str, ...]
    cache: Path
    face: str = "haar"
    workers: int | None = None
    _opened: dict[tuple[object, ...], TokenDataset] = field(default_factory=dict)

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

    def sides(self, *, with_block: bool = False) -> Sides:
        """The rows as they are marked. ``with_block`` is for the official folds of a store."""
        return Sides.marked(self.records)

    def trained_ids(self, about: Mapping[str, Any]) -> set[str]:
        """Clips that a checkpoint was trained on, by its ``about``."""
        is_own = about.get("data_digest") == self.about["data_digest"]
        return {record.clip_id for record in self.sides().of("train")} if is_own else set()

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
        key = (self.labels, tokens, tuple(record.clip_id for record in records))
        if key not in self._opened:
            # A path as long as the system allows is too long for the name of one folder.
            encoder = re.sub(r"[^A-Za-z0-9]+", "-", Path(tokens.encoder).name)[:40]
            name = f"{encoder}-{digest_json([tokens.encoder, tokens.motion])[:12]}-{part}"
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
Clips = TypeVar("Clips", bound=StoreClips | ListedClips)


def for_labels(clips: Clips, labels: tuple[str, ...], records: Sequence[Record] | None = None) -> Clips:
    """The same clips with their classes numbered as in ``labels``: those of a model, which may have more classes than the clips, in another order.

    Args:
        records: Those that will be read, by default all.

    Raises:
        ConfigError: One is of a class that is not among ``labels``.
    """
    lacking = {str(record.label) for record in (clips.records if records is None else records)} - set(labels)
    if lacking:
        raise ConfigError(
            f"{clips.name} has clips of {', '.join(sorted(lacking))}, and the model has only the classes {', '.join(labels)}; leave these clips out, or use dferkit transfer, which scores the shared classes"
        )
    return replace(clips, labels=labels)


def _grouped(data: TokenDataset) -> TokenDataset:
    """Groups for inner folds: people, or neighbouring clips where people are not named."""
    return replace(data, groups=inner_groups(data.records)) if len(data) else data


@dataclass(frozen=True, kw_only=True, slots=True)
class DataOptions:
    """How a data set is opened.

    Attributes:
        labels: Classes of a ``clips.csv`` other than the seven. face: Detector for one, ``haar`` by default. groups, fold: Of a store.
    """

    labels: tuple[str, ...] | None = None
    face: str | None = None
    groups: Path | None = None
    fold: str = ""
    workers: int | None = None

    def __post_init__(self) -> None:
        labels = self.labels
        if labels is not None and (len(set(labels)) < max(len(labels), 2) or not all(labels)):
            raise ConfigError(f"labels are {', '.join(map(repr, labels))}; give two or more different names")


def open_clips(
    path: Path | str, cache: Path, options: DataOptions | None = None, *, model_labels: tuple[str, ...] | None = None
) -> LabelledClips:
    """A store, or a ``clips.csv``.

    Args:
        model_labels: Classes of the model that will read the clips. A ``clips.csv`` without classes of its own is read with them; a store keeps its
            own (``for_labels`` numbers them as the model does).

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
            path,
            cache=cache,
            labels=options.labels or model_labels,
            face=options.face or "haar",
            workers=options.workers,
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
    return StoreClips.open(path, groups=options.groups, fold=options.fold, workers=options.workers)
