"""Payloads as CBOR values: what is written reads back, one form for each, and nothing else is let in."""

import copy
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_shared import PAYLOADS, payload_of, payloads, protections

from edge.encoding import cbor
from edge.errors import RecordInvalid
from edge.records.shared import (
    TERMS,
    ItemDay,
    ModelInsight,
    Payload,
    PriceUpdate,
    Protection,
    RangeUpdate,
    TrendUpdate,
    Unit,
)
from edge.records.shared_codec import from_value, to_value, word_of

NOTE = Protection(Unit.OWNER_WEEK, 500_000, 1000, 0.03, 12, 6)


@given(payloads())
def test_a_payload_reads_back_as_it_was(payload: Payload) -> None:
    data = cbor.encode(to_value(payload))
    again = from_value(cbor.decode(data))
    assert again == payload
    assert type(again) is type(payload)
    assert cbor.encode(to_value(again)) == data  # minus zero too


def test_words_are_one_for_each_kind() -> None:
    assert [word_of(kind) for kind in PAYLOADS] == ["item_day", "prices", "ranges", "trends", "insights"]


GOLDEN: dict[type[Payload], str] = {
    ItemDay: "a5636461791a000b488b646b696e64686974656d5f64617964726f77738184616118c7192ee0190954"
    "6863617465676f72796564616972796863757272656e637963455552",
    PriceUpdate: "a5646b696e646670726963657364726f7773818861611b000001987260c00018bd18c7f93400f9380018c71a00014820"
    "647765656b190b546863617465676f72796564616972796863757272656e637963455552",
    RangeUpdate: "a7646b696e646672616e67657364726f7773818560189618fafbbf947ae147ae147bfb3fb1eb851eb851ec"
    "647765656b190b54657765656b73046863617465676f72796564616972796863757272656e637963455552"
    "6a70726f74656374696f6e86021a0007a1201903e8f928000c06",
    TrendUpdate: "a5646b696e64667472656e647364726f7773818760fb3f847ae147ae147bfb3fc999999999999afb3ff199999999999a"
    "fb3f70624dd2f1a9fcfb3fa999999999999afb3f9eb851eb851eb8647765656b190b546863617465676f7279656461697279"
    "6a70726f74656374696f6e86021a0007a1201903e8f928000c06",
    ModelInsight: "a5646b696e6468696e73696768747364726f77738183601828828300fbc000cccccccccccdfb3fd3333333333333"
    "8304fb3fd999999999999afb3fc999999999999a647765656b190b546863617465676f7279656461697279"
    "6a70726f74656374696f6e86021a0007a1201903e8f928000c06",
}


@pytest.mark.parametrize("kind", PAYLOADS)
def test_golden_bytes(kind: type[Payload]) -> None:
    """What is stored and signed: a change here is a new format."""
    note = Protection(Unit.OWNER_WEEK, 500_000, 1000, 0.03125, 12, 6)
    skus = ("a",) if kind in (ItemDay, PriceUpdate) else ("",)
    payload = payload_of(kind, week=2900, skus=skus, protection=note)
    assert cbor.encode(to_value(payload)).hex() == GOLDEN[kind]
    assert from_value(cbor.decode(bytes.fromhex(GOLDEN[kind]))) == payload


