"""The wire form of a receipt and of its acknowledgement: JSON with the names of POSLog 6, both ways and strict.

A message is one UTF-8 JSON object (the names are OMG/ARTS POSLog 6 unless marked *):

    RetailStoreID        the shop's GLN; must be the box's own
    WorkstationID        the lane; must be the topic's
    BootEpoch*           integer; a till opens a new, larger one only when it has lost its spool
    SequenceNumber       integer from 1, without holes within the epoch
    TransactionType      Sale | Return | Void | PostVoid | BusinessEOD
    BusinessDayDate      YYYY-MM-DD, the till's own business day
    EndDateTimeMs*       the till's clock, ms since 1970-01-01 UTC (POSLog: EndDateTime); for people only
    CurrencyCode         ISO 4217
    LineItem             list of {"Sale": line} and {"Return": line}; absent where there is none
    PriceBookNumber*     the price book it was rung with; absent: none
    TaxIncludedInPriceFlag   false where prices are net; absent: true
    TrainingModeFlag     true while the cashier practises; absent: false
    VoidedBootEpoch*, VoidedSequenceNumber*   of a PostVoid: the receipt of this lane that it cancels (TransactionLink)
    PreviousBootEpoch*, PreviousLastSequenceNumber*   in the first receipt of an epoch, as far as the till knows them

    line: ItemID         GTIN-14 or the retailer's SKU
          Quantity       integer, above 0, also on a Return: pieces; grams or millimetres by UnitOfMeasureCode
          UnitOfMeasureCode  UN/ECE Recommendation 20: EA (pieces, the default), GRM (weighed), MMT (measured)
          ActualSalesUnitPrice  shelf price of one piece, kilogram or metre, integer minor units
          ExtendedAmount     what the line came to after multi-buys and discounts, integer minor units, from 0
          MultiBuyFlag*      true for a line of a multi-buy; absent: false

Invariants: every key is known and comes once; an integer is an integer (no 1.0, no "1", no true); `decode(encode(m))`
equals `m`, and `encode(decode(b))` equals `b` for every `b` that `encode` wrote. Whatever the bytes, `decode` returns
a message or raises `MessageRefused`, which names the field and says which position it spoils, where that can be read.
Fields about a customer, a cashier or a card are refused by name: they must never reach the log.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, NoReturn

from edge.errors import RecordInvalid
from edge.limits import INTEGER_MAX, RECEIPT_BYTES_MAX, RECEIPT_LINES_MAX
from edge.pos.topics import check_gln, check_lane
from edge.records.receipt import MILLI_PER_UNIT, QUANTITY_MILLI_MAX, Receipt, ReceiptKind, ReceiptLine, TillPosition

_KIND_OF: Final = {
    "Sale": ReceiptKind.SALE,
    "Return": ReceiptKind.RETURN,
    "Void": ReceiptKind.VOID,
    "PostVoid": ReceiptKind.POST_VOID,
    "BusinessEOD": ReceiptKind.DAY_END,
}
_TYPE_OF: Final = {kind: name for name, kind in _KIND_OF.items()}
_REQUIRED: Final = frozenset(
    (
        "RetailStoreID",
        "WorkstationID",
        "BootEpoch",
        "SequenceNumber",
        "TransactionType",
        "BusinessDayDate",
        "EndDateTimeMs",
        "CurrencyCode",
    )
)
_OPTIONAL: Final = frozenset(
    (
        "LineItem",
        "PriceBookNumber",
        "TaxIncludedInPriceFlag",
        "TrainingModeFlag",
        "VoidedBootEpoch",
        "VoidedSequenceNumber",
        "PreviousBootEpoch",
        "PreviousLastSequenceNumber",
    )
)
_ALLOWED: Final = _REQUIRED | _OPTIONAL
_LINE_REQUIRED: Final = frozenset(("ItemID", "Quantity", "ActualSalesUnitPrice", "ExtendedAmount"))
_LINE_ALLOWED: Final = _LINE_REQUIRED | {"UnitOfMeasureCode", "MultiBuyFlag"}
# Words that betray a field about a person. POSLog has many such fields (Customer, OperatorID, CardNumberHash, ...);
# a shop's own extensions invent more, so the match is on parts of the name, without case and punctuation.
_PERSONAL: Final = re.compile(
    r"custom|cashier|operator|card|loyal|member|account|employee|associate|staff|person|passport|licen[cs]e|"
    r"address|phone|mobile|mail|birth|gender|surname|firstname|lastname|fullname|iban|bankid|token|signature|tender|payment"
)
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_EPOCH_IN_BYTES: Final = re.compile(rb'"BootEpoch"\s*:\s*(\d{1,16})(?![\d.eE])')
_SEQUENCE_IN_BYTES: Final = re.compile(rb'"SequenceNumber"\s*:\s*(\d{1,16})(?![\d.eE])')
_OBJECTS_MAX: Final = 2 * RECEIPT_LINES_MAX + 1  # the receipt, and two for each line


class MessageRefused(RecordInvalid):
    """A till's message that the box will not take.

    `field` names the offending key ("" where the whole message is meant). `position` is the place in the lane's
    numbering that the message claims, or None where it cannot be read; a refusal with a position is recorded, so that
    the acknowledgement can pass it and the till learns of it.
    """

    def __init__(self, field: str, message: str, *, reason: str, position: TillPosition | None = None) -> None:
        super().__init__(f"{field}: {message}" if field else message, reason=reason)
        self.field = field
        self.position = position


@dataclass(frozen=True, slots=True)
class PreviousEpoch:
    """What a till that opened a new epoch still knows of the one before. `last_sequence` None: it does not know."""

    epoch: int
    last_sequence: int | None = None

    def __post_init__(self) -> None:
        TillPosition(self.epoch, 1 if self.last_sequence is None else max(1, self.last_sequence))
        if self.last_sequence is not None and self.last_sequence < 0:
            raise RecordInvalid(f"last sequence {self.last_sequence} of the previous epoch is negative")


@dataclass(frozen=True, slots=True)
class TillMessage:
    """One message of a till: a receipt and, with the first one of an epoch, what the till knows of the last epoch."""

    receipt: Receipt
    previous: PreviousEpoch | None = None

    def __post_init__(self) -> None:
        if self.previous is not None and self.previous.epoch >= self.receipt.position.epoch:
            raise RecordInvalid("the previous epoch must be smaller than the receipt's own")


def encode(message: TillMessage, gln: str) -> bytes:
    """The canonical wire form of `message`, sent by a till of shop `gln`."""
    receipt = message.receipt
    document: dict[str, Any] = {
        "RetailStoreID": check_gln(gln),
        "WorkstationID": check_lane(receipt.lane),
        "BootEpoch": receipt.position.epoch,
        "SequenceNumber": receipt.position.sequence,
        "TransactionType": _TYPE_OF[receipt.kind],
        "BusinessDayDate": receipt.business_day.isoformat(),
        "EndDateTimeMs": receipt.wall_ms,
        "CurrencyCode": receipt.currency,
    }
    _check_return(receipt)
    if receipt.lines:
        document["LineItem"] = [_encode_line(line) for line in receipt.lines]
    if receipt.book:
        document["PriceBookNumber"] = receipt.book
    if not receipt.tax_included:
        document["TaxIncludedInPriceFlag"] = False
    if receipt.training:
        document["TrainingModeFlag"] = True
    if receipt.voids is not None:
        document["VoidedBootEpoch"] = receipt.voids.epoch
        document["VoidedSequenceNumber"] = receipt.voids.sequence
    if message.previous is not None:
        document["PreviousBootEpoch"] = message.previous.epoch
        if message.previous.last_sequence is not None:
            document["PreviousLastSequenceNumber"] = message.previous.last_sequence
    payload = _ENCODER.encode(document).encode()
    if len(payload) > RECEIPT_BYTES_MAX:
        raise RecordInvalid(f"receipt of {len(payload)} bytes; at most {RECEIPT_BYTES_MAX}", reason="too_large")
    return payload


def decode(payload: bytes, *, gln: str, lane: str) -> TillMessage:
    """The message in `payload`, from `lane`'s topic of shop `gln`. Raises `MessageRefused`, nothing else."""
    if len(payload) > RECEIPT_BYTES_MAX:
        raise _refused("", f"{len(payload)} bytes; at most {RECEIPT_BYTES_MAX}", "too_large", payload)
    if payload.count(b"{") > _OBJECTS_MAX or payload.count(b"[") > 1:
        raise _refused("", "more nesting or lines than a receipt can have", "too_large", payload)
    try:
        document = _parse(payload)
    except _Refusal as refusal:
        raise _refused(refusal.field, refusal.message, refusal.reason, payload) from None
    except (ValueError, RecursionError) as error:
        raise _refused("", f"not JSON ({error})", "malformed", payload) from None
    try:
        return _message(document, gln, lane)
    except _Refusal as refusal:
        raise _refused(refusal.field, refusal.message, refusal.reason, document) from None
    except RecordInvalid as error:
        raise _refused("", str(error), error.reason, document) from None


