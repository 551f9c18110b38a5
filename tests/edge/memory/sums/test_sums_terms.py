"""What is summed, when and by whom: the same for whoever has the roster, now or later."""

import math
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_shared import network_of, shop_of
from support_sums import CENTRE, EPOCHS, LIVE, WINDOW, franchise, rivals

from edge.errors import LocalError
from edge.memory.sums.book import Wares, book_of
from edge.memory.sums.result import insight_of
from edge.memory.sums.terms import (
    CLIP_ITEM,
    CLIP_MEAN,
    CLIP_NORM,
    SUM_WEEKS,
    Asked,
    Subject,
    asked,
    closers_of,
    drawn,
    due_day,
    open_window,
    owners_min,
    people,
    plan_of,
    room,
)
from edge.networks.access import FeedKind
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import Revocation, Role, Roster
from edge.privacy.rules import PrivacyRules
from edge.privacy.secure_sum import RoundRefused, Sum
from edge.records.history import week_of
from edge.records.message import Network
from edge.records.shared import Unit

ITEMS = tuple(f"sku-{number}" for number in range(4))


def sum_of(roster: Roster, items: tuple[str, ...] = ()) -> Asked:
    plan = plan_of(roster, EPOCHS[2], WINDOW)
    return asked(roster, plan, epoch=2, window=WINDOW, category="juice", items=items, centre=CENTRE)


# --- when ------------------------------------------------------------------------------------------------------------


@given(st.dates(date(2026, 1, 1), date(2060, 1, 1)), st.integers(0, 104), st.integers(0, 6))
def test_one_window_is_open_from_its_day_to_the_next_ones(today: date, lag: int, weekday: int) -> None:
    policy = NetworkPolicy(
        lag_weeks=lag, release_weekday=weekday, privacy=replace(NetworkPolicy().privacy, lag_weeks=lag)
    )
    window = open_window(today, policy)
    assert window is not None
    assert window.first % SUM_WEEKS == 0
    assert due_day(window, policy) <= today < due_day(window, policy) + timedelta(weeks=SUM_WEEKS)
    assert due_day(window, policy).weekday() == weekday
    assert window.end + lag <= week_of(today)  # all of it is over, and as old as it must be


@given(st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=60), st.integers(0, 400), st.data())
def test_a_draw_hardly_depends_on_who_lists_what(names: set[str], number: int, data: st.DataObject) -> None:
    window = replace(WINDOW, first=SUM_WEEKS * number)
    order = drawn(bytes(32), window, sorted(names))
    assert sorted(order) == sorted(names)
    assert drawn(bytes(32), window, sorted(names, reverse=True)) == order
    missing = data.draw(st.sampled_from(order))
    assert drawn(bytes(32), window, sorted(names - {missing})) == [name for name in order if name != missing]


def test_every_category_is_drawn_as_often_as_chance_has_it() -> None:
    categories = [f"category {number}" for number in range(10)]
    first = Counter(
        drawn(bytes(32), replace(WINDOW, first=SUM_WEEKS * number), categories)[0] for number in range(1000)
    )
    assert set(first) == set(categories)
    assert all(60 < count < 145 for count in first.values())  # 100, give or take 4.5 standard deviations


def test_what_a_week_and_a_year_may_cost_bounds_the_categories() -> None:
    assert room(PrivacyRules()) == 2  # 0.125 of 0.5 a week, and of 0.25 a week over the year
    assert room(PrivacyRules(rho_year_milli=1_000_000)) == 4
    assert room(PrivacyRules(rho_milli=10_000)) == 1


# --- who -------------------------------------------------------------------------------------------------------------


def test_members_of_an_epoch_are_those_who_were_there_when_it_began() -> None:
    shops = [shop_of(Network.CONSORTIUM, number) for number in range(7)]
    late = shop_of(Network.CONSORTIUM, 8, since_epoch=2)
    reader = shop_of(Network.CONSORTIUM, 9, role=Role.READER)
    roster = network_of(Network.CONSORTIUM, [*shops, late, reader], policy=LIVE, epoch=2)
    first = sorted(shop.member.id for shop in shops)
    assert [member.id for member, _ in people(roster, 2)] == first
    assert people(roster, 1) == []
    assert closers_of(roster, 2) == tuple(first[:3])
    gone = Revocation(shops[3].member, 2, dict.fromkeys(FeedKind, 5), "sold")
    later = network_of(Network.CONSORTIUM, [*shops, late, reader], policy=LIVE, epoch=3, revoked=[gone])
    assert [member.id for member, _ in people(later, 2)] == first  # it can be told later who they were
    assert late.member.id in {member.id for member, _ in people(later, 3)}
    assert shops[3].member.id not in {member.id for member, _ in people(later, 3)}


