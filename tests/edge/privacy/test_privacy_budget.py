import asyncio
import itertools
import random
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_privacy import CAPS, NETWORK, OTHER, Disk, PowerCut, Step

from edge.errors import LocalError, RecordInvalid, StorageError
from edge.hypercore.store import FeedStore
from edge.limits import RELEASES_KEPT_WEEKS
from edge.privacy.budget import Budget, BudgetLedger, Caps, Spent, caps_of
from edge.privacy.reservation import Charge, ReleaseKey, Reservation, encode, owner_charges
from edge.privacy.rules import YEAR_WEEKS, PrivacyRefused, PrivacyRules
from edge.records.shared import Unit

FLOOR = 2920
ONE = (Charge(Unit.RECEIPT, Fraction(1)),)


def key(
    first: int = 2900, weeks: int = 4, network: bytes = NETWORK, kind: str = "ranges", category: str = ""
) -> ReleaseKey:
    return ReleaseKey(network, kind, category, first, weeks)


async def ready(caps: Caps = CAPS, floor: int = FLOOR) -> tuple[Disk, BudgetLedger]:
    disk = Disk()
    ledger = disk.ledger(caps)
    await ledger.raise_floor(floor)
    return disk, ledger


async def refusal(ledger: BudgetLedger, wanted: ReleaseKey, charges: tuple[Charge, ...] = ONE) -> str:
    def draw() -> bytes:
        raise AssertionError("noise was drawn for a release that is refused")

    with pytest.raises(PrivacyRefused) as caught:
        await ledger.release(wanted, charges, draw)
    assert str(caught.value)
    return caught.value.reason


async def test_asking_again_gives_the_same_bytes_and_costs_nothing() -> None:
    disk, ledger = await ready()
    draws = itertools.count()
    first = await ledger.release(key(), ONE, lambda: b"%d" % next(draws))
    again = await ledger.release(key(), ONE, lambda: b"%d" % next(draws))
    restarted = disk.ledger()
    later = await restarted.release(key(), ONE, lambda: b"%d" % next(draws))
    assert first == again == later
    assert first.payload == b"0"
    assert next(draws) == 1
    assert [restarted.budget.spent(Unit.RECEIPT, week).epsilon for week in range(2899, 2905)] == [0, 1, 1, 1, 1, 0]
    assert len(disk.blocks) == 2


async def test_one_account_holds_all_networks_kinds_and_categories() -> None:
    _, ledger = await ready()
    await ledger.release(key(), ONE, lambda: b"a")
    await ledger.release(key(network=OTHER), ONE, lambda: b"b")
    for other in (key(network=bytes(32)), key(kind="trends"), key(category="dairy"), key(2903, 1, bytes(32), "x", "y")):
        assert await refusal(ledger, other) == "week_spent"
    await ledger.release(key(2904, 1, bytes(32)), ONE, lambda: b"c")


async def test_overlapping_windows_are_refused_in_one_series_and_charged_in_others() -> None:
    _, ledger = await ready()
    await ledger.release(key(2900, 4), ONE, lambda: b"a")
    for first, weeks in ((2903, 1), (2897, 4), (2899, 13), (2900, 1), (2903, 4)):
        assert await refusal(ledger, key(first, weeks)) == "overlap"
    await ledger.release(key(2902, 4, OTHER), ONE, lambda: b"b")
    spent = [ledger.budget.spent(Unit.RECEIPT, week).epsilon for week in range(2900, 2906)]
    assert spent == [1, 1, 2, 2, 1, 1]


async def test_the_year_is_any_fifty_three_weeks() -> None:
    _, ledger = await ready(Caps(Spent(Fraction(2)), Spent(Fraction(10))), floor=3000)
    for first in range(2900, 2910):
        await ledger.release(key(first, 1), ONE, lambda: b"x")
    assert ledger.budget.spent_in_year(Unit.RECEIPT, 2900).epsilon == 10
    assert await refusal(ledger, key(2900 + YEAR_WEEKS - 1, 1)) == "year_spent"
    assert await refusal(ledger, key(2909 - YEAR_WEEKS + 1, 1)) == "year_spent"
    await ledger.release(key(2900 + YEAR_WEEKS, 1), ONE, lambda: b"x")
    assert await refusal(ledger, key(2900 + YEAR_WEEKS - 4, 4)) == "year_spent"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 150), st.sampled_from([1, 4, 13]), st.integers(1, 8)), max_size=16))
