"""What a closer and fewer than a third of the members see together fits every value of an honest shop."""

import random
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import product

from support_secure_sum import (
    World,
    known_shares,
    make_round,
    people,
    published,
    secrets_of,
    total,
    until_masked,
)

from edge.privacy.secure_sum import Closer
from edge.privacy.secure_sum.boxes import MASK, SELF
from edge.privacy.secure_sum.masks import Vector, pack, pair_mask, secret_key, self_mask, to_vector
from edge.privacy.secure_sum.messages import Keys, Masked
from edge.privacy.secure_sum.rounds import Round
from edge.privacy.secure_sum.shamir import PRIME, weights_at
from edge.privacy.secure_sum.state import State

COLLUDERS, HONEST, LATE, VICTIM = (0, 1, 2), (3, 4, 5, 6, 7, 8), 9, 5
Values = Sequence[tuple[int, ...]]


class MaskSet:
    """All masks of a group as vectors: the real ones at first; any of them may be replaced."""

    def __init__(self, round_: Round, secrets: Sequence[State], keys: dict[int, Keys]) -> None:
        self.round = round_
        size = round_.dimension, round_.bits
        self.own: dict[int, Vector] = {number: self_mask(each.self_seed, *size) for number, each in enumerate(secrets)}
        self.pairs: dict[tuple[int, int], Vector] = {
            (one, other): pair_mask(
                secret_key(secrets[one].mask_seed), keys[other].mask_key, round_.digest, (one, other), size
            )
            for one, other in product(range(len(secrets)), repeat=2)
            if one < other
        }

    def sent(self, number: int, value: Iterable[int]) -> bytes:
        """What the member publishes for this value (noise included) under these masks."""
        found = to_vector(list(value)) + self.own[number]
        for (one, other), mask in self.pairs.items():
            found = found + mask if one == number else found - mask if other == number else found
        return pack(found, self.round.bits)

    def add(self, one: int, other: int, change: Sequence[int]) -> None:
        """Let `one` add so much more for `other`, who then adds so much less."""
        pair, sign = (min(one, other), max(one, other)), 1 if one < other else -1
        self.pairs[pair] = self.pairs[pair] + to_vector([sign * value for value in change])


def plus(value: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(value, other, strict=True))


def test_every_value_of_an_honest_shop_gives_the_same_transcript() -> None:
    """Ten shops; three collude, the closer among them; one honest shop's input arrives after the close.

    For each value that the victim could have contributed there are masks under which every byte that was published is
    the same. Replaced are pair masks between honest survivors, and the late shop's self mask: streams of a cipher under
    keys of which the colluders hold too few shares, so few that any key fits them. (That such streams cannot be told
    from other vectors without the key is the part of X25519 and XSalsa20, and is not tested here.)
    """
    rng = random.Random(6)
    round_ = make_round(people(10), dimension=2, clip=40, noise=Fraction(3))
    values = [(rng.randint(-5, 5), rng.randint(-5, 5)) for _ in range(10)]
    world, secrets = _with_a_late_input(round_, values)
    found = world.result()
    assert found is not None
    assert found.survivors == (*COLLUDERS, *HONEST)

    masks = MaskSet(round_, secrets, published(world, Keys))
    seen = {number: message.packed for number, message in published(world, Masked).items()}
    noise = [_noise_of(masks, number, values[number], seen[number]) for number in range(10)]
    assert sum(value for each in noise for value in each) != 0  # it is really added

    known = known_shares(world, COLLUDERS, secrets)
    for number in HONEST:
        assert len(known[number, SELF]) >= round_.threshold
        _fits_any_seed(known[number, MASK], round_.threshold, rng)
    assert len(known[LATE, MASK]) >= round_.threshold
    _fits_any_seed(known[LATE, SELF], round_.threshold, rng)

    others = [number for number in HONEST if number != VICTIM]
    tried = 0
    for alternative in product(range(-40, 41), repeat=2):
        if sum(value * value for value in alternative) > round_.clip**2:
            continue
        inputs: list[tuple[int, ...]] = list(values)
        inputs[VICTIM] = alternative
        changes = _spread([values[VICTIM][k] - alternative[k] for k in range(2)], len(others))
        for other, change in zip(others, changes, strict=True):  # a world in which the sum is the same ...
            inputs[other] = plus(values[other], change)
            assert sum(value * value for value in inputs[other]) <= round_.clip**2  # ... that could be
            masks.add(VICTIM, other, change)
        assert {number: masks.sent(number, plus(inputs[number], noise[number])) for number in range(10)} == seen
        assert total(inputs, found.survivors) == total(values, found.survivors)
        for other, change in zip(others, changes, strict=True):
            masks.add(VICTIM, other, [-value for value in change])
        tried += 1
    assert tried > 5000

    real = masks.own[LATE]
    for alternative in product(range(-28, 29), repeat=2):
        masks.own[LATE] = real + to_vector([values[LATE][k] - alternative[k] for k in range(2)])
        assert masks.sent(LATE, plus(alternative, noise[LATE])) == seen[LATE]


