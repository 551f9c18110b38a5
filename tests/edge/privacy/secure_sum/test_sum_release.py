"""The release of a window, and how far one liar can move it."""

import random
from fractions import Fraction

import pytest
from support_secure_sum import NETWORK, World, make_round, people

from edge.errors import LocalError
from edge.privacy.secure_sum import Quantiser, RoundRefused, Sum, combine, make_plan
from edge.privacy.secure_sum.rounds import Member


def summed(group: tuple[Member, ...], true: dict[str, float], quantiser: Quantiser, liar: str, lie: int) -> Sum:
    """A whole round of a group. The liar's shop follows the protocol but for its input: masks hide what it adds."""
    round_ = make_round(group, dimension=1, clip=quantiser.steps)
    values = [quantiser.to_steps([true[each.owner]], shops) for each, shops in zip(group, round_.shops, strict=True)]
    world = World(round_, values, seed=1)
    for each in group:
        if each.owner == liar:
            world.boxes[each.id].participant._state.values = (lie,)
    world.run()
    found = world.result()
    assert found is not None
    return found


@pytest.mark.parametrize("owners", [5, 14, 15, 18])
def test_what_one_liar_can_move(owners: int) -> None:
    """Below fifteen owners anything within the clip; from fifteen on never beyond the honest groups' means."""
    rng = random.Random(owners)
    quantiser = Quantiser(1, 0.5, 0.5, 2**14)
    true = {f"owner {number}": rng.uniform(-0.1, 0.1) for number in range(owners)}
    plan = make_plan(NETWORK, 5, b"secret", people(owners))
    liar = plan.groups[0][0].owner
    released = []
    means: list[float] = []
    for lie in (0, 3 * 10**5, -3 * 10**5):
        sums = [summed(group, true, quantiser, liar, lie) for group in plan.groups]
        means = [quantiser.mean(each.values, each.weight)[0] for each in sums[1:]]
        released.append(combine(sums, len(plan.groups), quantiser).means[0])
    if owners < 15:
        assert released[1:] == [0.5, -0.5]
    else:
        assert sorted(released[1:]) == sorted(means)
        assert all(abs(value) <= 0.1 for value in released)


def test_the_median_is_taken_by_coordinate() -> None:
    quantiser = Quantiser(2, 1.0, 1.0, 10)
    sums = [Sum(values, (), Fraction(1), Fraction(4)) for values in ((1, 9), (5, -3), (3, 2))]
    found = combine(sums, 3, quantiser)
    assert found.means == pytest.approx((0.3, 0.2))
    assert found.weight == 3
    assert found.noise_deviation == pytest.approx(0.2 * 0.67018)


@pytest.mark.parametrize("groups", [1, 3, 5])
def test_the_noise_that_is_told_is_the_noise_that_is_there(groups: int) -> None:
    rng = random.Random(groups)
    quantiser = Quantiser(400, 10.0, 10.0, 10_000)
    sums = [
        Sum(tuple(round(rng.gauss(0, 300)) for _ in range(400)), (), Fraction(10), Fraction(90_000))
        for _ in range(groups)
    ]
    found = combine(sums, groups, quantiser)
    deviation = (sum(value**2 for value in found.means) / 400) ** 0.5
    assert deviation == pytest.approx(found.noise_deviation, rel=0.15)


def test_two_groups_of_three_cannot_outvote_a_liar() -> None:
    quantiser = Quantiser(1, 1.0, 1.0, 10)
    one = Sum((1,), (), Fraction(1), Fraction(0))
    with pytest.raises(RoundRefused) as refusal:
        combine([one, one], 3, quantiser)
    assert refusal.value.reason == "groups"
    with pytest.raises(LocalError):
        combine([], 1, quantiser)
    with pytest.raises(LocalError):
        combine([one, one], 1, quantiser)