class _Refusal(Exception):
    """The inside of `MessageRefused`, before the position is known."""

    def __init__(self, field: str, message: str, reason: str = "malformed") -> None:
        super().__init__(message)
        self.field, self.message, self.reason = field, message, reason


def _parse(payload: bytes) -> object:
    """The JSON value of `payload`, no key twice.

    Looking at every object's keys as they come costs as much as the parsing. So they are counted instead: a message
    whose keys are as many as its bytes have `":` has none twice. Whatever does not add up takes the slow way.
    """
    text = payload.decode()
    try:
        document, end = _FAST.raw_decode(text)
        count = len(document)
        for entry in document.get("LineItem", ()):
            for body in entry.values():
                count += 1 + len(body)
        if end == len(text) and count == payload.count(b'":'):
            return document
    except (ValueError, AttributeError, TypeError):
        pass
    return _DECODER.decode(text)


def _refused(field: str, message: str, reason: str, source: object) -> MessageRefused:
    position = _position_of(source) if isinstance(source, dict) else _position_in(source)
    return MessageRefused(field, message, reason=reason, position=position)


def _position_of(document: Mapping[str, object]) -> TillPosition | None:
    epoch, sequence = document.get("BootEpoch"), document.get("SequenceNumber")
    if type(epoch) is not int or type(sequence) is not int:
        return None
    try:
        return TillPosition(epoch, sequence)
    except RecordInvalid:
        return None