def test_what_a_masked_input_shows_is_spread_over_all_values() -> None:
    """A sanity check of the masks themselves: the bytes of 2,000 zeros, masked, by each of five members."""
    round_ = make_round(people(5), dimension=2000, clip=1)
    world = World(round_, [(0,) * 2000] * 5, seed=7)
    until_masked(world, world.ids[0])
    for message in published(world, Masked).values():
        counts = [message.packed.count(value) for value in range(256)]
        expected = len(message.packed) / 256
        chi2 = sum((count - expected) ** 2 / expected for count in counts)
        assert 140 < chi2 < 400  # 255 degrees of freedom: five standard deviations


def _with_a_late_input(round_: Round, values: Values) -> tuple[World, list[State]]:
    """A finished round in which everybody saw the late member's masked input, after the close."""
    world = World(round_, values, seed=6)
    secrets = secrets_of(world)
    closer, late = world.ids[0], world.ids[LATE]
    until_masked_by_all_but(world, closer, late)
    assert world.publish(late)
    unseen = world.feeds[late].pop()
    assert world.close(closer)
    world.feeds[late].append(unseen)
    world.offline = set()
    world.settle()
    return world, secrets


def until_masked_by_all_but(world: World, closer: bytes, late: bytes) -> None:
    """Everybody's input is published but one member's, which has read all that it needs for its own."""
    for _ in range(2):
        world.settle()
        assert world.close(closer)
    for writer in world.feeds:
        while world.deliver(late, writer):
            pass
    world.offline = {late}
    world.settle()
    assert Closer(world.boxes[closer].participant.board, closer).arrived() == (2, len(world.ids) - 1)


def _noise_of(masks: MaskSet, number: int, value: Sequence[int], seen: bytes) -> tuple[int, ...]:
    """What the member added: the only small draw that, with the real masks, gives the bytes it published."""
    draws = product(range(-20, 21), repeat=2)
    return next(draw for draw in draws if masks.sent(number, plus(value, draw)) == seen)


def _fits_any_seed(shares: dict[int, int], threshold: int, rng: random.Random) -> None:
    """Through too few shares and any seed there is a polynomial of the degree that its dealer used."""
    assert set(shares) == set(COLLUDERS)
    for seed in (0, 1, PRIME - 1, rng.randrange(PRIME)):
        through = {-1: seed, **shares}  # the seed lies at 0: holder number -1
        for free in range(10, 10 + threshold - len(through)):
            through[free] = rng.randrange(PRIME)
        assert len(through) == threshold
        for holder, share in shares.items():
            weights = weights_at(holder + 1, list(through))
            assert sum(w * each for w, each in zip(weights, through.values(), strict=True)) % PRIME == share


def _spread(change: Sequence[int], parts: int) -> list[tuple[int, ...]]:
    """Vectors that add up to `change`, as equal as whole numbers can be."""
    columns = [[value // parts + (at < value % parts) for at in range(parts)] for value in change]
    return [tuple(column[at] for column in columns) for at in range(parts)]
