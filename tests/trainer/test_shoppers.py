"""Simulated shoppers: exact sums, reproducible weeks, a twin that shares every shock."""

from datetime import date

import numpy as np
import pytest

from edge.records.receipt import MILLI_PER_UNIT, ReceiptKind, TillPosition
from trainer.shoppers import LINES_MAX, Draft, ShopWorld, week_days
from trainer.sim.randomise import STOCKPILING, draw_shops

SKUS = tuple(f"sku-{i}" for i in range(11))


def world(seed: int = 1) -> ShopWorld:
    rng = np.random.default_rng(seed)
    return ShopWorld(rng, draw_shops(rng, STOCKPILING, 1), SKUS)


def net_units(drafts: list[Draft]) -> dict[str, int]:
    """What counts, from the drafts alone: sales and returns, less what a post-void cancels."""
    cancelled = {draft.undo_of for draft in drafts if draft.kind is ReceiptKind.POST_VOID}
    total = dict.fromkeys(SKUS, 0)
    for index, draft in enumerate(drafts):
        if draft.training or index in cancelled or draft.kind not in (ReceiptKind.SALE, ReceiptKind.RETURN):
            continue
        for line in draft.lines:
            total[line.sku] += line.quantity_milli
    return total


def test_receipts_sum_exactly_to_the_packs_sold_whatever_goes_wrong_at_the_till() -> None:
    shop = world()
    seen: set[ReceiptKind] = set()
    for _ in range(6):
        price = shop.reference_minor()
        days, _truth = shop.live_week(price)
        for units in days:
            drafts = shop.baskets(units, price, lanes=3)
            assert net_units(drafts) == {sku: int(n) * MILLI_PER_UNIT for sku, n in zip(SKUS, units, strict=True)}
            assert all(len(draft.lines) <= LINES_MAX for draft in drafts)
            seen |= {draft.kind for draft in drafts}
    assert seen >= {ReceiptKind.SALE, ReceiptKind.RETURN, ReceiptKind.VOID, ReceiptKind.POST_VOID}


def test_the_same_seed_lives_the_same_weeks() -> None:
    first, second = world(7), world(7)
    for _ in range(3):
        days_a, truth_a = first.live_week(first.reference_minor())
        days_b, truth_b = second.live_week(second.reference_minor())
        assert truth_a == truth_b
        assert np.array_equal(days_a, days_b)


def test_at_the_owners_prices_the_twin_earns_the_same_and_a_higher_price_sells_less() -> None:
    shop, dear = world(3), world(3)
    days, truth = shop.live_week(shop.reference_minor())
    assert truth.gross_profit == pytest.approx(truth.gross_profit_twin)
    dear_days, dear_truth = dear.live_week(np.rint(dear.reference_minor() * 1.2).astype(np.int64))
    assert dear_days.sum() < days.sum()
    assert dear_truth.gross_profit_twin == pytest.approx(truth.gross_profit_twin)


def test_a_draft_becomes_a_receipt_and_names_do_fit() -> None:
    shop = world()
    draft = shop.baskets(np.eye(11, dtype=np.int64)[0] * 3, shop.reference_minor(), lanes=1)[0]
    receipt = draft.ring(
        lane="1",
        position=TillPosition(1, 5),
        day=date(2026, 1, 5),
        wall_ms=0,
        currency="USD",
        book=3,
        voids=None,
    )
    assert receipt.lines == draft.lines
    assert receipt.book == 3
    with pytest.raises(ValueError, match="do not fit"):
        ShopWorld(np.random.default_rng(0), draw_shops(np.random.default_rng(0), STOCKPILING, 1), SKUS[:4])


def test_a_week_has_seven_days_from_its_monday() -> None:
    days = week_days(date(2026, 1, 5), 2)
    assert [day.weekday() for day in days] == list(range(7))
    assert days[0] == date(2026, 1, 19)
