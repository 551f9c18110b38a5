"""Groups: of whole owners, the same for all, and not for anybody to choose."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_secure_sum import NETWORK, make_round, member, people

from edge.errors import LocalError
from edge.privacy.secure_sum import Parties, Plan, RoundRefused, make_plan
from edge.privacy.secure_sum.plan import seats_of


@given(st.lists(st.integers(1, 6), min_size=5, max_size=40), st.integers(0, 4000), st.binary(min_size=32, max_size=32))
def test_groups_are_of_whole_owners_and_large_enough(shops: list[int], window: int, secret: bytes) -> None:
    members = [member(100 * owner + shop, f"o{owner}") for owner, count in enumerate(shops) for shop in range(count)]
    found = make_plan(NETWORK, window, secret, members)
    assert len(found.groups) == (3 if len(shops) >= 15 else 1)
    assert sorted([each for group in found.groups for each in group] + list(found.seatless)) == sorted(members)
    homes: dict[str, set[int]] = {}
    for number, group in enumerate(found.groups):
        for each in group:
            homes.setdefault(each.owner, set()).add(number)
        owned = Counter(each.owner for each in group)
        assert len(owned) >= 5
        assert 3 * max(owned.values()) < len(group)
        make_round(group)  # and is a round: no owner above a quarter, none with a third of the members
    assert len(homes) == len(shops)  # no owner is left out altogether
    assert all(len(groups) == 1 for groups in homes.values())
    sizes = [len({each.owner for each in group}) for group in found.groups]
    assert max(sizes) - min(sizes) <= 1


def test_the_order_of_the_roster_changes_nothing_and_the_seed_everything() -> None:
    members = people(30, 2)

    def shape(plan: Plan) -> list[set[str]]:
        return [{each.owner for each in group} for group in plan.groups]

    first = make_plan(NETWORK, 7, b"secret", members)
    assert make_plan(NETWORK, 7, b"secret", reversed(members)) == first
    others = [(bytes(32), 7, b"secret"), (NETWORK, 8, b"secret"), (NETWORK, 7, b"other")]
    assert all(shape(make_plan(*other, members)) != shape(first) for other in others)


def test_every_pair_of_owners_meets_as_often_as_chance_has_it() -> None:
    together = 0
    for window in range(400):
        plan = make_plan(NETWORK, window, b"secret", people(15))
        homes = {each.owner: number for number, group in enumerate(plan.groups) for each in group}
        together += homes["owner 3"] == homes["owner 11"]
    assert abs(together / 400 - 4 / 14) < 0.1


def test_a_chain_takes_turns_with_its_shops() -> None:
    members = [*people(5), *(member(1000 + shop, "chain") for shop in range(20))]
    seen = set()
    for window in range(60):
        plan = make_plan(NETWORK, window, b"secret", members)
        seated = {each for each in plan.groups[0] if each.owner == "chain"}
        assert len(seated) == 2  # of seven; three of eight would be more than a third
        seen |= seated
    assert len(seen) == 20


def test_below_five_owners_nothing_is_summed() -> None:
    with pytest.raises(RoundRefused) as refusal:
        make_plan(NETWORK, 1, b"secret", people(4, 10))
    assert refusal.value.reason == "owners"


def test_more_than_one_group_can_hold() -> None:
    assert seats_of([1] * 128) == 1
    with pytest.raises(RoundRefused):
        seats_of([1] * 129)
    plan = make_plan(NETWORK, 1, b"secret", people(400), groups=5)
    assert [len(group) for group in plan.groups] == [80] * 5
    for groups in (1, 2, 4):
        with pytest.raises(LocalError):
            make_plan(NETWORK, 1, b"secret", people(20), groups=groups)


def test_in_a_network_of_one_owner_each_shop_is_a_party() -> None:
    shops = people(1, 20)
    plan = make_plan(NETWORK, 1, b"secret", shops, parties=Parties.SHOPS)
    assert sorted(each.id for group in plan.groups for each in group) == sorted(each.id for each in shops)
    assert len(plan.groups) == 3
    assert all(each.owner == each.id.hex() for group in plan.groups for each in group)
    for group in plan.groups:
        assert make_round(group).shops == (1,) * len(group)
    with pytest.raises(RoundRefused) as refusal:
        make_plan(NETWORK, 1, b"secret", people(1, 4), parties=Parties.SHOPS)
    assert refusal.value.reason == "owners"
    with pytest.raises(LocalError):  # rivals' shops are not parties of their own
        make_plan(NETWORK, 1, b"secret", people(5, 2), parties=Parties.SHOPS)
    with pytest.raises(RoundRefused):  # and one owner is no sum between owners
        make_plan(NETWORK, 1, b"secret", shops)
