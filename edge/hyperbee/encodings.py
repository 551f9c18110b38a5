"""How keys and values become bytes: raw bytes, UTF-8 text, or JSON. Spec: npm `codecs` 3, as far as bees use it.

Invariants: `decode(encode(value)) == value`, but for floats from 2**53 to 1e21, which JavaScript writes as the whole
number of their leading digits; what we cannot encode is our mistake (`LocalError`), what we cannot decode is the
writer's (`RemoteError`, reason "encoding"). Keys are compared as bytes, whatever their encoding.
"""

import json
from typing import Any, Final, NoReturn, Protocol

from edge.errors import LocalError, RemoteError

_string: Final = json.JSONEncoder(ensure_ascii=False).encode


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
    """As `JSON.stringify` writes it, names in the order that they are given in. Whole numbers may be of any size."""

    def encode(self, value: Any, /) -> bytes:
        try:
            return _text(value).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise LocalError(f"a value that JSON cannot hold: {error}") from error

    def decode(self, data: bytes, /) -> Any:
        try:
            return json.loads(data.decode(), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise RemoteError("a key or value is no JSON", reason="encoding") from error


def _text(value: Any) -> str:
    if isinstance(value, str):
        return _string(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return "{" + ",".join([f"{_name(name)}:{_text(item)}" for name, item in value.items()]) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join([_text(item) for item in value]) + "]"
    raise TypeError(f"there is none for {type(value).__name__}")


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"names are text, not {type(name).__name__}")
    return _string(name)


def number(value: float) -> str:
    """As JavaScript writes it (ECMA-262, Number::toString). The digits are Python's too: the fewest that tell it apart.

    Raises `ValueError` for one that is infinite or none.
    """
    text = float.__repr__(value)
    if "e" not in text:
        if "n" in text:
            raise ValueError(f"{text} is no number")
        return text.removesuffix(".0") if value else "0"
    mantissa, _, exponent = text.partition("e")
    places = int(exponent)
    if not -7 < places < 21:
        return f"{mantissa}e{places:+}"
    sign, digits = "-" * (value < 0), mantissa.lstrip("-").replace(".", "")
    if places < 0:
        return f"{sign}0.{'0' * (-places - 1)}{digits}"
    return sign + digits.ljust(places + 1, "0")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


BINARY: Final[Encoding] = _Binary()
UTF8: Final[Encoding] = _Utf8()
JSON: Final[Encoding] = _Json()
