import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import RecordInvalid
from edge.limits import INTEGER_MAX, RECEIPT_BYTES_MAX
from edge.pos.messages import MessageRefused, PreviousEpoch, TillMessage, decode, encode
from edge.pos.topics import gln_of_store
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition

GLN = gln_of_store(2)
SKUS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
NUMBERS = st.integers(1, INTEGER_MAX)


@st.composite
def lines(draw: st.DrawFn, *, returned: bool | None = None) -> ReceiptLine:
    sign = draw(st.sampled_from((1, -1))) if returned is None else -1 if returned else 1
    amount = draw(st.integers(0, 10**8))
    quantity = draw(st.integers(1, 10**8))
    flags = {"weighed": draw(st.booleans()), "multibuy": draw(st.booleans())}
    return ReceiptLine(draw(SKUS), sign * quantity, draw(st.integers(0, 10**8)), sign * amount, **flags)


@st.composite
def messages(draw: st.DrawFn) -> TillMessage:
    kind = draw(st.sampled_from(list(ReceiptKind)))
    if kind is ReceiptKind.DAY_END:
        found: tuple[ReceiptLine, ...] = ()
    else:
        least = 1 if kind in (ReceiptKind.SALE, ReceiptKind.RETURN) else 0
        returned = True if kind is ReceiptKind.RETURN else None
        found = tuple(draw(st.lists(lines(returned=returned), min_size=least, max_size=6)))
    epoch = draw(st.integers(2, INTEGER_MAX))
    receipt = Receipt(
        lane=draw(SKUS),
        position=TillPosition(epoch, draw(NUMBERS)),
        kind=kind,
        business_day=draw(st.dates()),
        wall_ms=draw(st.integers(0, INTEGER_MAX)),
        currency=draw(st.sampled_from(("EUR", "USD", "JPY"))),
        lines=found,
        book=draw(st.integers(0, INTEGER_MAX)),
        tax_included=draw(st.booleans()),
        training=draw(st.booleans()),
        voids=TillPosition(draw(NUMBERS), draw(NUMBERS)) if kind is ReceiptKind.POST_VOID else None,
    )
    last = draw(st.none() | st.integers(0, INTEGER_MAX))
    previous = draw(st.none() | st.integers(1, epoch - 1).map(lambda before: PreviousEpoch(before, last)))
    return TillMessage(receipt, previous)


@given(messages())
def test_decode_undoes_encode_and_the_bytes_are_stable(message: TillMessage) -> None:
    payload = encode(message, GLN)
    found = decode(payload, gln=GLN, lane=message.receipt.lane)
    assert found == message
    assert encode(found, GLN) == payload


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode) | messages().map(lambda m: encode(m, GLN)[:-2]))
def test_any_bytes_give_a_message_or_a_refusal(payload: bytes) -> None:
    try:
        found = decode(payload, gln=GLN, lane="1")
    except MessageRefused:
        return
    assert found.receipt.lane == "1"


@given(messages(), st.data())
def test_mutated_messages_give_a_message_or_a_refusal(message: TillMessage, data: st.DataObject) -> None:
    payload = bytearray(encode(message, GLN))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(payload), gln=GLN, lane=message.receipt.lane)
    except MessageRefused as refusal:
        assert refusal.reason  # noqa: PT017 - most mutations are refused, some are still messages


def good(**changes: object) -> dict[str, Any]:
    document = {
        "RetailStoreID": GLN,
        "WorkstationID": "1",
        "BootEpoch": 5,
        "SequenceNumber": 7,
        "TransactionType": "Sale",
        "BusinessDayDate": "2026-11-22",
        "EndDateTimeMs": 1,
        "CurrencyCode": "EUR",
        "LineItem": [{"Sale": {"ItemID": "a", "Quantity": 2, "ActualSalesUnitPrice": 199, "ExtendedAmount": 398}}],
    }
    return {key: value for key, value in (document | changes).items() if value is not None}


def refusal_of(document: object) -> MessageRefused:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(MessageRefused) as caught:
        decode(payload, gln=GLN, lane="1")
    return caught.value


def line(**changes: object) -> dict[str, object]:
    body = {"ItemID": "a", "Quantity": 2, "ActualSalesUnitPrice": 199, "ExtendedAmount": 398} | changes
    return good(LineItem=[{"Sale": {key: value for key, value in body.items() if value is not None}}])


def test_units_of_measure_become_thousandths() -> None:
    def quantity(**changes: object) -> tuple[int, bool]:
        found = decode(json.dumps(line(**changes)).encode(), gln=GLN, lane="1").receipt.lines[0]
        return found.quantity_milli, found.weighed

    assert quantity() == (2000, False)
    assert quantity(Quantity=756, UnitOfMeasureCode="GRM") == (756, True)
    assert quantity(Quantity=1500, UnitOfMeasureCode="MMT") == (1500, False)