def test_the_caps_hold_whatever_is_asked(asked: list[tuple[int, int, int]]) -> None:
    """Against a model: each week's account is added up anew, and every 53 weeks in a row."""
    caps = Caps(Spent(Fraction(3)), Spent(Fraction(12)))
    budget = Budget(caps)
    budget.apply(bytes.fromhex("830201190b61"))  # floor 2913
    taken: list[tuple[ReleaseKey, Fraction]] = []
    for number, (week, weeks, size) in enumerate(asked):
        wanted = key(2760 + week // weeks * weeks, weeks, number.to_bytes(32, "big"))
        if wanted.end > 2913:
            continue
        cost = Fraction(size, 4)
        by_week: dict[int, Fraction] = {}
        for other, paid in [*taken, (wanted, cost)]:
            for at in range(other.first, other.end):
                by_week[at] = by_week.get(at, Fraction(0)) + paid
        years = [sum(by_week.get(at, Fraction(0)) for at in range(f, f + 53)) for f in range(2760 - 53, 2913)]
        fits = max(by_week.values()) <= 3 and max(years) <= 12
        record = Reservation(wanted, (Charge(Unit.RECEIPT, cost),), b"")
        if not fits:
            with pytest.raises(PrivacyRefused) as caught:
                budget.check(wanted, record.charges)
            assert caught.value.reason in ("week_spent", "year_spent")
            continue
        budget.check(wanted, record.charges)
        budget.apply(encode(record))
        taken.append((wanted, cost))


async def test_windows_that_are_not_over_wait_and_a_clock_set_back_refreshes_nothing() -> None:
    disk, ledger = await ready(floor=2903)
    assert await refusal(ledger, key()) == "not_closed"
    await ledger.raise_floor(2904)
    await ledger.release(key(), ONE, lambda: b"a")
    await ledger.release(key(network=OTHER), ONE, lambda: b"b")
    for clock in (0, 2000, 2903):
        await ledger.raise_floor(clock)
        assert ledger.budget.floor == 2904
        assert await refusal(ledger, key(network=bytes(32))) == "week_spent"
    restarted = disk.ledger()
    await restarted.raise_floor(1)
    assert restarted.budget.floor == 2904
    assert await refusal(restarted, key(network=bytes(32))) == "week_spent"


async def test_what_is_forgotten_is_never_released_again() -> None:
    disk, ledger = await ready()
    await ledger.release(key(), ONE, lambda: b"a")
    end = key().end
    await ledger.raise_floor(end + RELEASES_KEPT_WEEKS - 1)
    assert (await ledger.release(key(), ONE, lambda: b"z")).payload == b"a"
    await ledger.raise_floor(end + RELEASES_KEPT_WEEKS)
    for found in (ledger, disk.ledger()):
        assert await refusal(found, key()) == "too_old"
        assert list(found.budget.reservations()) == []
    await ledger.raise_floor(end + RELEASES_KEPT_WEEKS + 200)
    assert ledger.budget.spent(Unit.RECEIPT, 2900) == Spent()  # and its account is no longer needed


async def test_epsilon_and_rho_are_capped_apart_and_by_unit() -> None:
    _, ledger = await ready()  # caps of a week: epsilon 2, rho 1/2
    half = owner_charges(Fraction(1, 2))
    await ledger.release(key(kind="sums"), half, lambda: b"a")
    budget = ledger.budget
    assert budget.spent(Unit.OWNER_WEEK, 2900) == budget.spent(Unit.RECEIPT, 2900) == Spent(rho=Fraction(1, 2))
    assert await refusal(ledger, key(kind="sums", network=OTHER), owner_charges(Fraction(1, 1000))) == "week_spent"
    await ledger.release(key(), ONE, lambda: b"b")
    assert budget.spent(Unit.RECEIPT, 2900) == Spent(Fraction(1), Fraction(1, 2))
    assert budget.spent(Unit.OWNER_WEEK, 2900) == Spent(rho=Fraction(1, 2))


async def test_what_is_derived_costs_nothing_and_needs_durable_sources() -> None:
    _, ledger = await ready()
    trend = key(kind="trends", network=OTHER)
    with pytest.raises(PrivacyRefused) as caught:
        await ledger.release(trend, (), lambda: b"t", sources=(key(),))
    assert caught.value.reason == "source"
    with pytest.raises(RecordInvalid):
        await ledger.release(trend, (), lambda: b"from nothing")
    await ledger.release(key(), ONE, lambda: b"a")
    before = ledger.budget.spent(Unit.RECEIPT, 2900)
    found = await ledger.release(trend, (), lambda: b"t", sources=(key(),))
    assert found.charges == ()
    assert ledger.budget.spent(Unit.RECEIPT, 2900) == before


async def test_two_at_once_do_not_share_what_is_left_for_one() -> None:
    gate = asyncio.Event()
    disk = Disk()

    async def slow(block: bytes) -> None:
        await gate.wait()
        await disk.append(block)

    ledger = BudgetLedger.opened(CAPS, [encode_floor()], slow)
    wanted = [key(network=bytes([n]) * 32) for n in range(6)]
    asked = [asyncio.ensure_future(ledger.release(one, ONE, lambda: b"x")) for one in wanted]
    await asyncio.sleep(0)
    gate.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, Reservation) for one in found) == 2
    assert len(disk.blocks) == 2


