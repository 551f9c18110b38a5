"""Shoppers of one simulated shop: weeks of demand that react to the shelf, turned into receipts at the tills.

Pure: a generator and prices go in, receipts come out. A twin shop lives through the same weeks at the owner's reference
prices, so that the truth about the policy's profit is known here, and here alone; the box has to estimate it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.records.receipt import MILLI_PER_UNIT, Receipt, ReceiptKind, ReceiptLine, TillPosition
from trainer.sim import market, shop
from trainer.sim.sales import draw_units
from trainer.sim.shop import ShopParams, ShopState

Float = NDArray[np.float64]
DAY_WEIGHTS: Final = (0.11, 0.11, 0.12, 0.13, 0.18, 0.22, 0.13)  # Monday to Sunday: a grocery's week
LINES_MAX: Final = 5
RETURN_SHARE: Final = 0.004  # of receipts that are followed by the return of one of their lines
VOID_SHARE: Final = 0.004  # abandoned before payment
POST_VOID_SHARE: Final = 0.003  # rung twice by mistake, the second one cancelled afterwards
TRAINING_SHARE: Final = 0.003


@dataclass(frozen=True, slots=True)
class WeekTruth:
    """What the week was really worth, in currency units: expectations given the week's shocks, not counted packs."""

    week: int
    gross_profit: float
    gross_profit_twin: float  # the same week at the owner's reference prices
    value: float  # gross profit + basket value − menu costs
    value_twin: float


@dataclass(frozen=True, slots=True)
class Draft:
    """A receipt before a till gave it its position. `undo_of` is the index of the draft that a post-void cancels."""

    lane: int
    kind: ReceiptKind
    lines: tuple[ReceiptLine, ...]
    training: bool = False
    undo_of: int | None = None

    def ring(
        self,
        *,
        lane: str,
        position: TillPosition,
        day: date,
        wall_ms: int,
        currency: str,
        book: int,
        voids: TillPosition | None,
    ) -> Receipt:
        """The receipt that a till makes of this draft."""
        return Receipt(
            lane=lane,
            position=position,
            kind=self.kind,
            business_day=day,
            wall_ms=wall_ms,
            currency=currency,
            lines=self.lines,
            book=book,
            training=self.training,
            voids=voids,
        )


class ShopWorld:
    """One shop (S = 1) and its twin, week by week. Not thread-safe; the same generator gives the same shop for ever."""

    def __init__(self, rng: np.random.Generator, params: ShopParams, skus: Sequence[str], *, minor: int = 100) -> None:
        if params.shops != 1 or params.items != len(skus):
            raise ValueError(f"{params.shops} shops of {params.items} items do not fit {len(skus)} names")
        self._rng = rng
        self._params = params
        self._skus = tuple(skus)
        self._minor = minor
        self._state: ShopState = shop.reset(rng, params)
        self._twin: ShopState = self._state

    @property
    def week(self) -> int:
        """Number of the coming week, from 0."""
        return self._state.market.week

    def offer(self) -> market.Offer:
        """What the owner knows before the coming week: costs, approved references, promotions."""
        return market.offer(self._state.market, self._params.market)

    def reference_minor(self) -> NDArray[np.int64]:
        """The owner's approved prices of the coming week in minor units, promotions included, (n,)."""
        return self._in_minor(self.offer().log_reference)

    def regular_minor(self) -> NDArray[np.int64]:
        """The same without promotions, (n,)."""
        return self._in_minor(self.offer().log_regular)

    def cost_e4(self) -> NDArray[np.int64]:
        """Acquisition costs of the coming week in 1/10,000 of a currency unit, (n,)."""
        return _whole(self._params.cost[0] * np.exp(self.offer().log_cost[0]) * 10_000)

    def live_week(self, price_minor: NDArray[np.int64]) -> tuple[NDArray[np.int64], WeekTruth]:
        """Sell a week at shelf prices `price_minor` (n,): packs sold per day (7, n), and the truth about the week."""
        week = self.week
        shocks = market.draw_shocks(self._rng, self._params.market, self._params.items)
        log_price = np.log(price_minor / self._minor / self._params.price)
        twin_price = np.log(self.reference_minor() / self._minor / self._params.price)
        self._state, outcome = shop.respond(self._state, shocks, log_price, self._params)
        self._twin, twin = shop.respond(self._twin, shocks, twin_price, self._params)
        expected = np.outer(DAY_WEIGHTS, outcome.units[0])
        truth = WeekTruth(
            week=week,
            gross_profit=float(outcome.gross_profit[0]),
            gross_profit_twin=float(twin.gross_profit[0]),
            value=float(outcome.value[0]),
            value_twin=float(twin.value[0]),
        )
        return draw_units(self._rng, expected), truth

    def _in_minor(self, log_price: Float) -> NDArray[np.int64]:
        return np.maximum(_whole(self._params.price[0] * np.exp(log_price[0]) * self._minor), 1)

    def baskets(self, units: NDArray[np.int64], price_minor: NDArray[np.int64], lanes: int) -> list[Draft]:
        """A day's packs (n,) as drafts of receipts of 1 to 5 lines, in the order they are rung.

        The sum of what counts equals `units` exactly: what is returned, cancelled or practised was rung in addition.
        """
        pool = np.repeat(np.arange(len(self._skus)), units)
        self._rng.shuffle(pool)
        drafts: list[Draft] = []
        start = 0
        while start < len(pool):
            size = int(self._rng.integers(1, LINES_MAX + 1))
            lane = int(self._rng.integers(lanes))
            lines = self._lines(pool[start : start + size], price_minor)
            drafts.append(Draft(lane, ReceiptKind.SALE, lines))
            drafts.extend(self._mishaps(len(drafts) - 1, drafts[-1]))
            start += size
        return drafts

    def _lines(self, picked: NDArray[np.int64], price_minor: NDArray[np.int64]) -> tuple[ReceiptLine, ...]:
        lines = []
        for item, packs in zip(*np.unique(picked, return_counts=True), strict=True):
            price = int(price_minor[item])
            lines.append(ReceiptLine(self._skus[item], int(packs) * MILLI_PER_UNIT, price, price * int(packs)))
        return tuple(lines)

    def _mishaps(self, index: int, sale: Draft) -> list[Draft]:
        """What now and then follows a sale. Each leaves the day's net sales as they were."""
        luck = float(self._rng.random())
        if luck < RETURN_SHARE:
            line = sale.lines[0]
            back = ReceiptLine(line.sku, -line.quantity_milli, line.unit_minor, -line.amount_minor)
            return [Draft(sale.lane, ReceiptKind.RETURN, (back,)), Draft(sale.lane, ReceiptKind.SALE, (line,))]
        luck -= RETURN_SHARE
        if luck < VOID_SHARE:
            return [Draft(sale.lane, ReceiptKind.VOID, sale.lines)]
        luck -= VOID_SHARE
        if luck < POST_VOID_SHARE:
            twice = Draft(sale.lane, ReceiptKind.SALE, sale.lines)
            return [twice, Draft(sale.lane, ReceiptKind.POST_VOID, (), undo_of=index + 1)]
        luck -= POST_VOID_SHARE
        if luck < TRAINING_SHARE:
            return [Draft(sale.lane, ReceiptKind.SALE, sale.lines, training=True)]
        return []


def week_days(first_monday: date, week: int) -> list[date]:
    """The seven business days of week number `week` of a simulation that starts on `first_monday`."""
    return [first_monday + timedelta(days=7 * week + day) for day in range(7)]


def _whole(amounts: Float) -> NDArray[np.int64]:
    return np.asarray(np.rint(amounts), dtype=np.int64)
