"""TOML → frozen dataclasses. Unknown keys, wrong types and refused values are `ConfigError`s that name the key's path.

A settings class is a frozen dataclass whose fields are `bool, int, float, str`, a tuple of one of them, a mapping from
strings to one of them, `X | None`, or another settings class. What a class checks in `__post_init__` it reports by
raising `ValueError` or `RecordInvalid`; here that becomes an error with the section's path.
"""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from edge.errors import ConfigError, RecordInvalid

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, object]:
    """The parsed file; raises `ConfigError` naming the file when it is absent, unreadable or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(str(path), "no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(str(path), str(error)) from None


def build(settings: type[T], table: Mapping[str, object], path: str = "") -> T:
    """Construct `settings` from a TOML table; `path` is the table's own dotted path, for messages."""
    hints = typing.get_type_hints(settings)
    fields = {field.name: field for field in dataclasses.fields(settings)}  # type: ignore[arg-type]  # always one
    for key in table:
        if key not in fields:
            known = ", ".join(sorted(fields))
            raise ConfigError(_join(path, key), f"unknown key; known here: {known}")
    values: dict[str, object] = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _convert(hints[name], table[name], _join(path, name))
        elif dataclasses.is_dataclass(hints[name]):
            values[name] = build(hints[name], {}, _join(path, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(_join(path, name), "is required")
    try:
        return settings(**values)
    except (ValueError, RecordInvalid) as error:
        raise ConfigError(path or "configuration", str(error)) from None


def _convert(hint: object, value: object, path: str) -> object:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(path, f"is a section, not {_kind(value)}")
        return build(typing.cast("type[object]", hint), value, path)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        inner = [a for a in arguments if a is not type(None)]
        return _convert(inner[0], value, path)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(path, f"must be a list, not {_kind(value)}")
        return tuple(_convert(arguments[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise ConfigError(path, f"is a section, not {_kind(value)}")
        return {key: _convert(arguments[1], v, _join(path, key)) for key, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(hint, type) or not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(path, f"must be {_name(hint)}, not {_kind(value)}")
    return value


def _name(hint: object) -> str:
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
    return names.get(typing.cast("type[object]", hint), str(hint))


def _kind(value: object) -> str:
    return f"{type(value).__name__} {value!r:.60}"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