def encode_floor() -> bytes:
    return bytes.fromhex("830201190b61")


async def test_a_disk_that_fails_lets_nothing_out_and_the_same_bytes_are_written_later() -> None:
    disk, ledger = await ready()
    draws = itertools.count()
    disk.full = True
    for _ in range(3):
        with pytest.raises(StorageError):
            await ledger.release(key(), ONE, lambda: b"%d" % next(draws))
    assert ledger.budget.reservation(key()) is None
    assert ledger.budget.spent(Unit.RECEIPT, 2900).epsilon == 1  # it may be durable, so it counts
    assert await refusal(ledger, key(2901, 1)) == "overlap"
    disk.full = False
    assert (await ledger.release(key(), ONE, lambda: b"%d" % next(draws))).payload == b"0"
    assert ledger.budget.spent(Unit.RECEIPT, 2900).epsilon == 1


async def test_a_cancelled_release_counts_as_spent() -> None:
    disk = Disk()
    stuck = asyncio.Event()

    async def never(block: bytes) -> None:
        disk.blocks.append(block)
        await stuck.wait()

    ledger = BudgetLedger.opened(CAPS, [encode_floor()], never)
    asked = asyncio.ensure_future(ledger.release(key(), ONE, lambda: b"x"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert ledger.budget.spent(Unit.RECEIPT, 2900).epsilon == 1
    restarted = BudgetLedger.opened(CAPS, [encode_floor(), *disk.blocks], never)
    assert (await restarted.release(key(), ONE, lambda: b"another draw")).payload == b"x"


def test_the_same_block_twice_is_one_and_two_contents_are_a_broken_ledger() -> None:
    budget = Budget(CAPS)
    budget.apply(encode(Reservation(key(), ONE, b"a")))
    budget.apply(encode(Reservation(key(), ONE, b"a")))
    assert budget.spent(Unit.RECEIPT, 2900).epsilon == 1
    with pytest.raises(LocalError):
        budget.apply(encode(Reservation(key(), ONE, b"b")))
    with pytest.raises(RecordInvalid):
        budget.apply(b"\x83\x09\x01\x00")


def test_the_caps_are_the_strictest_of_all_rules() -> None:
    rules = [PrivacyRules(epsilon_week_milli=1500), PrivacyRules(epsilon_year_milli=9000, rho_week_milli=100)]
    assert caps_of(rules) == Caps(Spent(Fraction(3, 2), Fraction(1, 10)), Spent(Fraction(9), Fraction(53, 4)))
    with pytest.raises(LocalError):
        caps_of([])


# --- power cuts -------------------------------------------------------------------------------------------------------

PER_LEDGER = 20  # releases of one ledger; short, because every restart reads it from its start


async def live_through_cuts(seed: int, releases: int) -> tuple[int, int]:
    """One ledger's life: each release is cut at every step; returns releases that left and restarts.

    At any moment: every byte string that ever left is the one that a restart gives, and the accounts of a restarted
    ledger hold at least what left.
    """
    rng = random.Random(seed)
    disk = Disk()
    await disk.ledger().raise_floor(2800)
    left: dict[ReleaseKey, bytes] = {}
    cost: dict[ReleaseKey, Fraction] = {}
    refused: Counter[str] = Counter()
    restarts = 0

    async def checked() -> BudgetLedger:
        """A restart, judged."""
        nonlocal restarts
        restarts += 1
        found = disk.ledger()
        owed: dict[int, Fraction] = {}
        for one, payload in left.items():
            kept = found.budget.reservation(one)
            assert kept is not None, f"seed {seed}: {one} left and is not in the ledger"
            assert kept.payload == payload, f"seed {seed}: {one} changed"
            for week in range(one.first, one.end):
                owed[week] = owed.get(week, Fraction(0)) + cost[one]
        for week, epsilon in owed.items():
            spent = found.budget.spent(Unit.RECEIPT, week).epsilon
            assert epsilon <= spent <= CAPS.week.epsilon, f"seed {seed}: week {week} spent {spent}, left {epsilon}"
        return found

    def draw(cut: bool) -> bytes:
        if cut:
            raise PowerCut
        return rng.randbytes(12)

    while len(left) < releases:
        weeks = rng.choice((1, 4))
        wanted = key(2700 + rng.randrange(96) // weeks * weeks, weeks, bytes([rng.randrange(3)]) * 32)
        price = Fraction(rng.randint(1, 8), 8)
        charges = (Charge(Unit.RECEIPT, price),)
        if wanted in left:
            assert (await (await checked()).release(wanted, charges, lambda: b"fresh")).payload == left[wanted]
            continue
        steps: list[str | Step] = ["draw", Step.BEFORE, Step.BEFORE, Step.AFTER, "sent"]
        try:
            for step in steps:
                ledger = await checked()
                disk.cut = step if isinstance(step, Step) else None
                try:
                    found = await ledger.release(wanted, charges, lambda cut=step == "draw": draw(cut))  # type: ignore[misc]
                except PowerCut:
                    disk.cut = None
                    continue
                assert found.key == wanted
                known = left.setdefault(wanted, found.payload)
                assert known == found.payload
                cost[wanted] = found.charges[0].epsilon
                disk.cut = None
        except PrivacyRefused as error:
            refused[error.reason] += 1
            assert wanted not in left
        await checked()
    assert set(refused) <= {"week_spent", "overlap"}
    return len(left), restarts


@pytest.mark.parametrize(
    "ledgers", [25, pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(600)])], ids=["500", "10000"]
)
async def test_power_cuts_at_every_step_never_release_more_than_is_spent(ledgers: int) -> None:
    total = restarts = 0
    for seed in range(ledgers):
        released, restarted = await live_through_cuts(seed, PER_LEDGER)
        total += released
        restarts += restarted
    assert total == ledgers * PER_LEDGER
    assert restarts > 5 * total
    print(f"{total} releases, {restarts} restarts")


async def test_on_a_hypercore_of_this_box(tmp_path: Path) -> None:
    """As a box runs it: blocks of a local core, read again by another process's worth of objects."""
    store = FeedStore(tmp_path)
    core = await store.open(await store.create("privacy"), write=True)

    async def append(block: bytes) -> None:
        await core.append([block], urgent=True)

    ledger = BudgetLedger.opened(CAPS, (), append)
    await ledger.raise_floor(FLOOR)
    first = await ledger.release(key(), ONE, lambda: b"noised")
    await core.close()
    core = await store.open(store.feeds()[0], write=True)
    again = BudgetLedger.opened(CAPS, (core.get(index) for index in range(core.length)), append)
    assert await again.release(key(), ONE, lambda: b"drawn anew") == first
    assert await refusal(again, key(2901, 1)) == "overlap"
    await core.close()
