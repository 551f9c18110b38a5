"""An item of the shop and what its owner has decided about it: reference price, cost, limits, promotions."""

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

from edge.errors import RecordInvalid
from edge.limits import COST_E4_MAX, LABEL_CHARS_MAX, NAME_CHARS_MAX, PRICE_MINOR_MAX

_SKU: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_sku(sku: str) -> str:
    """Return `sku` if it is a GTIN-14 or a retailer's own key; raise `RecordInvalid` otherwise.

    Letters, digits, dot, underscore and hyphen: safe in a topic, a file name and a CSV cell alike.
    """
    if len(sku) > LABEL_CHARS_MAX or not _SKU.fullmatch(sku):
        raise RecordInvalid(f"sku {sku!r}: 1 to {LABEL_CHARS_MAX} letters, digits, '.', '_' or '-'")
    return sku


@dataclass(frozen=True, slots=True)
class Promotion:
    """A dated reference price set by the owner: in force from `start` to `end`, both included, business days."""

    start: date
    end: date
    price_minor: int
    featured: bool = False  # advertised outside the shop

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise RecordInvalid(f"promotion ends ({self.end}) before it starts ({self.start})")
        _check_range("promotion price_minor", self.price_minor, 1, PRICE_MINOR_MAX)


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the shop's item file. Prices are integers of the currency's minor unit.

    `floor_minor` and `ceiling_minor` are the owner's own limits (None: none set). `ladder` names a family of sizes of
    one product; within it a larger `size` must not cost less than a smaller one, nor more per unit of size.
    """

    sku: str
    name: str
    category: str
    reference_minor: int
    cost_e4: int  # 1/10,000 of a currency unit, per sold unit
    floor_minor: int | None = None
    ceiling_minor: int | None = None
    ladder: str | None = None
    size: float | None = None  # in the ladder's own unit (ounces, grams, pieces)
    weighed: bool = False  # sold by the kilogram: prices are per kilogram
    promotions: tuple[Promotion, ...] = ()

    def __post_init__(self) -> None:
        check_sku(self.sku)
        if not self.name or len(self.name) > NAME_CHARS_MAX:
            raise RecordInvalid(f"item {self.sku}: name must have 1 to {NAME_CHARS_MAX} characters")
        if not self.category or len(self.category) > LABEL_CHARS_MAX:
            raise RecordInvalid(f"item {self.sku}: category must have 1 to {LABEL_CHARS_MAX} characters")
        _check_range(f"item {self.sku}: reference_minor", self.reference_minor, 1, PRICE_MINOR_MAX)
        _check_range(f"item {self.sku}: cost_e4", self.cost_e4, 0, COST_E4_MAX)
        if self.floor_minor is not None:
            _check_range(f"item {self.sku}: floor_minor", self.floor_minor, 1, PRICE_MINOR_MAX)
        if self.ceiling_minor is not None:
            _check_range(f"item {self.sku}: ceiling_minor", self.ceiling_minor, 1, PRICE_MINOR_MAX)
        if self.floor_minor is not None and self.ceiling_minor is not None and self.floor_minor > self.ceiling_minor:
            raise RecordInvalid(f"item {self.sku}: floor {self.floor_minor} is above ceiling {self.ceiling_minor}")
        if (self.ladder is None) != (self.size is None):
            raise RecordInvalid(f"item {self.sku}: ladder and size go together")
        if self.size is not None and not 0 < self.size < 1e9:
            raise RecordInvalid(f"item {self.sku}: size {self.size} must be positive")

    def promotion_on(self, day: date) -> Promotion | None:
        """The promotion in force on business day `day`; the first listed wins where several overlap."""
        return next((p for p in self.promotions if p.start <= day <= p.end), None)

    def reference_on(self, day: date) -> int:
        """The approved reference price on `day` in minor units: a promotion's price, or the regular one."""
        promotion = self.promotion_on(day)
        return self.reference_minor if promotion is None else promotion.price_minor


def _check_range(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise RecordInvalid(f"{what}: {value} is outside {low}..{high}")
