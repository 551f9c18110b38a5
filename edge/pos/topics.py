"""MQTT topics of one shop, and the two names in them: the shop's GLN and the lane.

    pos/v1/{gln}/{lane}/sale      till → box     receipts (`messages`)
    pos/v1/{gln}/{lane}/ack       box → till     retained: what is durable, cumulative per boot epoch (`messages`)
    shelf/v1/{gln}/book           box → tills    retained: manifest of the price book (`book`)
    shelf/v1/{gln}/book/index/{n} box → tills    retained: which items lie on page n of the book
    shelf/v1/{gln}/price/{sku}    box → tills    retained: one item's price; the key is a GTIN-14 or the retailer's SKU

A lane and a SKU are single topic levels: neither may hold '/', '+' or '#'.
"""

import re
from dataclasses import dataclass
from typing import Final

from edge.errors import RecordInvalid
from edge.limits import LABEL_CHARS_MAX

_LANE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_lane(lane: str) -> str:
    """Return `lane` if it can be a topic level, a user name and a file name; raise `RecordInvalid` otherwise."""
    if len(lane) > LABEL_CHARS_MAX or not _LANE.fullmatch(lane):
        raise RecordInvalid(f"lane {lane!r}: 1 to {LABEL_CHARS_MAX} letters, digits, '.', '_' or '-'")
    return lane


def gs1_check_digit(digits: str) -> int:
    """Modulo-10 check digit of a GS1 key whose other digits are `digits` (GS1 General Specifications, 7.9.1)."""
    return -sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits))) % 10


def check_gln(gln: str) -> str:
    """Return `gln` if it is a Global Location Number: 13 digits, the last a check digit; raise `RecordInvalid`."""
    if len(gln) != 13 or not gln.isascii() or not gln.isdigit():
        raise RecordInvalid(f"GLN {gln!r}: 13 digits")
    if gs1_check_digit(gln[:12]) != int(gln[12]):
        raise RecordInvalid(f"GLN {gln}: its check digit should be {gs1_check_digit(gln[:12])}")
    return gln


def gln_of_store(store: int) -> str:
    """A GLN for store number `store` of a demonstration: prefix 29, which GS1 keeps for use inside a company."""
    body = f"29{store:010d}"
    if len(body) != 12:
        raise RecordInvalid(f"store {store}: at most ten digits")
    return body + str(gs1_check_digit(body))


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of the shop `gln`."""

    gln: str

    def __post_init__(self) -> None:
        check_gln(self.gln)

    def sale(self, lane: str) -> str:
        """Where the till of `lane` publishes receipts; `+` for all lanes."""
        return f"pos/v1/{self.gln}/{lane}/sale"

    def ack(self, lane: str) -> str:
        """Where the box tells `lane` what is durable."""
        return f"pos/v1/{self.gln}/{lane}/ack"

    @property
    def book(self) -> str:
        """The manifest of the price book."""
        return f"shelf/v1/{self.gln}/book"

    def index(self, page: int | str) -> str:
        """The items on one page of the price book."""
        return f"shelf/v1/{self.gln}/book/index/{page}"

    def price(self, sku: str) -> str:
        """One item's price; `+` for all items."""
        return f"shelf/v1/{self.gln}/price/{sku}"

    def lane_of(self, topic: str) -> str | None:
        """The lane that `topic` is the sale topic of, or None."""
        parts = topic.split("/")
        if len(parts) == 5 and parts[:3] == ["pos", "v1", self.gln] and parts[4] == "sale":
            return parts[3]
        return None

    def sku_of(self, topic: str) -> str | None:
        """The item that `topic` is the price topic of, or None."""
        prefix = f"shelf/v1/{self.gln}/price/"
        return topic[len(prefix) :] if topic.startswith(prefix) else None

    def page_of(self, topic: str) -> int | None:
        """The page that `topic` is the index topic of, or None."""
        prefix = f"shelf/v1/{self.gln}/book/index/"
        number = topic[len(prefix) :] if topic.startswith(prefix) else ""
        return int(number) if number.isascii() and number.isdigit() and len(number) <= 6 else None
