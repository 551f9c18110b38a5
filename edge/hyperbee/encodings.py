"""How keys and values become bytes: raw bytes, UTF-8 text, or JSON. Spec: npm `codecs` 3, as far as bees use it.

Invariants: `decode(encode(value)) == value`; what we cannot encode is our mistake (`LocalError`), what we cannot decode
is the writer's (`RemoteError`, reason "encoding"). Keys are compared as bytes, whatever their encoding.
"""

import json
from typing import Any, Final, NoReturn, Protocol

from edge.errors import LocalError, RemoteError

_FLOAT_WHOLE_MAX: Final = 1e21  # from here on JavaScript, too, writes an exponent


class Encoding(Protocol):
    """Turns values into bytes and back."""

    def encode(self, value: Any, /) -> bytes:
        """Raises `LocalError` for a value that has no such form."""
        ...

    def decode(self, data: bytes, /) -> Any:
        """Raises `RemoteError` for bytes that are none."""
        ...


class _Binary:
    def encode(self, value: Any, /) -> bytes:
        if value.__class__ is bytes:
            return value
        if not isinstance(value, bytes | bytearray | memoryview):
            raise LocalError(f"bytes are expected, not {type(value).__name__}")
        return bytes(value)

    def decode(self, data: bytes, /) -> bytes:
        return data


class _Utf8:
    def encode(self, value: Any, /) -> bytes:
        if not isinstance(value, str):
            raise LocalError(f"text is expected, not {type(value).__name__}")
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise LocalError(f"text that UTF-8 cannot hold: {error.reason}") from error

    def decode(self, data: bytes, /) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise RemoteError("a key or value is no UTF-8", reason="encoding") from error


class _Json:
    """As `JSON.stringify` writes it, but for numbers below 1e-4 and from 1e21, which keep Python's notation."""

    def encode(self, value: Any, /) -> bytes:
        try:
            text = json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
            return text.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise LocalError(f"a value that JSON cannot hold: {error}") from error

    def decode(self, data: bytes, /) -> Any:
        try:
            return json.loads(data.decode(), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise RemoteError("a key or value is no JSON", reason="encoding") from error


def _plain(value: Any) -> Any:
    """The value with whole floats as integers: JavaScript knows one kind of number and writes 2.0 as 2."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _FLOAT_WHOLE_MAX else value
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


BINARY: Final[Encoding] = _Binary()
UTF8: Final[Encoding] = _Utf8()
JSON: Final[Encoding] = _Json()
