from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_privacy import NETWORK

from edge.encoding import cbor
from edge.errors import RecordInvalid, RemoteError
from edge.privacy.reservation import Charge, FloorRaised, ReleaseKey, Reservation, decode, encode, owner_charges
from edge.records.shared import Unit

SMALL = st.integers(0, 10**9)
FRACTION = st.builds(Fraction, SMALL, st.integers(1, 10**9))
KEY = st.builds(
    ReleaseKey,
    st.binary(min_size=32, max_size=32),
    st.sampled_from(["ranges", "trends", "sums"]),
    st.text(max_size=20),
    st.integers(0, 10_000),
    st.integers(1, 53),
)
CHARGES = st.lists(st.tuples(FRACTION, FRACTION).filter(any), min_size=1, max_size=2).map(
    lambda found: tuple(Charge(u, *values) for u, values in zip((Unit.RECEIPT, Unit.OWNER_WEEK), found, strict=False))
)
PAID = st.builds(Reservation, KEY, CHARGES, st.binary(max_size=100))
DERIVED = st.builds(
    lambda key, payload, sources, heard: Reservation(key, (), payload, tuple(sources), heard),
    *(KEY, st.binary(max_size=100), st.lists(KEY, min_size=1, max_size=4), st.integers(0, 1000)),
)
RECORD = st.one_of(PAID, DERIVED, st.integers(0, 10_000).map(FloorRaised))
EXAMPLE = ReleaseKey(NETWORK, "ranges", "", 2896, 4)
CHARGE = Charge(Unit.RECEIPT, Fraction(1, 2))


@given(RECORD)
def test_a_block_says_what_went_in(record: Reservation | FloorRaised) -> None:
    block = encode(record)
    assert decode(block) == record
    assert encode(decode(block)) == block


@given(RECORD, st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_another_record(record: Reservation | FloorRaised, at: int, value: int) -> None:
    block = bytearray(encode(record))
    block[at % len(block)] = value
    try:
        found = decode(bytes(block))
    except RemoteError:
        return
    assert encode(found) == bytes(block)


@pytest.mark.parametrize(
    "value",
    [
        [2, 1, -1],
        [2, 1, True],
        [2, 2, 1],
        [True, 1, 1],
        [3, 1, 1],
        [2, 1],
        [1, 1, [b"x" * 32, "ranges", "", 1, 1], [], b"", [], 0],  # neither paid for nor derived
        [1, 1, [b"x" * 32, "ranges", "", 1, 1], [[1, 2, 4, 0, 1]], b"", [], 0],  # not in lowest terms
        [1, 1, [b"x" * 32, "ranges", "", 1, 1], [[1, 1, 0, 0, 1]], b"", [], 0],
        [1, 1, [b"x" * 32, "ranges", "", 1, 1], [[3, 1, 1, 0, 1]], b"", [], 0],
        [1, 1, [b"x" * 32, "ranges", "", 1, 1], [[1, 1, 1, 0, 1], [1, 1, 1, 0, 1]], b"", [], 0],
        [1, 1, [b"x" * 31, "ranges", "", 1, 1], [[1, 1, 1, 0, 1]], b"", [], 0],
        [1, 1, [b"x" * 32, "", "", 1, 1], [[1, 1, 1, 0, 1]], b"", [], 0],
        [1, 1, [b"x" * 32, "ranges", "", 1, 54], [[1, 1, 1, 0, 1]], b"", [], 0],
        {"kind": 1},
    ],
)
def test_other_blocks_are_refused(value: object) -> None:
    with pytest.raises(RecordInvalid):
        decode(cbor.encode(value))


def test_the_block_of_the_documentation() -> None:
    """FORMATS.md, "Privacy ledger", shows these bytes."""
    block = encode(Reservation(EXAMPLE, (CHARGE,), b"\x01\x02"))
    assert block.hex() == (
        "8701018558200001" + bytes(range(2, 32)).hex() + "6672616e67657360190b5004" + "8185010102000142010280" + "00"
    )
    assert encode(FloorRaised(2913)).hex() == "830201190b61"


def test_a_sum_between_owners_is_charged_to_its_receipts_too() -> None:
    charges = owner_charges(Fraction(1, 8))
    eighth = Fraction(1, 8)
    assert charges == (Charge(Unit.OWNER_WEEK, rho=eighth), Charge(Unit.RECEIPT, rho=eighth))


@pytest.mark.parametrize(
    ("unit", "epsilon", "rho"),
    [
        (Unit.NONE, Fraction(1), Fraction(0)),
        (Unit.RECEIPT, Fraction(0), Fraction(0)),
        (Unit.RECEIPT, Fraction(-1), Fraction(1)),
        (Unit.RECEIPT, Fraction(1, 10**9 + 1), Fraction(0)),
    ],
)
def test_charges_that_mean_nothing_are_refused(unit: Unit, epsilon: Fraction, rho: Fraction) -> None:
    with pytest.raises(RecordInvalid):
        Charge(unit, epsilon, rho)