def _position_in(payload: object) -> TillPosition | None:
    """The position named in bytes that are not a message: only if each of its two fields is there exactly once."""
    if not isinstance(payload, bytes):
        return None
    epochs, sequences = _EPOCH_IN_BYTES.findall(payload), _SEQUENCE_IN_BYTES.findall(payload)
    if len(epochs) != 1 or len(sequences) != 1:
        return None
    return _position_of({"BootEpoch": int(epochs[0]), "SequenceNumber": int(sequences[0])})


def _message(document: object, gln: str, lane: str) -> TillMessage:
    if type(document) is not dict:
        raise _Refusal("", "a receipt is a JSON object")
    keys = document.keys()
    if not keys <= _ALLOWED:
        _refuse_unknown(keys - _ALLOWED)
    if not keys >= _REQUIRED:
        raise _Refusal(min(_REQUIRED - keys), "is missing", "missing_field")
    if document["RetailStoreID"] != gln:
        raise _Refusal("RetailStoreID", "is not this shop's GLN", "wrong_shop")
    if document["WorkstationID"] != lane:
        raise _Refusal("WorkstationID", "is not the lane of the topic", "wrong_lane")
    kind = _KIND_OF.get(_text(document, "TransactionType"))
    if kind is None:
        raise _Refusal("TransactionType", f"must be one of {', '.join(_KIND_OF)}", "range")
    lines = document.get("LineItem", ())
    if type(lines) is not list and lines != ():
        raise _Refusal("LineItem", "must be a list")
    if len(lines) > RECEIPT_LINES_MAX:
        raise _Refusal("LineItem", f"{len(lines)} lines; at most {RECEIPT_LINES_MAX}", "too_large")
    receipt = Receipt(
        lane=lane,
        position=TillPosition(_integer(document, "BootEpoch"), _integer(document, "SequenceNumber")),
        kind=kind,
        business_day=_day(document, "BusinessDayDate"),
        wall_ms=_integer(document, "EndDateTimeMs"),
        currency=_text(document, "CurrencyCode"),
        lines=tuple([_line(line, number) for number, line in enumerate(lines)]),
        book=_integer(document, "PriceBookNumber") if "PriceBookNumber" in document else 0,
        tax_included=_flag(document, "TaxIncludedInPriceFlag", default=True),
        training=_flag(document, "TrainingModeFlag", default=False),
        voids=_pair(document, "VoidedBootEpoch", "VoidedSequenceNumber"),
    )
    _check_return(receipt)
    return TillMessage(receipt, _previous(document))


def _check_return(receipt: Receipt) -> None:
    if receipt.kind is ReceiptKind.RETURN and any(line.quantity_milli > 0 for line in receipt.lines):
        raise RecordInvalid("a Return has Return lines only; an exchange is a Sale with both")


def _refuse_unknown(keys: frozenset[str] | set[str]) -> NoReturn:
    for key in sorted(keys):
        if _PERSONAL.search(re.sub(r"[^a-z]", "", key.lower())):
            raise _Refusal(_shown(key), "fields about customers, cashiers or cards are not accepted", "personal_data")
    raise _Refusal(_shown(min(keys)), "is not a known field", "unknown_field")


def _shown(key: str) -> str:
    """A foreign key as it may be shown and stored: short and printable."""
    return re.sub(r"[^A-Za-z0-9_.:@-]", "?", key[:40])