def test_a_round_follows_from_any_later_roster() -> None:
    shops = [shop_of(Network.CONSORTIUM, number) for number in range(16)]
    now = network_of(Network.CONSORTIUM, shops, policy=LIVE, epoch=2)
    gone = Revocation(shops[3].member, 2, dict.fromkeys(FeedKind, 5), "sold")
    newcomers = [shop_of(Network.CONSORTIUM, number, since_epoch=3) for number in (30, 31)]
    later = network_of(Network.CONSORTIUM, [*shops, *newcomers], policy=LIVE, epoch=4, revoked=[gone])
    assert sum_of(now).rounds == sum_of(later).rounds
    assert len({round_.digest for round_ in sum_of(now).rounds}) == 3
    other = replace(now, policy=replace(LIVE, privacy=replace(LIVE.privacy, rho_milli=400)))
    assert sum_of(other).rounds[0].digest != sum_of(now).rounds[0].digest


def test_parties_are_shops_of_one_owner_and_owners_else() -> None:
    assert [each.shops for each in sum_of(franchise(6, LIVE)).rounds] == [(1,) * 6]
    assert {shops for each in sum_of(rivals(15, 2)).rounds for shops in each.shops} == {2}
    with pytest.raises(RoundRefused):
        plan_of(franchise(4, LIVE), EPOCHS[2], WINDOW)
    with pytest.raises(RoundRefused):
        plan_of(rivals(4, 5), EPOCHS[2], WINDOW)
    watched = franchise(6, LIVE)  # somebody else reads along: its shops are one owner again
    reader = replace(shop_of(Network.CONSORTIUM, 99, role=Role.READER).member, owner="a trainer")
    with pytest.raises(RoundRefused):
        plan_of(replace(watched, members={**watched.members, reader.id: reader}), EPOCHS[2], WINDOW)


def test_a_stricter_policy_asks_for_more_owners() -> None:
    assert owners_min(rivals(15)) == 5
    rules = replace(NetworkPolicy().privacy, owners_min=7)
    assert owners_min(rivals(15, policy=NetworkPolicy(owners_min=6, privacy=rules))) == 7
    assert owners_min(rivals(15, policy=NetworkPolicy(owner_share_max=0.1))) == 10
    with pytest.raises(RoundRefused):
        sum_of(rivals(15, policy=NetworkPolicy(owner_share_max=0.1)))  # groups of five


# --- what ------------------------------------------------------------------------------------------------------------


@given(st.floats(-20, 20), st.integers(1, 4))
def test_a_shop_says_its_distance_from_the_centre_within_the_clip(value: float, shops: int) -> None:
    subject = Subject("juice")
    steps = subject.steps([value], CENTRE, shops)
    assert steps is not None
    wanted = min(max(value - CENTRE, -CLIP_MEAN), CLIP_MEAN) / CLIP_MEAN * 2**15 / shops
    assert abs(steps[0] - wanted) <= 1
    assert subject.steps([math.nan], CENTRE, shops) is None
    with pytest.raises(LocalError):
        subject.steps([value, value], CENTRE, shops)


@given(st.lists(st.one_of(st.just(math.nan), st.floats(-20, 20)), min_size=4, max_size=4))
def test_a_vector_says_what_is_known_and_which(values: list[float]) -> None:
    subject = Subject("juice", ITEMS)
    steps = subject.steps(values, CENTRE, 1)
    if all(map(math.isnan, values)):
        assert steps is None
        return
    assert steps is not None
    assert subject.quantiser.fits(steps, 1)
    for value, off, known in zip(values, steps[:4], steps[4:], strict=True):
        assert (known > 0) is not math.isnan(value)
        if known:
            assert off / known == pytest.approx(min(max(value - CENTRE, -CLIP_ITEM), CLIP_ITEM), abs=2e-3)
        else:
            assert off == 0


