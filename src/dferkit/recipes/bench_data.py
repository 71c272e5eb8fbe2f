"""What the models of a comparison learn from and are tested on: a ``clips.csv`` or a store, as one encoder sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from dferkit.datasets import check_disjoint, choose_split, read_manifest
from dferkit.datasets.protocol import choose_folds, inner_groups
from dferkit.errors import ConfigError, DataError, ManifestError
from dferkit.faces import build_detector
from dferkit.labels import BASIC
from dferkit.preparation import FaceStore
from dferkit.schema import ClipStatus, Fold, Record
from dferkit.storage import digest_file, digest_json
from dferkit.tokens.dataset import ClipSet, clip_set
from dferkit.tokens.features import FeatureConfig, Features, extract_features
from dferkit.tokens.stored import StoredTokens, TokenConfig, encode_store, open_tokens
from dferkit.video import digest_source

Tell = Callable[[str, int, int, str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """One fold as one encoder sees it: a row per clip that has a face, or per view of one.

    Attributes:
        records: All test clips, also those without a face. statuses: What became of every clip, by clip id. about: Facts of its data for a checkpoint.
    """

    name: str
    train: ClipSet
    test: ClipSet
    records: tuple[Record, ...]
    statuses: Mapping[str, ClipStatus]
    about: Mapping[str, Any]


class BenchData(Protocol):
    """Labelled clips that can be encoded.

    Attributes:
        digest: Of annotations, of every clip's bytes and of how faces are found. folds: Names.
    """

    @property
    def digest(self) -> str: ...

    @property
    def folds(self) -> tuple[str, ...]: ...

    def split(self, fold: str, encoder: str, tell: Tell) -> Split:
        """One fold; what the encoder makes of the clips is made once and kept on disk."""


@dataclass(kw_only=True)
class StoredData:
    """A store of ``dferkit prepare``: official folds, clips in one or several views."""

    store: FaceStore
    official: tuple[Fold, ...]
    tokens: TokenConfig
    workers: int | None
    _opened: dict[str, StoredTokens] = field(default_factory=dict)

    @classmethod
    def open(
        cls, path: Path, *, fold: str, views: int = 1, with_flip: bool = False, workers: int | None = None
    ) -> StoredData:
        """A store and the folds asked for (a name, or ``all``).

        Raises:
            CheckpointError: No complete store. ConfigError: No such fold.
        """
        store = FaceStore.open(path)
        config = TokenConfig(times=views, with_flip=with_flip)
        return cls(store=store, official=choose_folds(store.release, fold), tokens=config, workers=workers)

    @property
    def digest(self) -> str:
        release = self.store.release
        clips = [[record.clip_id, self.store.digest(record.clip_id)] for record in release.records]
        return digest_json([release.annotation_digest, clips])

    @property
    def folds(self) -> tuple[str, ...]:
        return tuple(fold.name for fold in self.official)

    def split(self, fold: str, encoder: str, tell: Tell) -> Split:
        config, release = replace(self.tokens, encoder=encoder), self.store.release
        if encoder not in self._opened:
            encode_store(
                self.store.path, config, workers=self.workers, verify=False, on_progress=lambda a, b: tell("tokens", a, b, "")
            )  # fmt: skip
            self._opened[encoder] = open_tokens(self.store, config)
        tokens, by_id = self._opened[encoder], {record.clip_id: record for record in release.records}
        chosen = next(one for one in self.official if one.name == fold)
        about = {
            "source": release.layout,
            "layout": release.layout,
            "annotation_digest": release.annotation_digest,
            "encoder": encoder,
        }
        return _split(
            fold,
            tokens.features.take(tokens.rows(chosen.train, all_views=True)),
            tokens.features.take(tokens.rows(chosen.test, all_views=True)),
            [by_id[clip_id] for clip_id in chosen.test],
            release.labels,
            about,
        )


@dataclass(kw_only=True)
class ListedData:
    """A ``clips.csv`` with a training and a test side: one fold, ``test``."""

    path: Path
    sides: Mapping[str, Sequence[Record]]
    labels: tuple[str, ...]
    face: str
    cache: Path
    workers: int | None
    folds: tuple[str, ...] = ("test",)
    _opened: dict[str, Mapping[str, Features]] = field(default_factory=dict)

    @classmethod
    def open(
        cls, path: Path, *, labels: tuple[str, ...] | None, face: str, cache: Path, workers: int | None = None
    ) -> ListedData:
        """Read the list; no video is opened yet.

        Args:
            labels: Classes other than the seven basic ones. face: Detector. cache: Folder for what encoders make of the clips.

        Raises:
            ManifestError: A faulty list, or one without both sides. ConfigError: No such detector.
        """
        classes = labels or BASIC
        try:
            records = read_manifest(path, labels=classes)
        except ManifestError as error:
            if labels is None and "unknown label" in str(error):
                raise ManifestError(
                    f"{error}\nGive classes of your own with --labels, such as --labels onset,offset"
                ) from error
            raise
        if absent := [name for name in labels or () if name not in {record.label for record in records}]:
            raise ConfigError(f"no clip of {path.name} is labelled {absent[0]!r}; leave it out of the labels")
        check_disjoint(records)
        sides = {name: choose_split(records, name) for name in ("train", "test")}
        if any(r.split is None for r in records) or not all(sides.values()):
            raise ManifestError(
                f"{path.name} needs a column split with rows train and test, or nothing can be compared"
            )
        build_detector(face)
        return cls(path=path, sides=sides, labels=classes, face=face, cache=cache, workers=workers)

    @property
    def digest(self) -> str:
        clips = [[r.clip_id, digest_source(r.video)] for side in self.sides.values() for r in side]
        return digest_json(
            [digest_file(self.path), clips, digest_file(self.face) if self.face.endswith(".csv") else self.face]
        )

    def split(self, fold: str, encoder: str, tell: Tell) -> Split:
        if encoder not in self._opened:
            self._opened[encoder] = {
                name: extract_features(
                    chosen,
                    self.cache / f"{encoder.replace('/', '_').replace(':', '-')}-{name}",
                    FeatureConfig(face=self.face, encoder=encoder),
                    workers=self.workers,
                    on_progress=lambda a, b, name=name: tell(f"faces and tokens, {name}", a, b, ""),  # type: ignore[misc]
                )
                for name, chosen in self.sides.items()
            }
        features = self._opened[encoder]
        about = {"source": self.path.name, "data_digest": digest_file(self.path), "encoder": encoder}
        return _split(fold, features["train"], features["test"], self.sides["test"], self.labels, about)


def _split(
    name: str,
    train: Features,
    test: Features,
    records: Sequence[Record],
    labels: tuple[str, ...],
    about: Mapping[str, Any],
) -> Split:
    """One fold; where people are not named, neighbours of the training side count as one person (``inner_groups``).

    Raises:
        DataError: A side without a usable clip.
    """
    for side, features in (("training", train), ("test", test)):
        if not features.records:
            raise DataError(f"fold {name} has no usable {side} clip: none has a face")
    return Split(
        name=name,
        train=replace(clip_set(train, labels), subjects=inner_groups(train.records)),
        test=clip_set(test, labels),
        records=tuple(records),
        statuses={**train.statuses, **test.statuses},
        about={**about, "encoder_digest": train.encoder_digest},
    )


def open_data(
    path: Path,
    *,
    fold: str,
    views: int,
    with_flip: bool,
    labels: tuple[str, ...] | None,
    face: str | None,
    cache: Path,
    workers: int | None,
) -> BenchData:
    """A store, or a ``clips.csv``.

    Raises:
        ManifestError: There is nothing. ConfigError: An option that is for the other kind of data.
    """
    if not path.exists():
        raise ManifestError(f"no {path.name}: give a clips.csv with a column split, or a store of dferkit prepare")
    if path.is_dir():
        if labels is not None:
            raise ConfigError("labels are for a clips.csv; a store knows its own classes")
        if face is not None:
            raise ConfigError("a face detector is for a clips.csv; the faces of a store are cut already")
        if not (path / "store.json").is_file():
            other = (
                f"did you mean {path.name}/clips.csv?"
                if (path / "clips.csv").is_file()
                else f"make one: dferkit prepare LAYOUT {path.name} --out faces/{path.name}"
            )
            raise ManifestError(f"{path.name}/ is no store of dferkit prepare; {other}")
        return StoredData.open(path, fold=fold, views=views, with_flip=with_flip, workers=workers)
    if views > 1 or with_flip:
        raise ConfigError(
            f"views are for a store, and {path.name} has none; make one with dferkit prepare, or leave --views and --flip out"
        )
    if fold not in ("all", "test"):
        raise ConfigError(f"no fold {fold!r}: {path.name} has one split; leave --fold out")
    return ListedData.open(path, labels=labels, face=face or "haar", cache=cache, workers=workers)