def _previous(document: dict[str, Any]) -> PreviousEpoch | None:
    last = _integer(document, "PreviousLastSequenceNumber") if "PreviousLastSequenceNumber" in document else None
    if "PreviousBootEpoch" in document:
        return PreviousEpoch(_integer(document, "PreviousBootEpoch"), last)
    if last is not None:
        raise _Refusal("PreviousLastSequenceNumber", "needs PreviousBootEpoch", "missing_field")
    return None


def _pair(document: dict[str, Any], epoch: str, sequence: str) -> TillPosition | None:
    if epoch not in document and sequence not in document:
        return None
    for name in (epoch, sequence):
        if name not in document:
            raise _Refusal(name, "is missing", "missing_field")
    return TillPosition(_integer(document, epoch), _integer(document, sequence))


def _line(entry: object, number: int) -> ReceiptLine:
    if type(entry) is not dict or len(entry) != 1:
        raise _Refusal(f"LineItem[{number}]", 'must be {"Sale": {...}} or {"Return": {...}}')
    ((what, body),) = entry.items()
    if what == "Sale":
        sign = 1
    elif what == "Return":
        sign = -1
    else:
        _refuse_unknown({what})
    if type(body) is not dict:
        raise _Refusal(f"LineItem[{number}]", "must be an object")
    keys = body.keys()
    if not keys <= _LINE_ALLOWED:
        _refuse_unknown(keys - _LINE_ALLOWED)
    if not keys >= _LINE_REQUIRED:
        raise _Refusal(f"LineItem[{number}].{min(_LINE_REQUIRED - keys)}", "is missing", "missing_field")
    quantity, unit, amount = body["Quantity"], body["ActualSalesUnitPrice"], body["ExtendedAmount"]
    if type(quantity) is not int or type(unit) is not int or type(amount) is not int:
        raise _Refusal(f"LineItem[{number}]", "Quantity, ActualSalesUnitPrice and ExtendedAmount are integers")
    if not 0 < quantity <= QUANTITY_MILLI_MAX or amount < 0:
        raise _Refusal(f"LineItem[{number}]", "Quantity must be above 0 and ExtendedAmount at least 0", "range")
    measure = body.get("UnitOfMeasureCode", "EA")
    if measure not in ("EA", "GRM", "MMT"):
        raise _Refusal(f"LineItem[{number}].UnitOfMeasureCode", "must be EA, GRM or MMT", "range")
    item = body["ItemID"]
    if type(item) is not str:
        raise _Refusal(f"LineItem[{number}].ItemID", "must be text")
    multibuy = "MultiBuyFlag" in keys and _flag(body, "MultiBuyFlag", default=False)
    if measure == "EA":
        quantity *= MILLI_PER_UNIT
    return ReceiptLine(item, sign * quantity, unit, sign * amount, measure == "GRM", multibuy)


def _encode_line(line: ReceiptLine) -> dict[str, object]:
    body: dict[str, object] = {"ItemID": line.sku}
    quantity = abs(line.quantity_milli)
    if line.weighed:
        body |= {"Quantity": quantity, "UnitOfMeasureCode": "GRM"}
    elif quantity % MILLI_PER_UNIT:
        body |= {"Quantity": quantity, "UnitOfMeasureCode": "MMT"}
    else:
        body["Quantity"] = quantity // MILLI_PER_UNIT
    body |= {"ActualSalesUnitPrice": line.unit_minor, "ExtendedAmount": abs(line.amount_minor)}
    if line.multibuy:
        body["MultiBuyFlag"] = True
    return {"Sale" if line.quantity_milli > 0 else "Return": body}


def _integer(document: Mapping[str, object], key: str) -> int:
    value = document[key]
    if type(value) is not int:
        raise _Refusal(key, "must be an integer")
    if not 0 <= value <= INTEGER_MAX:
        raise _Refusal(key, "must be between 0 and 2^53-1", "range")
    return value


def _text(document: Mapping[str, object], key: str) -> str:
    value = document[key]
    if type(value) is not str:
        raise _Refusal(key, "must be text")
    return value


def _flag(document: Mapping[str, object], key: str, *, default: bool) -> bool:
    value = document.get(key, default)
    if value is not True and value is not False:
        raise _Refusal(key, "must be true or false")
    return value


def _day(document: Mapping[str, object], key: str) -> date:
    text = _text(document, key)
    if not _DAY.fullmatch(text):
        raise _Refusal(key, "must be YYYY-MM-DD")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _Refusal(key, "is not a day of the calendar", "range") from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise _Refusal("", "a key comes twice", "duplicate_key")
    return document


def _no_fraction(text: str) -> NoReturn:
    raise _Refusal("", f"{text[:20]} is not an integer", "malformed")


_FAST: Final = json.JSONDecoder(parse_float=_no_fraction, parse_constant=_no_fraction)
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_float=_no_fraction, parse_constant=_no_fraction)
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, allow_nan=False)
