"""Canonical CBOR: RFC 8949's own examples, the rules of the profile one by one, and any bytes at all."""

import math
import struct

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.encoding import cbor
from edge.errors import LocalError, RemoteError
from edge.limits import BLOCK_BYTES_MAX, CBOR_DEPTH_MAX, CBOR_ITEMS_MAX, CBOR_TEXT_BYTES_MAX

# RFC 8949, appendix A: those of its examples that lie inside the profile.
RFC_EXAMPLES = [
    ("00", 0),
    ("17", 23),
    ("1818", 24),
    ("1903e8", 1000),
    ("1a000f4240", 1_000_000),
    ("1b000000e8d4a51000", 1_000_000_000_000),
    ("20", -1),
    ("3903e7", -1000),
    ("f90000", 0.0),
    ("f93c00", 1.0),
    ("fb3ff199999999999a", 1.1),
    ("fa47c35000", 100_000.0),
    ("fb7e37e43c8800759c", 1.0e300),
    ("f90001", 5.960464477539063e-8),
    ("f4", False),
    ("f5", True),
    ("f6", None),
    ("4401020304", b"\x01\x02\x03\x04"),
    ("64f0908591", "\U00010151"),
    ("8301820203820405", [1, [2, 3], [4, 5]]),
    ("a201020304", {1: 2, 3: 4}),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("826161a161626163", ["a", {"b": "c"}]),
]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40)
    | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=30)
        | st.dictionaries(st.text(max_size=30), inner, max_size=30)
        | st.dictionaries(st.integers(0, 2**63 - 1), inner, max_size=6)
    ),
    max_leaves=30,
)


@pytest.mark.parametrize(("data", "value"), RFC_EXAMPLES)
def test_examples_of_the_rfc(data: str, value: object) -> None:
    assert cbor.encode(value).hex() == data
    decoded = cbor.decode(bytes.fromhex(data))
    assert decoded == value
    assert type(decoded) is type(value)


