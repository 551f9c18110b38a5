"""The value of an entry: JSON as JavaScript writes it, and nothing else taken for it."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_fuzz_hyperdrive import CORPUS, fuzz_drive_entry

from edge.errors import LocalError, RemoteError
from edge.hyperdrive.entry import BlobId, DriveEntry, FileValue
from edge.limits import DRIVE_ENTRY_BYTES_MAX, INTEGER_MAX

COUNTS = st.integers(0, INTEGER_MAX // 2)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-INTEGER_MAX, INTEGER_MAX) | st.floats(allow_nan=False, allow_infinity=False)
NAMES = TEXTS | st.from_regex(r"[0-9]{1,3}", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)
VALUES = st.builds(
    FileValue,
    st.booleans(),
    st.none() | TEXTS,
    st.none() | st.builds(BlobId, COUNTS, COUNTS, COUNTS, COUNTS, st.booleans()),
    JSON,
)


@given(VALUES)
def test_what_is_written_is_read(value: FileValue) -> None:
    data = value.encode()
    assert FileValue.decode(data) == value
    assert FileValue.decode(data).encode() == data


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_the_shortest_that_come_back(number: float) -> None:
    text = json.loads(FileValue(metadata=[number]).encode(), parse_float=str, parse_int=str)["metadata"][0]
    assert float(text) == number
    mantissa = text.partition("e")[0]
    assert "." not in mantissa or not mantissa.endswith("0")
    assert len(text.replace("e+", "e")) <= max(len(repr(number)), 25)  # "-0.00000" and 17 digits


def test_a_large_number_that_javascript_keeps() -> None:
    assert FileValue(metadata=10**20).encode() == FileValue(metadata=1e20).encode()


@pytest.mark.parametrize(
    "metadata",
    [
        *(2**53 + 1, -(2**60) - 1, 10**400, math.nan, math.inf, -math.inf),
        *(b"bytes", {1: 2}, "\ud800", {"\udfff": 1}, (1,), object()),
        {"x": "y" * DRIVE_ENTRY_BYTES_MAX},
    ],
)
def test_metadata_that_has_no_json(metadata: Any) -> None:
    with pytest.raises(LocalError):
        FileValue(metadata=metadata).encode()


def test_metadata_nested_too_deep() -> None:
    metadata: Any = None
    for _ in range(30):
        metadata = [metadata]
    FileValue(metadata=metadata).encode()
    with pytest.raises(LocalError, match="nested"):
        FileValue(metadata=[metadata]).encode()


def test_fields_may_be_missing_or_unknown_and_numbers_whole_in_another_form() -> None:
    assert FileValue.decode(b"{}") == FileValue()
    data = b'{"blob":{"blockOffset":1.0,"byteOffset":2e1,"blockLength":3,"byteLength":4,"x":0},"new":[]}'
    assert FileValue.decode(data) == FileValue(blob=BlobId(1, 20, 3, 4))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{",
        b"{}x",
        b'{"executable":1}',
        b'{"executable":"yes"}',
        b'{"linkname":1}',
        b'{"blob":1}',
        b'{"blob":{}}',
        b'{"blob":{"blockOffset":-1,"byteOffset":0,"blockLength":0,"byteLength":0}}',
        b'{"blob":{"blockOffset":true,"byteOffset":0,"blockLength":0,"byteLength":0}}',
        b'{"blob":{"blockOffset":1.5,"byteOffset":0,"blockLength":0,"byteLength":0}}',
        b'{"blob":{"blockOffset":9007199254740992,"byteOffset":0,"blockLength":0,"byteLength":0}}',
        b'{"blob":{"blockOffset":9007199254740991,"byteOffset":0,"blockLength":1,"byteLength":0}}',
        b'{"blob":{"blockOffset":0,"byteOffset":9007199254740991,"blockLength":1,"byteLength":1}}',
        b'{"blob":{"blockOffset":0,"byteOffset":0,"blockLength":0,"byteLength":0,"blockMap":"x"}}',
        b'{"metadata":NaN}',
        b'{"metadata":-Infinity}',
        b'{"metadata":1e999}',
        b'{"metadata":-' + b"9" * 400 + b"}",
        b"[" * 60_000,
        b'{"metadata":' + b"9" * 5000 + b"}",
        b" " * (DRIVE_ENTRY_BYTES_MAX + 1),
    ],
)
def test_what_is_no_entry(data: bytes) -> None:
    with pytest.raises(RemoteError):
        FileValue.decode(data)


def test_byte_length_of_an_entry() -> None:
    assert DriveEntry("/a", FileValue(linkname="b")).byte_length == 0
    assert DriveEntry("/a", FileValue(blob=BlobId(0, 0, 1, 7))).byte_length == 7


@pytest.mark.parametrize("data", CORPUS["fuzz_drive_entry"])
def test_the_corpus(data: bytes) -> None:
    fuzz_drive_entry(data)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = draw(VALUES).encode()
    at = draw(st.integers(0, len(data) - 1))
    return data[:at] + draw(st.binary(max_size=2)) + data[at + 1 :]


@given(st.binary(max_size=300) | damaged())
def test_any_bytes_are_an_entry_or_an_error(data: bytes) -> None:
    fuzz_drive_entry(data)