@pytest.mark.parametrize(
    "name",
    ["CustomerID", "LoyaltyAccountID", "OperatorID", "cashier_name", "CardNumberHash", "EMail", "member-no", "Phone"],
)
def test_fields_about_people_are_refused_by_name_wherever_they_are(name: str) -> None:
    for document in (good(**{name: "x"}), line(**{name: "x"}), good(LineItem=[{name: {}}])):
        refusal = refusal_of(document)
        assert (refusal.reason, refusal.position) == ("personal_data", TillPosition(5, 7))
        assert refusal.field == name


@pytest.mark.parametrize(
    ("document", "reason", "field"),
    [
        (good(Weather="sunny"), "unknown_field", "Weather"),
        (line(Weight=3), "unknown_field", "Weight"),
        (good(CurrencyCode=None), "missing_field", "CurrencyCode"),
        (line(ItemID=None), "missing_field", "LineItem[0].ItemID"),
        (good(RetailStoreID=gln_of_store(3)), "wrong_shop", "RetailStoreID"),
        (good(WorkstationID="2"), "wrong_lane", "WorkstationID"),
        (good(BusinessDayDate="2026-02-30"), "range", "BusinessDayDate"),
        (good(BusinessDayDate="20260201"), "malformed", "BusinessDayDate"),
        (good(TransactionType="Gift"), "range", "TransactionType"),
        (good(TrainingModeFlag=1), "malformed", "TrainingModeFlag"),
        (good(EndDateTimeMs=-1), "range", "EndDateTimeMs"),
        (good(EndDateTimeMs="1"), "malformed", "EndDateTimeMs"),
        (good(LineItem={}), "malformed", "LineItem"),
        (good(LineItem=[]), "range", ""),
        (good(LineItem=[{"Sale": {}}] * 129), "too_large", ""),
        (good(TransactionType="PostVoid"), "range", ""),
        (good(TransactionType="PostVoid", VoidedBootEpoch=5), "missing_field", "VoidedSequenceNumber"),
        (good(TransactionType="Return"), "range", ""),
        (good(TransactionType="BusinessEOD"), "range", ""),
        (good(PreviousLastSequenceNumber=5), "missing_field", "PreviousLastSequenceNumber"),
        (good(PreviousBootEpoch=5), "range", ""),
        (line(Quantity=0), "range", "LineItem[0]"),
        (line(Quantity=2.0), "malformed", ""),
        (line(Quantity=True), "malformed", "LineItem[0]"),
        (line(ExtendedAmount=-1), "range", "LineItem[0]"),
        (line(ItemID="a/b"), "range", ""),
        (line(UnitOfMeasureCode="KGM"), "range", "LineItem[0].UnitOfMeasureCode"),
    ],
)
def test_a_refusal_names_the_field_and_the_position(document: object, reason: str, field: str) -> None:
    refusal = refusal_of(document)
    assert (refusal.reason, refusal.field, refusal.position) == (reason, field, TillPosition(5, 7))


def test_the_position_is_read_from_broken_json_only_where_it_is_unambiguous() -> None:
    whole = json.dumps(good()).encode()
    assert refusal_of(whole[:-5]).position == TillPosition(5, 7)
    assert refusal_of(whole[:-1] + b',"BootEpoch":6}').position is None
    assert refusal_of(b"\xff" + whole).position == TillPosition(5, 7)
    assert refusal_of(b"nothing").position is None
    assert refusal_of(good(SequenceNumber=0)).position is None
    assert refusal_of(good(SequenceNumber="7")).position is None
    assert refusal_of(b"[" * 5000).reason == "too_large"
    assert refusal_of(b"x" * (RECEIPT_BYTES_MAX + 1)).reason == "too_large"
    assert refusal_of(b'{"a":' + b"9" * 6000 + b"}").reason == "malformed"
    assert refusal_of(b'{"a":NaN}').reason == "malformed"
    assert refusal_of(b"[1]").reason == "malformed"


def test_what_is_too_large_to_send_is_not_encoded() -> None:
    item = ReceiptLine("x" * 64, 1000, 10**8, 10**8, multibuy=True)
    receipt = Receipt("1", TillPosition(1, 1), ReceiptKind.SALE, date(2026, 1, 1), 0, "EUR", (item,) * 128)
    with pytest.raises(RecordInvalid, match="at most"):
        encode(TillMessage(receipt), GLN)
