"""What left this shop, and what it cost: the ledger in plain words, for `pomona budget` and whoever asks."""

from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Final

from edge.privacy.budget import Budget, Spent
from edge.privacy.mechanism import epsilon_of_rho
from edge.privacy.reservation import Reservation
from edge.privacy.rules import YEAR_WEEKS
from edge.records.history import week_start
from edge.records.shared import Unit

_KINDS: Final = {
    "ranges": "price ranges",
    "trends": "trends",
    "insights": "demand estimates",
    "sums": "a masked part of a sum",
}
_UNITS: Final = {Unit.RECEIPT: "any receipt", Unit.OWNER_WEEK: "this owner"}


@dataclass(frozen=True, slots=True)
class Left:
    """One release. `cost` is what each week of it was charged, by unit of protection; empty: nothing more."""

    network: bytes
    kind: str
    category: str  # "" : all categories
    first_week: int
    weeks: int
    cost: tuple[tuple[Unit, Spent], ...]
    bytes_count: int
    made_from: int  # releases and records of others that it was made from

    @property
    def days(self) -> tuple[date, date]:
        """First and last business day that it speaks of."""
        return week_start(self.first_week), week_start(self.first_week + self.weeks) - timedelta(days=1)

    def words(self, network_name: str, delta: Fraction) -> str:
        """One line for a person, e.g. on the box's page. `delta` is what rho is told with."""
        first, last = self.days
        what = f"{_KINDS.get(self.kind, self.kind)} of {self.category or 'all categories'}"
        when = f"{first.isoformat()} to {last.isoformat()}"
        if self.made_from:
            cost = f"made from {self.made_from} earlier releases, at no further cost"
        else:
            cost = "; ".join(_price(unit, spent, delta) for unit, spent in self.cost)
        return f"{what}, {when}, to {network_name}: {self.bytes_count} bytes; {cost}"


@dataclass(frozen=True, slots=True)
class Account:
    """One week's account beside its caps. `year` is that of the 53 weeks that end with this one."""

    unit: Unit
    week: int
    spent: Spent
    cap: Spent
    year: Spent
    year_cap: Spent


def left_this_shop(budget: Budget) -> list[Left]:
    """Every release that the ledger still keeps, by network, kind and week."""
    return [_left(reservation) for reservation in budget.reservations()]


def accounts(budget: Budget, first: int, weeks: int) -> list[Account]:
    """The accounts of `weeks` weeks from `first` on that hold anything, by unit and week."""
    caps = budget.caps
    found = []
    for unit in _UNITS:
        for week in range(first, first + weeks):
            spent = budget.spent(unit, week)
            if spent != Spent():
                found.append(
                    Account(unit, week, spent, caps.week, budget.spent_in_year(unit, week - YEAR_WEEKS + 1), caps.year)
                )
    return found


def _left(reservation: Reservation) -> Left:
    key = reservation.key
    cost = tuple((charge.unit, Spent(charge.epsilon, charge.rho)) for charge in reservation.charges)
    made_from = len(reservation.sources) + reservation.heard
    return Left(key.network, key.kind, key.category, key.first, key.weeks, cost, len(reservation.payload), made_from)


def _price(unit: Unit, spent: Spent, delta: Fraction) -> str:
    """Epsilon is told as what it bounds: by how much anybody's guess about one unit can have got better."""
    parts = []
    if spent.epsilon:
        parts.append(f"epsilon {float(spent.epsilon):g}")
    if spent.rho:
        epsilon = epsilon_of_rho(spent.rho, delta)
        parts.append(f"rho {float(spent.rho):g} (epsilon {epsilon:.2f} at delta {float(delta):g})")
    return f"{' and '.join(parts)} for {_UNITS[unit]} of each of these weeks"
