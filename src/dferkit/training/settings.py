"""``--set key=value``: changes to the fields of a configuration, checked by name and kind."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import yaml

from dferkit.errors import ConfigError
from dferkit.labels import hint

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", tuple: "a list"}


def apply_settings(config: Any, settings: Sequence[str]) -> Any:
    """A configuration with ``key.sub=value`` changes applied; values are read as YAML scalars.

    Raises:
        ConfigError: An unknown key (the message lists the known ones), or a value of the wrong kind.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting!r}: give key=value, such as training.epochs=50")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"--set {setting!r}: the value cannot be read; write a number, a word or [a, list]"
            ) from error
        config = _set(config, key.strip().split("."), value, key)
    return config


def _written(value: Any) -> str:
    """As one writes it after ``--set``."""
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, tuple | list) else str(value)


def _set(config: Any, path: list[str], value: Any, whole: str) -> Any:
    names = [field.name for field in dataclasses.fields(config)]
    if path[0] in getattr(type(config), "FROM_DATA", ()):
        raise ConfigError(f"--set {whole}: {path[0]} is determined by the data; leave it out")
    if path == ["seed"]:
        raise ConfigError(
            f"--set {whole}: the seed is no setting; give it with --seed (number of seeds in bench: --seeds)"
        )
    if path[0] not in names:
        raise ConfigError(f"--set {whole}: unknown key {path[0]!r}{hint(path[0], names)} Known: {', '.join(names)}")
    old = getattr(config, path[0])
    if len(path) > 1:
        if not dataclasses.is_dataclass(old):
            raise ConfigError(f"--set {whole}: {path[0]!r} has no fields")
        return replace(config, **{path[0]: _set(old, path[1:], value, whole)})
    if dataclasses.is_dataclass(old):
        from_data = getattr(type(old), "FROM_DATA", ())
        first = next(field.name for field in dataclasses.fields(old) if field.name not in from_data)
        raise ConfigError(f"--set {whole}: {path[0]!r} has several fields; name one of them, such as {whole}.{first}")
    kind = type(old)
    if kind is float and not isinstance(value, bool):
        with contextlib.suppress(TypeError, ValueError):
            value = float(value)  # YAML takes 3e-5 for a word
    if isinstance(old, tuple) and isinstance(value, list):
        value = tuple(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(
            f"--set {whole}={_written(value)}: expected {_KINDS.get(kind, 'a ' + kind.__name__)}, such as {_written(old)}"
        )
    return replace(config, **{path[0]: value})
