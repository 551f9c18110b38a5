"""The bounds of a round: who may be in a sum, and that it cannot wrap."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_secure_sum import make_round, member, people

from edge.errors import LocalError
from edge.privacy.secure_sum import RoundRefused
from edge.privacy.secure_sum.accounting import honest_min
from edge.privacy.secure_sum.rounds import OWNER_SHARE_MAX, member_variance


@given(st.integers(5, 128))
def test_two_closes_cannot_both_be_acknowledged(count: int) -> None:
    threshold = make_round([member(number, str(number)) for number in range(count)], dimension=1).threshold
    colluding = -(-count // 3) - 1  # the most below a third
    assert 2 * threshold > count + colluding
    assert count - count // 3 >= threshold  # a third may be missing
    assert honest_min(count) * member_variance(Fraction(1), count) >= 1  # and the noise is enough


@given(st.integers(5, 128), st.integers(1, 2**30), st.fractions(0, 2**40))
def test_sums_cannot_wrap(count: int, clip: int, noise: Fraction) -> None:
    round_ = make_round([member(number, str(number)) for number in range(count)], clip=clip, noise=noise)
    assert round_.bits % 8 == 0
    assert count * (clip + 12 * sqrt(noise)) < 2 ** (round_.bits - 1)


def test_a_round_that_could_wrap_cannot_be_made() -> None:
    with pytest.raises(LocalError):
        make_round(people(6), clip=2**54)


def test_an_owner_with_a_third_of_the_members_cannot_take_part() -> None:
    group = [*people(6), *(member(number, "chain") for number in range(100, 103))]
    with pytest.raises(LocalError, match="third"):
        make_round(group)
    assert make_round(group[:-1]).threshold == 6


def test_survivors_are_enough_of_enough_owners() -> None:
    round_ = make_round(people(5, 2))
    owners = [each.owner for each in round_.members]
    round_.check_survivors(range(10))
    first = [number for number in range(10) if owners[number] == owners[0]]
    without = [number for number in range(10) if number not in first]
    with pytest.raises(RoundRefused) as refusal:
        round_.check_survivors(without)
    assert refusal.value.reason == "owners"
    with pytest.raises(RoundRefused) as refusal:
        round_.check_survivors(range(6))
    assert refusal.value.reason == "members"


@given(st.sets(st.integers(0, 14), min_size=0, max_size=15))
def test_nobody_is_above_a_quarter(survivors: set[int]) -> None:
    round_ = make_round(people(5, 3))
    shops = Counter(round_.members[number].owner for number in survivors)
    lawful = len(shops) == 5 and max(shops.values()) <= OWNER_SHARE_MAX * len(survivors)
    try:
        round_.check_survivors(survivors)
    except RoundRefused:
        assert not lawful or len(survivors) < 10
    else:
        assert lawful
    assert round_.weight(survivors) == Fraction(len(survivors), 3)


def test_everything_is_in_the_digest() -> None:
    round_ = make_round(people(6))
    changes: list[dict[str, object]] = [
        {"network": bytes(32)},
        {"window": 1},
        {"subject": "log_mean/beer"},
        {"group": 1},
        {"closers": round_.closers[:1]},
        {"dimension": 4},
        {"clip": 999},
        {"noise_variance": Fraction(1, 3)},
        {"owners_min": 6},
        {"members": tuple(replace(each, owner=each.owner + "x") for each in round_.members)},
    ]
    digests = {replace(round_, **change).digest for change in changes}  # type: ignore[arg-type]
    assert len(digests | {round_.digest}) == len(changes) + 1


@pytest.mark.parametrize(
    "change",
    [
        {"network": b"short"},
        {"closers": ()},
        {"closers": (bytes(32), bytes(32))},
        {"dimension": 0},
        {"dimension": 5000},
        {"clip": 0},
        {"noise_variance": Fraction(-1)},
        {"owners_min": 4},
        {"subject": ""},
        {"window": -1},
        {"members": people(6)[::-1]},
        {"members": people(6)[:1] * 6},
    ],
)
def test_what_no_plan_gives(change: dict[str, object]) -> None:
    with pytest.raises(LocalError):
        replace(make_round(people(6)), **change)  # type: ignore[arg-type]


def test_four_owners_are_not_enough() -> None:
    with pytest.raises(RoundRefused) as refusal:
        make_round(people(4))
    assert refusal.value.reason == "owners"
