"""Every exception dferkit raises on purpose.

DferError
├── ConfigError            a setting is unknown or out of range
├── DataError              something the user gave cannot be used
│   ├── ManifestError      a table of clips (clips.csv) is wrong
│   ├── VideoError         one video cannot be read; carries the row status
│   └── NoFaceError        a video was read, but shows no usable face
├── BackendError           an optional part is absent or answered badly
│   └── MissingExtraError  an extra is not installed; names the pip command
└── CheckpointError        weights are missing, damaged or of another model; a store of faces is incomplete or damaged

A message says what was found, what was expected and what to do, in one sentence.
"""

from __future__ import annotations


class DferError(Exception):
    """Base of all dferkit errors."""


class ConfigError(DferError, ValueError):
    """A setting is unknown or out of range."""


class DataError(DferError, ValueError):
    """Something the user gave cannot be used."""


class ManifestError(DataError):
    """A table of clips is wrong; the message names file and line."""


class VideoError(DataError):
    """One video cannot be read.

    Attributes:
        code: Stable short code, such as ``E_TRUNCATED`` (listed in ``docs/reference/errors.md``).
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class NoFaceError(DataError):
    """A video was read, but shows no usable face."""


class BackendError(DferError):
    """An optional part is absent or answered badly."""


class MissingExtraError(BackendError, ImportError):
    """An extra is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra: pip install '.[{extra}]', in the project's folder")


class CheckpointError(DferError):
    """Weights are missing, damaged or of another model; a store of faces is incomplete or damaged."""