@given(values)
def test_what_is_encoded_decodes_to_itself(value: object) -> None:
    data = cbor.encode(value)
    assert repr(cbor.decode(data)) == repr(_sorted(value))  # repr tells -0.0 from 0.0, True from 1 and the key order


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=cbor2.dumps)}
    return [_sorted(member) for member in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "ends inside"),
        ("18", "ends inside"),
        ("1a0001", "ends inside"),
        ("8201", "ends inside"),
        ("62c3", "ends inside"),
        ("fb3ff1", "ends inside"),
        ("a16161", "ends inside"),
        ("a1", "ends inside"),
        ("0000", "after the end"),
        ("1800", "longer than needed"),
        ("1817", "longer than needed"),
        ("1900ff", "longer than needed"),
        ("1a0000ffff", "longer than needed"),
        ("1b00000000ffffffff", "longer than needed"),
        ("3817", "longer than needed"),
        ("5801aa", "longer than needed"),
        ("780161", "longer than needed"),
        ("980100", "longer than needed"),
        ("b8016100", "longer than needed"),
        ("a1181700", "longer than needed"),
        ("fa3fc00000", "longer than needed"),  # 1.5 fits a half
        ("fb40f86a0000000000", "longer than needed"),  # 100000.0 fits a single
        ("fb3ff8000000000000", "longer than needed"),
        ("f97e00", "not finite"),
        ("f97c00", "not finite"),
        ("f9fc00", "not finite"),
        ("fb7ff8000000000000", "not finite"),
        ("f7", "simple value"),
        ("f0", "simple value"),
        ("f8ff", "simple value"),
        ("ff", "simple value"),
        ("1c", "reserved length"),
        ("5f42010243030405ff", "indefinite"),
        ("7f657374726561646d696e67ff", "indefinite"),
        ("9f018202039f0405ffff", "indefinite"),
        ("bf61610161629f0203ffff", "indefinite"),
        ("c11a514b67b0", "tag 1"),
        ("c249010000000000000000", "tag 2"),
        ("d9d9f700", "tag 55799"),
        ("1b8000000000000000", "64 bits"),
        ("3b8000000000000000", "64 bits"),
        ("a11b800000000000000000", "64 bits"),
        ("a2616101616102", "repeated or out of order"),
        ("a2616201616102", "repeated or out of order"),
        ("a2030101ff", "repeated or out of order"),
        ("a200010203ff", "after the end"),
        ("a20001616100", "two kinds"),
        ("a1410000", "neither text nor"),
        ("a12000", "neither text nor"),
        ("a1f500", "neither text nor"),
        ("a1800000", "neither text nor"),
        ("61ff", "UTF-8|utf-8|decod"),
        ("63eda080", "UTF-8|utf-8|decod"),  # a lone surrogate
    ],
)
def test_what_is_refused(data: str, why: str) -> None:
    with pytest.raises(RemoteError, match=why):
        cbor.decode(bytes.fromhex(data))


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x81" * (CBOR_DEPTH_MAX + 1) + b"\x00",
        b"\x81" * 1_000_000,
        b"\x9b\x00\x00\x00\x01\x00\x00\x00\x00",  # four thousand million members announced
        b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x7b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x5a\xff\xff\xff\xff",
        bytes.fromhex("c4821a000f424001"),  # decimal fraction 1E+1000000: a minute to turn into an integer
        bytes.fromhex("d8236128"),  # a regular expression
        b"\x9a" + struct.pack(">I", CBOR_ITEMS_MAX) + b"\x00" * CBOR_ITEMS_MAX,
        b"\x7a" + struct.pack(">I", CBOR_TEXT_BYTES_MAX + 1) + b"a" * (CBOR_TEXT_BYTES_MAX + 1),
        b"\x5a" + struct.pack(">I", BLOCK_BYTES_MAX) + b"a" * BLOCK_BYTES_MAX,
        b"\xa1\x7a" + struct.pack(">I", CBOR_TEXT_BYTES_MAX + 1) + b"a" * (CBOR_TEXT_BYTES_MAX + 2),
    ],
)
def test_bombs_are_refused_before_a_value_is_built(bomb: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(data: bytes) -> object:
        raise AssertionError("cbor2 saw it")

    monkeypatch.setattr(cbor2, "loads", never)
    with pytest.raises(RemoteError):
        cbor.decode(bomb)


def test_limits_themselves_are_accepted() -> None:
    assert cbor.decode(b"\x81" * CBOR_DEPTH_MAX + b"\x00")
    members = CBOR_ITEMS_MAX - 1
    decoded = cbor.decode(b"\x9a" + struct.pack(">I", members) + b"\x00" * members)
    assert decoded == [0] * members
    text = "a" * CBOR_TEXT_BYTES_MAX
    assert cbor.decode(cbor.encode(text)) == text
    column = bytes(BLOCK_BYTES_MAX - 5)
    assert cbor.decode(cbor.encode(column)) == column


def test_caller_can_lower_the_size_limit() -> None:
    assert cbor.decode(cbor.encode("abc"), bytes_max=4) == "abc"
    with pytest.raises(RemoteError) as caught:
        cbor.decode(cbor.encode("abcd"), bytes_max=4)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        [-math.inf],
        2**63,
        -(2**63) - 1,
        2**64,
        {1, 2},
        ...,
        {b"key": 1},
        {-1: 1},
        {None: 1},
        {"a": 1, 1: 2},
        "\ud800",
        [[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]],
    ],
    ids=repr,
)
def test_a_value_outside_the_profile_is_our_own_mistake(value: object) -> None:
    with pytest.raises(LocalError):
        cbor.encode(value)


def test_tuples_encode_as_arrays() -> None:
    assert cbor.encode((1, (2, "x"))) == cbor.encode([1, [2, "x"]])


@given(st.binary(max_size=200))
@example(b"\xa2\x00\x01\x18\x18\x02")
def test_any_bytes_give_a_value_with_these_bytes_or_remote_error(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except RemoteError:
        return
    assert cbor.encode(value) == data


@given(values, st.data())
def test_damaged_records_too(value: object, draw: st.DataObject) -> None:
    data = bytearray(cbor.encode(value))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    damaged = bytes(data[: draw.draw(st.integers(0, len(data)))])
    try:
        decoded = cbor.decode(damaged)
    except RemoteError:
        return
    assert cbor.encode(decoded) == damaged