def test_items_are_named_only_where_owners_and_policy_allow_it() -> None:
    def policy(**more: int) -> NetworkPolicy:
        return NetworkPolicy(item_level=True, privacy=PrivacyRules(item_level=True, **more))

    assert sum_of(rivals(90, policy=policy()), ITEMS).subject.items == ITEMS
    assert sum_of(rivals(90, policy=policy()), ITEMS[:1]).subject.items == ()
    assert sum_of(rivals(90, policy=policy(rho_milli=10)), ITEMS).subject.items == ()  # the noise is too much
    assert sum_of(rivals(20, policy=policy()), ITEMS).subject.items == ()
    assert sum_of(rivals(90), ITEMS).subject.items == ()
    digests = {sum_of(rivals(90, policy=policy()), items).rounds[0].digest for items in (ITEMS, ITEMS[::-1], ITEMS[:3])}
    assert len(digests) == 2  # other lists are other rounds; the order of a list is no matter


# --- results ---------------------------------------------------------------------------------------------------------


def sums(one: Asked, values: list[list[float]], deviation: float = 0.0) -> list[Sum]:
    """The sums of all groups, each of whose members knows the group's value; without noise in them."""
    found = []
    for round_, value in zip(one.rounds, values, strict=True):
        steps = [one.subject.steps(value, CENTRE, shops) or () for shops in round_.shops]
        total = tuple(sum(column) for column in zip(*steps, strict=True))
        everybody = tuple(range(len(round_.members)))
        found.append(Sum(total, everybody, round_.weight(everybody), Fraction(round(deviation * 2**15) ** 2)))
    return found


def test_a_result_says_its_mean_its_error_and_what_protects_it() -> None:
    one = sum_of(rivals(20, 2))
    told = insight_of(one, sums(one, [[CENTRE - 0.1], [CENTRE + 0.2], [CENTRE + 9.0]], deviation=1.0))
    (row,) = told.rows
    ((term, price),) = row.coefficients
    assert (told.category, told.week, row.sku, term) == ("juice", WINDOW.end - 1, "", "price")
    assert price.mean == pytest.approx(CENTRE + 0.2, abs=1e-3)  # of three groups the one in the middle
    assert price.error == pytest.approx(math.sqrt(math.pi / 2) * CLIP_MEAN / math.sqrt(20))
    note = told.protection
    assert (note.unit, note.shops, note.owners) == (Unit.OWNER_WEEK, 40, 20)
    assert note.deviation == pytest.approx(0.67 * CLIP_MEAN / (20 / 3), rel=0.1)
    assert note.delta_pico == 1000  # 1e-9
    assert 2.5 < note.epsilon_micro / 1e6 < 4.0  # rho 0.125
    shops = sum_of(franchise(20, LIVE))
    assert insight_of(shops, sums(shops, [[CENTRE]] * 3)).protection.owners == 1


def test_an_item_that_few_know_is_left_out_and_pulls_nobody_to_the_centre() -> None:
    roster = rivals(90, policy=NetworkPolicy(item_level=True, privacy=PrivacyRules(item_level=True)))
    one = sum_of(roster, ITEMS)
    knows_two, knows_three = [CENTRE + 0.5, CENTRE - 0.25, math.nan, math.nan], [*(CENTRE + 0.5, CENTRE - 0.25, CENTRE)]
    told = insight_of(one, sums(one, [knows_two, knows_two, [*knows_three, math.nan]]))
    assert [row.sku for row in told.rows] == list(ITEMS[:2])
    means = [row.coefficients[0][1].mean for row in told.rows]
    assert means == pytest.approx([CENTRE + 0.5, CENTRE - 0.25], abs=2e-3)
    nothing = [replace(each, values=(0,) * 8) for each in sums(one, [knows_two] * 3)]
    with pytest.raises(RoundRefused) as refusal:
        insight_of(one, nothing)
    assert refusal.value.reason == "unknown"
    assert 2 * CLIP_ITEM * math.sqrt(len(ITEMS)) > CLIP_NORM


def test_the_book_listens_to_a_year_and_asks_for_what_is_open() -> None:
    roster = franchise(6, LIVE)
    wares = Wares.of([f"category {number}" for number in range(30)], None, CENTRE)
    book = book_of(roster, EPOCHS, due_day(WINDOW, LIVE), wares)
    assert book.window == WINDOW
    assert len(book.now) == room(LIVE.privacy)
    assert all(one.window == WINDOW and one.epoch == 2 for one in book.now)
    assert {one.window.first for one, _ in book.asked.values()} <= {WINDOW.first - 13 * back for back in range(5)}
    assert {round_.digest for one in book.now for round_ in one.rounds} <= set(book.asked)
    before = book_of(roster, EPOCHS, due_day(WINDOW, LIVE) - timedelta(days=1), wares)
    assert before.window is not None
    assert before.window.end == WINDOW.first
    assert before.newest == WINDOW  # another box's day may have come
