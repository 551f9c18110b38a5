"""The blocks of the privacy ledger: a reservation (what left or may leave, and its cost) and a raised floor.

Canonical CBOR arrays `[kind, version, ...]` (FORMATS.md, "Privacy ledger"), whole numbers and bytes only: an epsilon is
a numerator and a denominator. `encode(decode(block)) == block`; anything else is `RecordInvalid` or `RemoteError`.
"""

from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import Any, Final

from edge.encoding import cbor
from edge.errors import RecordInvalid
from edge.limits import (
    INTEGER_MAX,
    LABEL_CHARS_MAX,
    RELEASE_BYTES_MAX,
    RELEASE_CHARGES_MAX,
    RELEASE_SOURCES_MAX,
)
from edge.records.shared import WEEK_MAX, Unit

VERSION: Final = 1
WINDOW_WEEKS_MAX: Final = 53
NETWORK_ID_BYTES: Final = 32
SUMS: Final = "sums"  # kind of a release that is a masked part of a sum, no message
ALL: Final = ""  # in place of a category: all of them, in one release
_UNITS: Final = {Unit.RECEIPT: 1, Unit.OWNER_WEEK: 2}
_UNIT_OF: Final = {number: unit for unit, number in _UNITS.items()}
_FRACTION_MAX: Final = 10**9  # numerator and denominator; a charge in 1e-9 still fits


class Kind(IntEnum):
    """First element of a block."""

    RESERVATION = 1
    FLOOR = 2


@dataclass(frozen=True, slots=True, order=True)
class ReleaseKey:
    """What a release is about. Two releases never have the same key and different bytes."""

    network: bytes  # the network's id
    kind: str  # as `edge.records.shared_codec.word_of` says it: "ranges", "trends", "insights"; or "sums"
    category: str  # "" : all categories in one release
    first: int  # week number
    weeks: int

    def __post_init__(self) -> None:
        if len(self.network) != NETWORK_ID_BYTES:
            raise RecordInvalid(f"release of a network with an id of {len(self.network)} bytes")
        if not 0 < len(self.kind) <= LABEL_CHARS_MAX or len(self.category) > LABEL_CHARS_MAX:
            raise RecordInvalid(f"release of kind {self.kind[:20]!r}, category {self.category[:20]!r}")
        if not 1 <= self.weeks <= WINDOW_WEEKS_MAX or not 0 <= self.first <= WEEK_MAX:
            raise RecordInvalid(f"release of {self.weeks} weeks from {self.first}")

    @property
    def end(self) -> int:
        """The first week behind it."""
        return self.first + self.weeks

    @property
    def series(self) -> tuple[bytes, str, str]:
        """What it has in common with the releases of other windows."""
        return self.network, self.kind, self.category


@dataclass(frozen=True, slots=True)
class Charge:
    """What a release costs each week of its window, for one unit of protection."""

    unit: Unit
    epsilon: Fraction = Fraction(0)
    rho: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        if self.unit not in _UNITS:
            raise RecordInvalid(f"a charge needs a unit, not {self.unit}")
        for value in (self.epsilon, self.rho):
            if not 0 <= value.numerator <= _FRACTION_MAX or value.denominator > _FRACTION_MAX:
                raise RecordInvalid(f"a charge of {value} is out of range")
        if self.epsilon == 0 and self.rho == 0:
            raise RecordInvalid("a charge of nothing")


@dataclass(frozen=True, slots=True)
class Reservation:
    """A release with its cost; or, at no further cost, one made from what had been released before."""

    key: ReleaseKey
    charges: tuple[Charge, ...]
    payload: bytes  # exactly what leaves
    sources: tuple[ReleaseKey, ...] = ()  # releases of this ledger that it was made from
    heard: int = 0  # protected payloads of other shops that it was made from

    def __post_init__(self) -> None:
        if len(self.payload) > RELEASE_BYTES_MAX:
            raise RecordInvalid(f"a release of {len(self.payload)} bytes", reason="too_large")
        if len(self.charges) > RELEASE_CHARGES_MAX or len(self.sources) > RELEASE_SOURCES_MAX:
            raise RecordInvalid("a release of too many charges or sources", reason="too_large")
        if len({charge.unit for charge in self.charges}) != len(self.charges):
            raise RecordInvalid("two charges of one unit")
        if not 0 <= self.heard <= INTEGER_MAX:
            raise RecordInvalid(f"a release of {self.heard} payloads")
        if bool(self.charges) == bool(self.sources or self.heard):
            raise RecordInvalid("a release is charged for, or made from others that were")


@dataclass(frozen=True, slots=True)
class FloorRaised:
    """Every week before `week` is over."""

    week: int

    def __post_init__(self) -> None:
        if not 0 <= self.week <= WEEK_MAX:
            raise RecordInvalid(f"floor {self.week} is out of range")


def owner_charges(rho: Fraction) -> tuple[Charge, ...]:
    """The charges of one clipped contribution of an owner to a sum between owners, rho-zCDP for the owner-week.

    Who cannot tell whether the owner took part at all cannot tell it of one receipt either, so the receipts of these
    weeks lose at most as much: they are charged too.
    """
    return Charge(Unit.OWNER_WEEK, rho=rho), Charge(Unit.RECEIPT, rho=rho)


def encode(record: Reservation | FloorRaised) -> bytes:
    """The block of a record."""
    if isinstance(record, FloorRaised):
        return cbor.encode([Kind.FLOOR.value, VERSION, record.week])
    charges = [
        [_UNITS[c.unit], c.epsilon.numerator, c.epsilon.denominator, c.rho.numerator, c.rho.denominator]
        for c in record.charges
    ]
    sources = [_key_cells(source) for source in record.sources]
    body = [_key_cells(record.key), charges, record.payload, sources, record.heard]
    return cbor.encode([Kind.RESERVATION.value, VERSION, *body])


def decode(block: bytes) -> Reservation | FloorRaised:
    """The record in a block. Raises `RemoteError` or `RecordInvalid`."""
    match cbor.decode(block):
        case [int(kind), int(version), int(week)] if (kind, version) == (Kind.FLOOR, VERSION):
            record: Reservation | FloorRaised = FloorRaised(int(week))
        case [int(kind), int(version), key, list(charges), bytes(payload), list(sources), int(heard)] if (
            kind,
            version,
        ) == (Kind.RESERVATION, VERSION):
            found = tuple(_charge(cells) for cells in charges)
            record = Reservation(_key(key), found, payload, tuple(_key(source) for source in sources), int(heard))
        case _:
            raise RecordInvalid("not a block of the privacy ledger", reason="unknown_kind")
    if encode(record) != block:  # a fraction that is not in its lowest terms, or true in place of 1
        raise RecordInvalid("a block of the privacy ledger has one form", reason="malformed")
    return record


def _key_cells(key: ReleaseKey) -> list[object]:
    return [key.network, key.kind, key.category, key.first, key.weeks]


def _key(cells: Any) -> ReleaseKey:
    match cells:
        case [bytes(network), str(kind), str(category), int(first), int(weeks)]:
            return ReleaseKey(network, kind, category, int(first), int(weeks))
    raise RecordInvalid("privacy ledger: a release's key", reason="malformed")


def _charge(cells: Any) -> Charge:
    match cells:
        case [int(unit), int(e), int(e_below), int(r), int(r_below)] if (
            unit in _UNIT_OF and 0 < e_below <= INTEGER_MAX and 0 < r_below <= INTEGER_MAX
        ):
            return Charge(_UNIT_OF[unit], Fraction(e, e_below), Fraction(r, r_below))
    raise RecordInvalid("privacy ledger: a charge", reason="malformed")
