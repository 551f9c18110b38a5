"""The ledger of what privacy was spent: reserve, make durable, release. Nothing noised leaves before it is on the disk.

    Budget          pure: accounts and reservations, fed by blocks; refuses what would be too much
    BudgetLedger    the shell: draws the noise, appends the block, and only then hands the bytes out

Accounts. One for each unit of protection and week, over all networks and kinds. A release about a window is charged to
each of its weeks in full: what a receipt of that week loses is the sum over the releases that it counts in (sequential
composition). An account has two columns that are never mixed: epsilon of pure noise, and rho of Gaussian noise (zCDP);
together they are (epsilon + epsilon_of_rho(rho, delta), delta)-DP. Beside the cap of a week stands one of a year: any
53 weeks in a row, added up: what somebody with one receipt in every week loses.

Weeks are those of the *data* (business weeks), never of a clock: an account that is spent stays spent, whatever the
clock says later. Only windows that end at or before the `floor` can be released; it is durable and never falls.

A reservation holds the very bytes that leave. To ask again for the same key gives them again and costs nothing; a new
draw for the same figures would give away, by averaging, what the noise hides. Two windows of one network, kind and
category that overlap without being equal are refused. After `RELEASES_KEPT_WEEKS` the bytes are forgotten here, and
nothing is released about those weeks any more.

Blocks (FORMATS.md, "Privacy ledger") are replayed in order after a restart. A block whose writing failed may be durable
all the same, so it counts as spent at once, and asking again writes the same block again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from edge.errors import LocalError
from edge.limits import RELEASES_KEPT_WEEKS
from edge.privacy.reservation import Charge, FloorRaised, ReleaseKey, Reservation, decode, encode
from edge.privacy.rules import MILLI, YEAR_WEEKS, PrivacyRefused, PrivacyRules
from edge.records.shared import Unit

Append = Callable[[bytes], Awaitable[None]]  # returns once the block is durable


@dataclass(frozen=True, slots=True)
class Spent:
    """What an account holds, or may hold: pure epsilon, and rho of zCDP."""

    epsilon: Fraction = Fraction(0)
    rho: Fraction = Fraction(0)

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.epsilon + other.epsilon, self.rho + other.rho)

    def exceeds(self, cap: "Spent") -> bool:
        """Whether either column is above the cap's."""
        return self.epsilon > cap.epsilon or self.rho > cap.rho


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that one week's account, and any 53 weeks' accounts together, may hold; for every unit alike."""

    week: Spent
    year: Spent


def caps_of(rules: Iterable[PrivacyRules]) -> Caps:
    """The strictest caps of all rules that a box is under. Raises `LocalError` where there are none."""
    found = list(rules)
    if not found:
        raise LocalError("caps of no rules")
    columns = ("epsilon_week_milli", "rho_week_milli", "epsilon_year_milli", "rho_year_milli")
    week_epsilon, week_rho, year_epsilon, year_rho = (
        Fraction(min(getattr(rule, name) for rule in found), MILLI) for name in columns
    )
    return Caps(Spent(week_epsilon, week_rho), Spent(year_epsilon, year_rho))


class Budget:
    """The accounts and the reservations, as the blocks so far say. Pure: no disk, no clock, no randomness."""

    def __init__(self, caps: Caps) -> None:
        self.caps = caps
        self.floor = 0
        self._accounts: dict[tuple[Unit, int], Spent] = {}
        self._reservations: dict[ReleaseKey, Reservation] = {}
        self._held: dict[ReleaseKey, Reservation] = {}  # charged, and perhaps durable: their writing failed

    # --- what is --------------------------------------------------------------------------------------------------

    def reservation(self, key: ReleaseKey) -> Reservation | None:
        """The durable reservation of `key`, if there is one whose bytes are still kept."""
        return self._reservations.get(key)

    def held(self, key: ReleaseKey) -> Reservation | None:
        """The reservation of `key` whose writing failed, if there is one: to be written again, as it is."""
        return self._held.get(key)

    def reservations(self) -> Iterator[Reservation]:
        """All durable reservations that are kept, by key."""
        for key in sorted(self._reservations):
            yield self._reservations[key]

    def spent(self, unit: Unit, week: int) -> Spent:
        """What the account of `week` holds."""
        return self._accounts.get((unit, week), Spent())

    def spent_in_year(self, unit: Unit, first: int) -> Spent:
        """What the accounts of the 53 weeks from `first` on hold together."""
        return sum((self.spent(unit, week) for week in range(first, first + YEAR_WEEKS)), Spent())

    # --- what may be ----------------------------------------------------------------------------------------------

    def check(self, key: ReleaseKey, charges: tuple[Charge, ...], sources: tuple[ReleaseKey, ...] = ()) -> None:
        """Raise `PrivacyRefused` unless a new reservation of `key` at this cost is allowed.

        Reasons: `not_closed`, `too_old`, `reserved` (this key has bytes already), `overlap`, `source` (it is made from
        a release that is not durable here), `week_spent`, `year_spent`.
        """
        if key.end > self.floor:
            raise PrivacyRefused(f"week {key.end - 1} is not over; the floor is {self.floor}", reason="not_closed")
        if key.end <= self.floor - RELEASES_KEPT_WEEKS:
            raise PrivacyRefused(
                f"week {key.end - 1} is too long ago: what was released is forgotten", reason="too_old"
            )
        for other in (*self._reservations, *self._held):
            if other.series == key.series and other.first < key.end and key.first < other.end:
                reason = "reserved" if other == key else "overlap"
                raise PrivacyRefused(f"weeks {other.first} to {other.end - 1} have been released", reason=reason)
        for source in sources:
            if source not in self._reservations:
                raise PrivacyRefused(f"made from {source.kind} of week {source.end - 1}, unreleased", reason="source")
        for charge in charges:
            self._check_charge(key, charge)

    def _check_charge(self, key: ReleaseKey, charge: Charge) -> None:
        cost = Spent(charge.epsilon, charge.rho)
        reach = range(key.first - YEAR_WEEKS + 1, key.end + YEAR_WEEKS - 1)  # weeks of a year with one of the window
        after = {week: self._accounts[charge.unit, week] for week in reach if (charge.unit, week) in self._accounts}
        for week in range(key.first, key.end):
            after[week] = after.get(week, Spent()) + cost
            if after[week].exceeds(self.caps.week):
                raise PrivacyRefused(f"the budget of week {week} is spent ({charge.unit})", reason="week_spent")
        if not sum(after.values(), Spent()).exceeds(self.caps.year):
            return  # nor does any year within
        for first in range(reach.start, key.end):
            year = range(first, first + YEAR_WEEKS)
            if sum((after[week] for week in year if week in after), Spent()).exceeds(self.caps.year):
                weeks = f"weeks {first} to {year[-1]}"
                raise PrivacyRefused(f"the yearly budget of {weeks} is spent ({charge.unit})", reason="year_spent")

    # --- what happens ---------------------------------------------------------------------------------------------

    def hold(self, reservation: Reservation) -> None:
        """Charge a reservation that `check` allowed and that is about to be written."""
        self._held[reservation.key] = reservation
        self._charge(reservation)

    def apply(self, block: bytes) -> None:
        """Take a durable block. The same block twice is one; raises `RecordInvalid` for what no `encode` writes, and
        `LocalError` where a key has two contents: then bytes may have left that this ledger does not know.
        """
        record = decode(block)
        if isinstance(record, FloorRaised):
            self.floor = max(self.floor, record.week)
            self._forget()
            return
        known = self._reservations.get(record.key) or self._held.pop(record.key, None)
        if known is None:
            self._charge(record)
        elif known != record:
            raise LocalError(f"the privacy ledger has two contents for {record.key}")
        self._reservations[record.key] = record

    def _charge(self, reservation: Reservation) -> None:
        for charge in reservation.charges:
            for week in range(reservation.key.first, reservation.key.end):
                account = (charge.unit, week)
                self._accounts[account] = self.spent(*account) + Spent(charge.epsilon, charge.rho)

    def _forget(self) -> None:
        """Drop what is so old that nothing can be asked about it."""
        for key in [key for key in self._reservations if key.end <= self.floor - RELEASES_KEPT_WEEKS]:
            del self._reservations[key]
        oldest = (
            self.floor - RELEASES_KEPT_WEEKS - 2 * YEAR_WEEKS
        )  # what a year around a week that can be asked about needs
        for account in [account for account in self._accounts if account[1] < oldest]:
            del self._accounts[account]


class BudgetLedger:
    """A `Budget` on a log. `append` makes one block durable; `blocks`, on opening, are those written so far."""

    def __init__(self, budget: Budget, append: Append) -> None:
        self.budget = budget
        self._append = append
        self._turn = asyncio.Lock()  # one reservation at a time: two must not both fit into what is left for one

    @classmethod
    def opened(cls, caps: Caps, blocks: Iterable[bytes], append: Append) -> "BudgetLedger":
        """The ledger after a restart. Raises what `Budget.apply` raises: an unreadable ledger lets nothing leave."""
        budget = Budget(caps)
        for block in blocks:
            budget.apply(block)
        return cls(budget, append)

    async def raise_floor(self, week: int) -> None:
        """Every week before `week` is over. Durable first; a lower one (a clock set back) changes nothing."""
        async with self._turn:
            if week > self.budget.floor:
                block = encode(FloorRaised(week))
                await self._append(block)
                self.budget.apply(block)

    async def release(
        self,
        key: ReleaseKey,
        charges: tuple[Charge, ...],
        draw: Callable[[], bytes],
        sources: tuple[ReleaseKey, ...] = (),
        heard: int = 0,
    ) -> Reservation:
        """The reservation of `key`, durable: the one there is, or a new one with the bytes that `draw` noises.

        `draw` is called at most once, after the budget has room. Raises `PrivacyRefused`, and what `append` raises:
        then nothing may leave, the budget counts as spent, and another call writes the same bytes again.
        """
        async with self._turn:
            known = self.budget.reservation(key)
            if known is not None:
                return known
            reservation = self.budget.held(key)
            if reservation is None:
                self.budget.check(key, charges, sources)
                reservation = Reservation(key, charges, draw(), sources, heard)
                self.budget.hold(reservation)
            block = encode(reservation)
            await self._append(block)
            self.budget.apply(block)
            return reservation
