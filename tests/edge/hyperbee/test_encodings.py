"""Keys and values as bytes."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import LocalError, RemoteError
from edge.hyperbee.encodings import BINARY, JSON, UTF8, Encoding

NUMBERS = Path(__file__).with_name("numbers.json")  # made by tests/interop/numbers.mjs

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
)


@given(VALUES)
def test_json_round_trips(value: Any) -> None:
    assert as_javascript(JSON.decode(JSON.encode(value))) == as_javascript(value)


def as_javascript(value: Any) -> Any:
    """The value with every number as a double."""
    if isinstance(value, list):
        return [as_javascript(item) for item in value]
    if isinstance(value, dict):
        return {name: as_javascript(item) for name, item in value.items()}
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


@given(st.integers() | st.floats(-(2**53), 2**53))
def test_numbers_that_javascript_holds_and_integers_come_back_as_they_were(value: float) -> None:
    assert JSON.decode(JSON.encode(value)) == value


@pytest.mark.parametrize(("bits", "text"), json.loads(NUMBERS.read_text())["numbers"])
def test_numbers_are_written_as_node_writes_them(bits: str, text: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert JSON.encode({"n": [value]}) == f'{{"n":[{text}]}}'.encode()


def test_json_is_what_javascript_writes() -> None:
    value = {"name": "é\u2028\n", "price": 2.0, "half": 0.5, "list": [1, True, None], "big": 1e20}
    assert JSON.encode(value) == '{"name":"é\u2028\\n","price":2,"half":0.5,"list":[1,true,null],"big":'.encode() + (
        b"100000000000000000000}"
    )


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_round_trips(text: str) -> None:
    assert UTF8.decode(UTF8.encode(text)) == text


def test_binary_takes_what_holds_bytes() -> None:
    assert BINARY.encode(bytearray(b"a")) == BINARY.encode(memoryview(b"a")) == BINARY.decode(b"a") == b"a"


@pytest.mark.parametrize(
    ("encoding", "value"),
    [
        (BINARY, "a"),
        (UTF8, b"a"),
        (UTF8, "\ud800"),
        (JSON, float("nan")),
        (JSON, -float("inf")),
        (JSON, object()),
        (JSON, "\ud800"),
        (JSON, {1: "one"}),
    ],
)
def test_what_has_no_form_is_our_mistake(encoding: Encoding, value: Any) -> None:
    with pytest.raises(LocalError):
        encoding.encode(value)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [(UTF8, b"\xff"), (JSON, b""), (JSON, b"NaN"), (JSON, b"\xff"), (JSON, b"[" * 100_000), (JSON, b"9" * 5000)],
)
def test_what_cannot_be_decoded_is_the_writers(encoding: Encoding, data: bytes) -> None:
    with pytest.raises(RemoteError) as caught:
        encoding.decode(data)
    assert caught.value.reason == "encoding"
