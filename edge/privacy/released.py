"""Tokens of what may leave: the outgoing gate takes these types and no other.

A `Released` is made from a reservation that is durable in the privacy ledger, and from nothing else; a `Cleared` from a
payload that the first layer has let through. Python cannot forbid a forgery, but it makes one stand out: the
constructors ask for a seal that only this module has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from edge.encoding import cbor
from edge.errors import LocalError, RecordInvalid
from edge.privacy import identifiers
from edge.privacy.budget import BudgetLedger
from edge.privacy.identifiers import Cell, PublicList
from edge.privacy.reservation import ReleaseKey, Reservation
from edge.records.shared import ModelInsight, Payload, RangeUpdate, TrendUpdate
from edge.records.shared_codec import from_value, to_value

Protected = RangeUpdate | TrendUpdate | ModelInsight
PAYLOAD_VERSION: Final = 1
_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class Released:
    """What may leave, noised and paid for: the records of one durable reservation."""

    reservation: Reservation
    records: tuple[Protected, ...]
    receipts: tuple[tuple[Cell, int], ...]  # noised number of receipts of each cell, suppressed ones too
    seal: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            raise LocalError("a release is made from the privacy ledger alone")

    @property
    def network(self) -> bytes:
        """Id of the only network that it may enter."""
        return self.reservation.key.network


@dataclass(frozen=True, slots=True)
class Cleared:
    """What may enter the private network with the id `network`: a payload without identifiers. Not noised."""

    network: bytes
    payload: Payload
    seal: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            raise LocalError("a payload is cleared by the first layer alone")


def released(ledger: BudgetLedger, key: ReleaseKey) -> Released | None:
    """The token of the durable reservation of `key`; None where there is none. The only way to a `Released`.

    Raises `RecordInvalid` where its bytes are not such a payload: a round of a secure sum is no message.
    """
    reservation = ledger.budget.reservation(key)
    if reservation is None:
        return None
    match cbor.decode(reservation.payload):
        case [int(version), list(values), list(counts)] if version == PAYLOAD_VERSION:
            records = tuple(_record(value) for value in values)
            return Released(reservation, records, tuple(_count(cells) for cells in counts), _SEAL)
    raise RecordInvalid("a release in the privacy ledger is malformed", reason="malformed")


def durable(ledger: BudgetLedger, key: ReleaseKey) -> Released:
    """`released`, where it has just been made durable."""
    found = released(ledger, key)
    if found is None:
        raise LocalError(f"{key} was reserved and is not in the ledger")
    return found


def cleared(network: bytes, payload: Payload, listed: PublicList) -> Cleared:
    """The token of a payload for a private network. Raises `PrivacyRefused` as `identifiers.clear` does."""
    return Cleared(network, identifiers.clear(payload, listed, item_level=True), _SEAL)


def encode_payload(records: Sequence[Protected], receipts: Sequence[tuple[Cell, int]]) -> bytes:
    """The bytes that a reservation holds: canonical CBOR `[version, records, noised receipts]`."""
    counts = [[cell.category, cell.sku, count] for cell, count in receipts]
    return cbor.encode([PAYLOAD_VERSION, [to_value(record) for record in records], counts])


def _record(value: object) -> Protected:
    found = from_value(value)
    if not isinstance(found, Protected):
        raise RecordInvalid("a release in the privacy ledger holds a raw record", reason="malformed")
    return found


def _count(cells: Any) -> tuple[Cell, int]:
    match cells:
        case [str(category), str(sku), int(count)]:
            return Cell(category, sku), count
    raise RecordInvalid("a release in the privacy ledger: a count", reason="malformed")
