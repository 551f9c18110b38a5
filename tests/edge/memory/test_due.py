"""What is told now: critical first, nothing twice, bulk only while somebody takes it."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_shared import PAYLOADS, payload_of

from edge.limits import BULK_WAITING_MAX, DUE_AT_ONCE_MAX
from edge.memory.due import SAID_WEEKS, VERSIONS_MAX, Due, Said, Urgency, choose
from edge.records.history import week_start
from edge.records.shared import ItemDay, ModelInsight, Payload, PriceUpdate, RangeUpdate, TrendUpdate

WEEK = 2930


def due(kind: type[Payload], week: int = WEEK - 1, **more: object) -> Due:
    return Due((payload_of(kind, week=week, **more),), None)  # type: ignore[arg-type]


def kinds(dues: tuple[Due, ...]) -> list[type[Payload]]:
    return [type(each.payloads[0]) for each in dues]


@given(st.randoms(use_true_random=False))
def test_critical_first_then_the_newest_weeks(random: Random) -> None:
    dues = [due(kind, WEEK - 1 - back) for kind in PAYLOADS for back in range(3)]
    random.shuffle(dues)
    found = choose(dues, Said(), unfetched=0, week_now=WEEK).now
    assert [each.urgency for each in found] == sorted(each.urgency for each in dues)
    assert [each.week for each in found if each.urgency is Urgency.DAY] == [WEEK - 1, WEEK - 2, WEEK - 3]
    assert kinds(found)[0] is TrendUpdate


def test_what_stands_in_the_feeds_is_not_told_again_and_a_correction_is() -> None:
    said = Said()
    first = due(ModelInsight)
    said.note(first.payloads[0])
    assert choose([first], said, unfetched=0, week_now=WEEK).now == ()
    other = replace(first, payloads=(payload_of(ModelInsight, week=WEEK - 1, skus=["X1"]),))
    assert choose([first, other], said, unfetched=0, week_now=WEEK).now == (other,)


def test_who_corrects_himself_for_ever_is_stopped() -> None:
    said = Said()
    for number in range(VERSIONS_MAX):
        payload = payload_of(ModelInsight, week=WEEK - 1, skus=[f"X{number}"])
        assert not said.has(payload)
        said.note(payload)
    assert said.has(payload_of(ModelInsight, week=WEEK - 1, skus=["more"]))


def test_what_is_too_old_to_know_of_is_not_told_and_not_remembered() -> None:
    said = Said()
    for back in range(3 * SAID_WEEKS, -1, -1):
        said.note(payload_of(TrendUpdate, week=WEEK - back))
        assert len(said) <= SAID_WEEKS + 1
    assert said.has(payload_of(PriceUpdate, week=WEEK - SAID_WEEKS - 1))
    assert not said.has(payload_of(PriceUpdate, week=WEEK - SAID_WEEKS))


@pytest.mark.parametrize(
    ("unfetched", "told"),
    [
        (0, [TrendUpdate, ModelInsight, PriceUpdate, RangeUpdate, ItemDay]),
        (BULK_WAITING_MAX, [TrendUpdate, ModelInsight, PriceUpdate, RangeUpdate]),
        (4 * BULK_WAITING_MAX, [TrendUpdate, ModelInsight]),
        (10**9, [TrendUpdate, ModelInsight]),
    ],
)
def test_bulk_waits_while_nobody_fetches_and_what_is_critical_never_does(
    unfetched: int, told: list[type[Payload]]
) -> None:
    dues = [due(kind) for kind in (TrendUpdate, ModelInsight, PriceUpdate, RangeUpdate, ItemDay)]
    found = choose(dues, Said(), unfetched=unfetched, week_now=WEEK)
    assert kinds(found.now) == told
    assert found.waiting == len(dues) - len(told)


def test_what_is_chosen_counts_as_unfetched() -> None:
    dues = [due(ItemDay, category=f"category {number}") for number in range(10)]
    assert len(choose(dues, Said(), unfetched=BULK_WAITING_MAX - 4, week_now=WEEK).now) == 4


def test_a_week_told_as_a_whole_covers_its_days_once_the_next_one_is_over() -> None:
    said = Said()
    day = due(ItemDay, WEEK - 2)
    said.note(payload_of(PriceUpdate, week=WEEK - 2))
    now = choose([day], said, unfetched=0, week_now=WEEK - 1)
    assert now.now == (day,)  # Sunday's totals come with the week's: they are told
    later = choose([day], said, unfetched=0, week_now=WEEK)
    assert (later.now, later.covered) == ((), 1)
    other = due(ItemDay, WEEK - 2, category="bread")
    assert choose([other], said, unfetched=0, week_now=WEEK).now == (other,)


def test_not_everything_is_told_at_once() -> None:
    dues = [due(TrendUpdate, category=f"category {number}") for number in range(DUE_AT_ONCE_MAX + 7)]
    found = choose(dues, Said(), unfetched=0, week_now=WEEK)
    assert (len(found.now), found.waiting) == (DUE_AT_ONCE_MAX, 7)


def test_days_are_told_apart() -> None:
    said = Said()
    monday = payload_of(ItemDay, week=WEEK - 1)
    assert isinstance(monday, ItemDay)
    said.note(monday)
    assert not said.has(replace(monday, day=week_start(WEEK - 1).replace(day=monday.day.day + 1)))
