"""The layers in their order, for one network: from receipts to something that the outgoing gate will take.

    private       identifiers off (`clear`); encryption is the feed's            -> Cleared
    consortium    identifiers off, added up, noise, encryption is the feed's      -> Released, charged to the ledger
    public        identifiers off; made from what was released before (`derive`)  -> Released, at no further epsilon

A shop releases figures of its own receipts only where all members have one owner: between owners the unit of
protection is the owner-week, and one shop's figures would show it; there, only sums without a centre leave
(`edge.privacy.secure_sum`). `Released` and `Cleared` are what the outgoing gate demands by type.

One release of a window speaks of all categories at once, and is charged once: a receipt's lines are spread over the
cells, and the noise is measured by all of them together (`edge.privacy.histogram`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from edge.errors import LocalError
from edge.limits import PRICE_MINOR_MAX, RELEASE_CELLS_MAX, RELEASES_KEPT_WEEKS, SHARED_ROWS_MAX
from edge.privacy import histogram, identifiers
from edge.privacy.aggregate import Accumulator, Window, window_of
from edge.privacy.budget import BudgetLedger
from edge.privacy.histogram import E4, Figures, Ladder
from edge.privacy.identifiers import Cell, PublicList
from edge.privacy.mechanism import RandomBits
from edge.privacy.released import Cleared, Protected, Released, cleared, durable, encode_payload, released
from edge.privacy.reservation import ALL, SUMS, Charge, ReleaseKey
from edge.privacy.rules import LAWFUL_LAG_WEEKS, LAWFUL_OWNERS, MILLI, PrivacyRefused, PrivacyRules
from edge.records.market import PriceRange
from edge.records.message import Network
from edge.records.receipt import Receipt
from edge.records.shared import (
    Payload,
    Protection,
    RangeRow,
    RangeUpdate,
    TrendUpdate,
    Unit,
    week_behind,
)
from edge.records.shared_codec import word_of

RANGES: Final = word_of(RangeUpdate)
_SPENT: Final = ("week_spent", "year_spent", "too_old", "overlap")  # no later try will succeed


@dataclass(frozen=True, slots=True)
class Terms:
    """What the roster of a network says: its id and kind, how many owners and shops, and the rules in force here."""

    network: bytes
    kind: Network
    owners: int
    shops: int
    rules: PrivacyRules


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """A window that is due: over, and as old as the rules want it."""

    key: ReleaseKey
    floor: int


class Anonymiser:
    """One network's way out. Receipts come in one by one; what is due is noised, reserved and handed out.

    `start_week` is the first week that may be shared at all. Nothing here reads a clock: `week_floor` is the number of
    the first week that is not over yet, by business days.
    """

    def __init__(
        self, terms: Terms, listed: PublicList, ledger: BudgetLedger, random_bits: RandomBits, start_week: int
    ) -> None:
        rules = terms.rules
        self.terms = terms
        self._listed = listed
        self._ledger = ledger
        self._random_bits = random_bits
        self._ladder = Ladder(rules.ladder_percent, rules.ladder_rungs)
        start = window_of(start_week + rules.window_weeks - 1, rules.window_weeks).first
        self.accumulator = Accumulator(
            self._ladder, rules.window_weeks, rules.receipt_cells_max, RELEASES_KEPT_WEEKS, start
        )

    def set_terms(self, terms: Terms) -> None:
        """The roster changed. Windows, cells and ladder of a network do not: raises `LocalError`, make another one."""
        for name in ("window_weeks", "receipt_cells_max", "ladder_percent", "ladder_rungs"):
            if getattr(terms.rules, name) != getattr(self.terms.rules, name):
                raise LocalError(f"{name} changed under an open anonymiser")
        if (terms.network, terms.kind) != (self.terms.network, self.terms.kind):
            raise LocalError("an anonymiser serves one network")
        self.terms = terms

    def set_list(self, listed: PublicList) -> None:
        """Items or list prices changed; figures of an open window keep the ratios that they were counted with."""
        self._listed = listed

    # --- layers 1 and 2: in ---------------------------------------------------------------------------------------

    def add(self, position: int, receipt: Receipt) -> bool:
        """Count the receipt at `position` of the ledger of receipts; False where it changes nothing."""
        found = identifiers.contribution(receipt, self._listed, self.terms.rules.item_level)
        return found is not None and self.accumulator.add(position, found)

    def cancel(self, position: int, receipt: Receipt, original: int) -> bool:
        """The record at `position` cancels `receipt`, which stands at `original`."""
        found = identifiers.contribution(receipt, self._listed, self.terms.rules.item_level)
        return found is not None and self.accumulator.cancel(position, found, original)

    def clear(self, payload: Payload) -> Cleared:
        """A payload of a private network. Raises `PrivacyRefused`: `network` in any other."""
        if self.terms.kind is not Network.PRIVATE:
            raise PrivacyRefused(f"nothing enters a {self.terms.kind} network without noise", reason="network")
        return cleared(self.terms.network, payload, self._listed)

    # --- layer 3: out ---------------------------------------------------------------------------------------------

    def due(self, week_floor: int) -> list[ReleaseRequest]:
        """Windows to release now, oldest first; none where this network takes no figures of single shops."""
        rules, floor = self.terms.rules, max(week_floor, self._ledger.budget.floor)
        if self._refusal() is not None:
            return []
        oldest = max(self.accumulator.closed, floor - RELEASES_KEPT_WEEKS)
        window = window_of(oldest + rules.window_weeks - 1, rules.window_weeks)
        found = []
        while window.end + rules.lag_weeks <= floor:
            key = self.key(window)
            if self._ledger.budget.reservation(key) is None:
                found.append(ReleaseRequest(key, floor))
            window = Window(window.end, window.weeks)
        return found

    def key(self, window: Window) -> ReleaseKey:
        """The key of the release of a window's ranges, all categories in one."""
        return ReleaseKey(self.terms.network, RANGES, ALL, window.first, window.weeks)

    async def release(self, request: ReleaseRequest) -> Released:
        """Noise the window, reserve it, and hand it out once that is durable; the same bytes when asked again.

        Raises `PrivacyRefused`: `network`, `owners`, `shops`, `lag`, `cells`, and what the budget refuses; and
        `StorageError` from the ledger, after which nothing has left.
        """
        key, rules = request.key, self.terms.rules
        known = released(self._ledger, key)
        if known is not None:
            self.accumulator.close(key.end)
            return known
        refusal = self._refusal()
        if refusal is not None:
            raise refusal
        await self._ledger.raise_floor(request.floor)
        window = Window(key.first, key.weeks)
        if key != self.key(window) or window != window_of(key.first, rules.window_weeks):
            raise PrivacyRefused("not a window of this network", reason="window")
        if key.end + rules.lag_weeks > self._ledger.budget.floor:
            raise PrivacyRefused(f"{rules.lag_weeks} weeks must pass first", reason="lag")
        if window.first < self.accumulator.closed:
            raise PrivacyRefused("the figures of this window have been given up", reason="too_old")
        charges = (Charge(Unit.RECEIPT, epsilon=rules.epsilon),)
        try:
            await self._ledger.release(key, charges, lambda: self._noised(window))
        except PrivacyRefused as error:
            if error.reason in _SPENT:
                self.accumulator.close(window.end)
            raise
        self.accumulator.close(window.end)
        return durable(self._ledger, key)

    async def derive(
        self,
        kind: type[Protected],
        category: str,
        window: Window,
        *,
        own: Sequence[Released],
        heard: Sequence[Protected],
        make: Callable[[Sequence[Protected], Sequence[tuple[Cell, int]]], Protected],
    ) -> Released:
        """A record made from what has been released: `own` of this shop, `heard` from other shops. No further epsilon.

        `make` is handed those records and noised counts, and nothing else. Raises `PrivacyRefused`: `network` in a
        private network or for a kind that this one does not take, `source` for a heard record that is not protected,
        `single` where the public would see one shop, `owners` where rivals would see less than a sum of owners, `lag`,
        `identifier`, `unlisted` or `item` as `identifiers.clear` says.
        """
        rules = self.terms.rules
        public = self.terms.kind is Network.PUBLIC
        if self.terms.kind is Network.PRIVATE or (public and kind is not TrendUpdate):
            raise PrivacyRefused(f"no {kind.__name__} is made for a {self.terms.kind} network", reason="network")
        if any(record.protection.unit is Unit.NONE for record in heard):
            raise PrivacyRefused("made from a record that nothing protects", reason="source")
        key = ReleaseKey(self.terms.network, word_of(kind), category, window.first, window.weeks)

        def draw() -> bytes:
            records = [record for token in own for record in token.records] + list(heard)
            made = make(records, [count for token in own for count in token.receipts])
            if type(made) is not kind or made.category != category or week_behind(made) != window.end - 1:
                raise LocalError("the derived record is not the one that was asked for")
            if made.protection.unit is Unit.NONE:
                raise PrivacyRefused("a derived record says what protects its sources", reason="source")
            if public and made.protection.shops < max(rules.shops_min, 2):
                raise PrivacyRefused(f"{made.protection.shops} shops behind a public trend", reason="single")
            if self.terms.owners > 1:
                self._check_owners(made.protection)
            return encode_payload([identifiers.clear(made, self._listed, rules.item_level)], ())

        lag = rules.lag_weeks if self.terms.owners < 2 else max(rules.lag_weeks, LAWFUL_LAG_WEEKS)
        if window.end + lag > self._ledger.budget.floor:
            raise PrivacyRefused(f"{lag} weeks must pass first", reason="lag")
        sources = tuple(sorted(token.reservation.key for token in own))
        await self._ledger.release(key, (), draw, sources, len(heard))
        return durable(self._ledger, key)

    def releases(self) -> list[Released]:
        """Everything of this network that the ledger still keeps, by key: to send again what may not have arrived.

        Masked parts of sums are not among them: they are no messages (`edge.memory.sums`).
        """
        keys = [found.key for found in self._ledger.budget.reservations() if found.key.network == self.terms.network]
        return [durable(self._ledger, key) for key in keys if key.kind != SUMS]

    def _check_owners(self, protection: Protection) -> None:
        """Between owners: made of sums that hide each owner, and of enough of them."""
        least = max(self.terms.rules.owners_min, LAWFUL_OWNERS)
        if protection.unit is not Unit.OWNER_WEEK or protection.owners < least:
            raise PrivacyRefused(
                f"{protection.owners} owners behind it, protected by {protection.unit}; between owners it takes "
                f"{least}, protected by {Unit.OWNER_WEEK}",
                reason="owners",
            )

    def _refusal(self) -> PrivacyRefused | None:
        terms = self.terms
        if terms.kind is not Network.CONSORTIUM:
            return PrivacyRefused(f"a {terms.kind} network takes no noised figures of a shop", reason="network")
        if terms.owners != 1:
            return PrivacyRefused("between owners only sums leave, never a shop's figures", reason="owners")
        if terms.shops < terms.rules.shops_min:
            return PrivacyRefused(f"{terms.shops} shops; at least {terms.rules.shops_min}", reason="shops")
        return None

    def _noised(self, window: Window) -> bytes:
        """Layers 2 and 3 of one window: which cells there are comes from the public list, never from what sold."""
        rules = self.terms.rules
        cells = self._listed.cells(rules.item_level)
        if len(cells) > RELEASE_CELLS_MAX:
            raise PrivacyRefused(f"{len(cells)} cells; at most {RELEASE_CELLS_MAX}", reason="cells")
        scale = histogram.scales(rules.epsilon, rules.receipt_cells_max, self._ladder.clip_milli)
        counts: list[tuple[Cell, int]] = []
        rows: dict[str, list[tuple[RangeRow, float]]] = {}
        for cell, list_minor in cells.items():
            noised = histogram.add_noise(self.accumulator.sums(window, cell), scale, self._random_bits)
            counts.append((cell, histogram.total(noised)))
            found = histogram.figures(noised, self._ladder, scale, rules.receipts_min, rules.central_percent)
            if found is not None:
                rows.setdefault(cell.category, []).append(
                    (_row(cell, list_minor, found), found.deviation_milli / MILLI)
                )
        records = [
            RangeUpdate(
                category,
                window.end - 1,
                window.weeks,
                self._listed.currency,
                tuple(row for row, _ in part),
                self._protection(max(deviation for _, deviation in part)),
            )
            for category, found_rows in rows.items()
            for part in (found_rows[at : at + SHARED_ROWS_MAX] for at in range(0, len(found_rows), SHARED_ROWS_MAX))
        ]
        passed = [identifiers.clear(record, self._listed, rules.item_level) for record in records]
        return encode_payload(passed, counts)

    def _protection(self, deviation: float) -> Protection:
        return Protection(Unit.RECEIPT, self.terms.rules.epsilon_milli * 1000, 0, deviation)


def _row(cell: Cell, list_minor: int, found: Figures) -> RangeRow:
    """Figures in the record's own units: minor units for the range, log units for the rest."""
    low = list_minor * found.low_e4 // E4
    high = min(-(-list_minor * found.high_e4 // E4), PRICE_MINOR_MAX)
    return RangeRow(cell.sku, PriceRange(low, high), found.log_mean_milli / MILLI, found.log_spread_milli / MILLI)
