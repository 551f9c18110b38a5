"""One sale's way: log, local, anonymise, sync; with a failure at each step, and read again after a crash."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_memory import MONDAY, fed, line, memory_over, post_void, receipt, rows_of

from edge.errors import LocalError, RecordInvalid, StorageError, StorageFault
from edge.memory.price_memory import P2PPriceMemory
from edge.records.receipt import Receipt


class Ledger:
    def __init__(self, steps: list[str]) -> None:
        self.records: list[Receipt] = []
        self.full = False
        self._steps = steps

    async def append(self, given: Receipt) -> int:
        if self.full:
            raise StorageError("full", fault=StorageFault.FULL)
        self.records.append(given)
        self._steps.append("log")
        return len(self.records) - 1


class Sums:
    """Adds up amounts; takes no position twice and takes nothing back twice, as the anonymiser's accumulator does."""

    def __init__(self, steps: list[str]) -> None:
        self.total = 0
        self.refuse = False
        self._at = -1
        self._taken_back: set[int] = set()
        self._steps = steps

    def add(self, position: int, receipt: Receipt) -> bool:
        return self._count(position, receipt, 1)

    def cancel(self, position: int, receipt: Receipt, original: int) -> bool:
        if original >= position:
            raise LocalError("cancels what comes later")
        if original in self._taken_back:
            return False
        self._taken_back.add(original)
        return self._count(position, receipt, -1)

    def _count(self, position: int, receipt: Receipt, sign: int) -> bool:
        if self.refuse:
            raise RecordInvalid("not listed", reason="unlisted")
        if position <= self._at:
            return False
        self._at = position
        self.total += sign * sum(each.amount_minor for each in receipt.lines)
        self._steps.append("anonymise")
        return True


class Wire:
    def __init__(self, steps: list[str]) -> None:
        self._steps = steps

    def wake(self) -> None:
        self._steps.append("sync")


class Shop:
    def __init__(self, records: Sequence[Receipt] = ()) -> None:
        self.steps: list[str] = []
        self.ledger, self.sums, self.wire = Ledger(self.steps), Sums(self.steps), Wire(self.steps)
        self.ledger.records += records
        self.local = memory_over(self.ledger.records)
        real = self.local.apply_receipt

        def applied(receipt: Receipt, ledger_index: int) -> None:
            real(receipt, ledger_index)
            self.steps.append("local")

        self.local.apply_receipt = applied  # type: ignore[method-assign]
        self.memory = P2PPriceMemory(
            self.local,
            append=self.ledger.append,
            accumulators=[self.sums],
            exchanges=[self.wire],
        )


async def test_the_steps_come_in_their_order() -> None:
    shop = Shop()
    assert await shop.memory.update(receipt(1, line("A", 2, 100))) == 0
    assert shop.steps == ["log", "anonymise", "local", "sync"]  # the local memory drives it, from within
    assert rows_of(shop.local) == rows_of(fed(receipt(1, line("A", 2, 100))))
    assert shop.sums.total == 200


async def test_without_the_ledger_nothing_has_happened() -> None:
    shop = Shop()
    shop.ledger.full = True
    with pytest.raises(StorageError):
        await shop.memory.update(receipt(1, line("A", 2, 100)))
    assert shop.steps == []
    assert rows_of(shop.local) == {}
    shop.ledger.full = False
    await shop.memory.update(receipt(1, line("A", 2, 100)))
    assert shop.sums.total == 200


async def test_where_the_local_memory_breaks_nothing_goes_further_and_the_ledger_has_it() -> None:
    shop = Shop()

    def breaks(receipt: Receipt, ledger_index: int) -> None:
        raise LocalError("a bug")

    shop.local.apply_receipt = breaks  # type: ignore[method-assign]
    with pytest.raises(LocalError):
        await shop.memory.update(receipt(1, line("A", 2, 100)))
    assert shop.steps == ["log"]
    again = Shop(shop.ledger.records)
    again.memory.take(again.ledger.records[0], 0)
    assert (rows_of(again.local), again.sums.total) == (rows_of(fed(receipt(1, line("A", 2, 100)))), 200)


async def test_what_privacy_refuses_is_counted_and_the_sale_stands() -> None:
    shop = Shop()
    shop.sums.refuse = True
    await shop.memory.update(receipt(1, line("A", 2, 100)))
    assert shop.steps == ["log", "local", "sync"]
    assert shop.memory.refusals == {"unlisted": 1}
    assert rows_of(shop.local) != {}


async def test_networks_are_woken_when_a_day_begins_or_is_closed_and_not_for_every_sale() -> None:
    shop = Shop()
    for number, day in ((1, MONDAY), (2, MONDAY), (3, MONDAY.replace(day=MONDAY.day + 1)), (4, MONDAY)):
        await shop.memory.update(receipt(number, line("A", 2, 100), day=day))
    assert shop.steps.count("sync") == 2
    shop.memory.day_closed()
    shop.memory.sync()
    assert shop.steps.count("sync") == 3


async def test_what_somebody_else_has_logged_is_taken_and_not_logged_again() -> None:
    shop = Shop()
    memory = P2PPriceMemory(shop.local, accumulators=[shop.sums], exchanges=[shop.wire])
    with pytest.raises(LocalError):
        await memory.update(receipt(1, line("A", 2, 100)))
    memory.take(receipt(1, line("A", 2, 100)), 0)
    memory.sync()
    assert shop.steps == ["anonymise", "local", "sync"]
    assert shop.sums.total == 200


async def test_cancelled_sales_are_taken_back_whichever_comes_first() -> None:
    shop = Shop()
    for each in (receipt(1, line("A", 1, 100)), receipt(2, line("A", 1, 70)), post_void(3, 1)):
        await shop.memory.update(each)
    assert shop.sums.total == 70
    for each in (post_void(5, 4), receipt(4, line("A", 1, 30)), receipt(2, line("A", 1, 70)), post_void(6, 1)):
        await shop.memory.update(each)
    assert shop.sums.total == 70
    assert rows_of(shop.local) == rows_of(fed(receipt(2, line("A", 1, 70))))


async def test_training_and_the_unreadable_are_not_shared() -> None:
    shop = Shop()
    await shop.memory.update(receipt(1, line("A", 1, 100), training=True))
    await shop.memory.update(post_void(2, 9))
    await shop.memory.update(post_void(3, 1, training=True))
    assert shop.sums.total == 0


@st.composite
def ledgers(draw: st.DrawFn) -> list[Receipt]:
    """Sales and post-voids in any order, some twice, over two weeks."""
    sales = [receipt(n, line("A", 1, 2**n), day=MONDAY.replace(day=1 + 7 * (n % 2))) for n in range(1, 7)]
    voids = [post_void(6 + target, target) for target in range(1, 7) if draw(st.booleans())]
    return draw(st.permutations([*sales, *voids, *draw(st.lists(st.sampled_from(sales), max_size=3))]))


@settings(max_examples=80, deadline=None)
@given(ledgers())
def test_after_a_crash_the_ledger_gives_the_same_again(records: list[Receipt]) -> None:
    first, again = Shop(records), Shop(records)
    for index, each in enumerate(records):
        first.memory.take(each, index)
    for index, each in [*enumerate(records[: len(records) // 2]), *enumerate(records)]:  # a part of it twice
        again.memory.take(each, index)
    kept = set(range(1, 7)) - {each.voids.sequence for each in records if each.voids is not None}
    assert first.sums.total == sum(2**n for n in kept)
    assert again.sums.total == first.sums.total
    assert rows_of(again.local) == rows_of(first.local)