# --- what is refused --------------------------------------------------------------------------------------------------

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def paths(value: object, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every cell of a value is."""
    found = [here] if here else []
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        found += paths(member, (*here, key))
    return found


def put(value: object, path: tuple[Any, ...], cell: object) -> Any:
    """A copy of `value` with `cell` at `path`."""
    copied: Any = copy.deepcopy(value)
    at = copied
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = cell
    return copied


def plain(payload: Payload) -> Any:
    return cbor.decode(cbor.encode(to_value(payload)))


@given(payloads(), st.data())
def test_what_is_changed_anywhere_is_refused_or_is_another_payload(payload: Payload, data: st.DataObject) -> None:
    """Never accepted as something that would be written in another way."""
    value = plain(payload)
    path = data.draw(st.sampled_from(paths(value)))
    wrong = put(value, path, data.draw(junk))
    try:
        found = from_value(wrong)
    except RecordInvalid:
        return
    assert repr(plain(found)) == repr(cbor.decode(cbor.encode(wrong)))


@given(junk)
def test_any_value_is_refused(value: object) -> None:
    with pytest.raises(RecordInvalid):
        from_value(value)


@pytest.mark.parametrize("kind", PAYLOADS)
def test_no_key_may_be_missing_or_unknown(kind: type[Payload]) -> None:
    value = plain(payload_of(kind))
    for key in value:
        with pytest.raises(RecordInvalid):
            from_value({name: cell for name, cell in value.items() if name != key})
    for extra in ("customer", "", "protections", "Kind"):
        with pytest.raises(RecordInvalid) as caught:
            from_value({**value, extra: 1})
        assert caught.value.reason == "malformed"


@pytest.mark.parametrize("kind", PAYLOADS)
def test_integers_floats_and_booleans_do_not_stand_for_each_other(kind: type[Payload]) -> None:
    value = plain(payload_of(kind))
    for path in paths(value):
        cell: Any = value
        for step in path:
            cell = cell[step]
        others: list[object] = []
        if type(cell) is int:
            others = [float(cell), bool(cell), str(cell)]
        elif type(cell) is float:
            others = [math.floor(cell), bool(cell), None]
        elif type(cell) is str:
            others = [cell.encode(), None, 0]
        for other in others:
            with pytest.raises(RecordInvalid):
                from_value(put(value, path, other))


@pytest.mark.parametrize("kind", ["", "raw", "ITEM_DAY", "ranges ", 7, None, ["ranges"], {"a": 1}, b"ranges"])
def test_unknown_kinds_are_refused_by_name(kind: object) -> None:
    with pytest.raises(RecordInvalid) as caught:
        from_value({**plain(payload_of(RangeUpdate)), "kind": kind})
    assert caught.value.reason == "unknown_type"


@pytest.mark.parametrize("kind", [ItemDay, PriceUpdate])
def test_raw_payloads_have_no_protection(kind: type[Payload]) -> None:
    with pytest.raises(RecordInvalid, match="unknown field 'protection'"):
        from_value({**plain(payload_of(kind)), "protection": [1, 1, 0, 0.0, 1, 1]})


@pytest.mark.parametrize("kind", [RangeUpdate, TrendUpdate, ModelInsight])
def test_a_protection_that_says_nothing_is_left_out(kind: type[Payload]) -> None:
    assert "protection" not in to_value(payload_of(kind))
    for deviation in (0.0, -0.0):
        with pytest.raises(RecordInvalid, match="left out"):
            from_value({**plain(payload_of(kind)), "protection": [0, 0, 0, deviation, 1, 1]})
    assert to_value(payload_of(kind, protection=NOTE))["protection"] == [2, 500_000, 1000, 0.03, 12, 6]


@given(protections)
def test_protections_read_back(note: Protection) -> None:
    payload = payload_of(TrendUpdate, protection=note)
    assert from_value(plain(payload)) == payload


@pytest.mark.parametrize("unit", [-1, 3, 2**40])
def test_unknown_units_of_protection_are_refused(unit: int) -> None:
    value = plain(payload_of(RangeUpdate, protection=NOTE))
    value["protection"][0] = unit
    with pytest.raises(RecordInvalid, match="unit"):
        from_value(value)


@pytest.mark.parametrize("number", [-1, len(TERMS), 2**40])
def test_unknown_coefficients_are_refused(number: int) -> None:
    value = plain(payload_of(ModelInsight))
    value["rows"][0][2][1][0] = number
    with pytest.raises(RecordInvalid, match="coefficient"):
        from_value(value)


@pytest.mark.parametrize("day", [0, -1, 4_000_000, 2**62])
def test_days_outside_the_calendar_are_refused(day: int) -> None:
    with pytest.raises(RecordInvalid, match="calendar"):
        from_value({**plain(payload_of(ItemDay)), "day": day})
