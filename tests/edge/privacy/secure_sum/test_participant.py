"""A group's round under random schedules: the sum over the survivors is exact, or the round is cleanly refused."""

import random
from fractions import Fraction

import pytest
from support_secure_sum import NETWORK, World, make_round, people, random_values, total

from edge.errors import LocalError, StorageError
from edge.privacy.secure_sum import Board, Closer, Participant, RoundRefused, Sum, Tally, make_plan
from edge.privacy.secure_sum.messages import Ack, Cut, Keys, Kind, Masked, Reveal, Shares, Step, decode


def messages_of(world: World, kind: type) -> list[tuple[bytes, object]]:
    decoded = [(who, decode(block, world.round.digest)) for who, feed in world.feeds.items() for block in feed]
    return [(who, message) for who, message in decoded if isinstance(message, kind)]


def check_feeds(world: World) -> None:
    """Whatever happened: one message of each kind a member, and everybody who revealed did so for one close."""
    for feed in world.feeds.values():
        messages = [decode(block, world.round.digest) for block in set(feed)]
        kinds = [(type(message), getattr(message, "step", 0)) for message in messages]
        assert len(kinds) == len(set(kinds))
    assert len({message.close for _, message in messages_of(world, Reveal) if isinstance(message, Reveal)}) <= 1


def play(world: World, rng: random.Random, crashes: float = 0.0) -> Sum | None:
    """Up to a third leaves at each stage and returns later; the first closer at hand closes, or gives up in the end."""
    count = len(world.round.members)
    for step in (*Step, None):
        world.offline = set(rng.sample(world.ids, rng.randint(0, count // 3)))
        world.mix(rng.randint(0, 12 * count), crashes)
        if rng.random() < 0.7:
            world.settle()
        if step is None:
            break
        closed = any(world.close(who, least=1) for who in world.round.closers if who not in world.offline)
        if not closed and rng.random() < 0.7:  # wait until some are back
            world.offline = set()
            world.settle()
            closed = any(world.close(who) for who in world.round.closers)
        if not closed:
            world.abort(world.round.closers[0], "too few")
            break
        if rng.random() < 0.2:  # a second closer that has not seen it closes as well
            world.close(world.round.closers[1])
    world.offline = set()
    world.settle()
    check_feeds(world)
    found = outcome(world)
    if found is None:  # two closers split the members: none of their closes has enough acknowledgements
        closes = [each for _, each in messages_of(world, Cut) if isinstance(each, Cut)]
        assert len(closes) > len({each.step for each in closes})
        world.abort(world.round.closers[0], "split")
        world.settle()
        found = outcome(world)
    assert found is not None
    return found if isinstance(found, Sum) else None


def outcome(world: World) -> Sum | str | None:
    """What every member finds, the same for all: the sum, why there is none, or None if it may still come."""
    results: set[Sum | str | None] = set()
    for box in world.boxes.values():
        try:
            results.add(Tally(box.participant.board).result())
        except RoundRefused as refusal:
            results.add(refusal.reason)
    assert len(results) == 1, results
    return results.pop()


def test_everybody_present() -> None:
    round_ = make_round(people(7))
    values = random_values(round_, random.Random(1))
    world = World(round_, values, seed=1)
    world.run()
    found = world.result()
    assert found is not None
    assert found.values == total(values, range(7))
    assert found.survivors == tuple(range(7))
    assert found.weight == 7
    assert found.noise_variance == 0
    assert all(box.participant.done and box.participant.stopped is None for box in world.boxes.values())


@pytest.mark.parametrize("seed", range(16))
def test_thirty_shops_of_fifteen_owners_leave_and_return(seed: int) -> None:
    rng = random.Random(seed)
    plan = make_plan(NETWORK, seed, b"epoch secret", people(15, 2))
    assert [len(group) for group in plan.groups] == [10, 10, 10]
    for group in plan.groups:
        round_ = make_round(group, dimension=rng.randint(1, 4))
        values = random_values(round_, rng)
        world = World(round_, values, seed)
        found = play(world, rng, crashes=0.1)
        if found is not None:
            assert found.values == total(values, found.survivors)
            assert len(found.survivors) >= round_.threshold


@pytest.mark.parametrize("seed", range(6))
def test_thirty_shops_in_one_group(seed: int) -> None:
    rng = random.Random(seed)
    round_ = make_round(people(15, 2), dimension=2)
    values = random_values(round_, rng)
    found = play(World(round_, values, seed), rng, crashes=0.1)
    if found is not None:
        assert found.values == total(values, found.survivors)


def test_most_schedules_give_a_sum_and_some_are_refused() -> None:
    """Else the tests above would prove little."""
    outcomes = []
    for seed in range(40):
        rng = random.Random(1000 + seed)
        round_ = make_round(people(8), dimension=1)
        values = random_values(round_, rng)
        found = play(World(round_, values, seed), rng, crashes=0.2)
        outcomes.append(found is not None)
        if found is not None:
            assert found.values == total(values, found.survivors)
    assert 15 <= sum(outcomes) <= 38


@pytest.mark.soak
def test_many_schedules() -> None:
    for seed in range(1500):
        rng = random.Random(seed)
        round_ = make_round(people(rng.randint(5, 12), rng.randint(1, 2)), dimension=rng.randint(1, 3))
        values = random_values(round_, rng)
        found = play(World(round_, values, seed), rng, crashes=rng.random() / 2)
        assert found is None or found.values == total(values, found.survivors), seed


@pytest.mark.parametrize("step", list(Step))
def test_a_third_may_be_missing_at_each_step_and_comes_back_to_help(step: Step) -> None:
    """They return for the next step: those counted out still hold shares, so that other members may leave then."""
    round_ = make_round(people(9))
    values = random_values(round_, random.Random(3))
    world = World(round_, values, seed=3)
    for each in Step:
        world.offline = set(world.ids[6:]) if each == step else set()
        world.settle()
        assert world.close(world.ids[0])
    world.offline = set(world.ids[3:6])  # others are away while it is revealed
    world.settle()
    found = world.result()
    if (
        step == Step.KEYS
    ):  # nobody shared with those who came after the first cut: six of nine are needed, three are left
        assert found is None
        world.offline = set()
        world.settle()
        found = world.result()
        assert {world.boxes[who].participant.stopped for who in world.ids[6:]} == {"late"}
    assert found is not None
    assert found.survivors == tuple(range(6))
    assert found.values == total(values, range(6))


def test_an_input_after_the_close_counts_nowhere_and_is_not_published() -> None:
    round_ = make_round(people(8))
    values = random_values(round_, random.Random(4))
    world = World(round_, values, seed=4)
    late, later = world.ids[6], world.ids[7]
    for step in Step:
        if step == Step.CLOSE:
            world.offline = {late, later}
        world.settle()
        if step == Step.CLOSE:  # published, but nobody has it when the round is closed
            for writer in world.feeds:
                while world.deliver(late, writer):
                    pass
            world.offline = {late, later}
            world.boxes[late].read[world.ids[0]] = len(world.feeds[world.ids[0]])
            assert world.publish(late)
            unseen = world.feeds[late].pop()
            assert isinstance(decode(unseen, round_.digest), Masked)
        world.close(world.ids[0])
    world.feeds[late].append(unseen)
    world.offline = set()
    world.settle()
    found = world.result()
    assert found is not None
    assert found.survivors == tuple(range(6))
    assert found.values == total(values, range(6))
    published = {who for who, _ in messages_of(world, Masked)}
    assert late in published
    assert later not in published
    assert Kind.MASKED not in world.boxes[later].participant._state.made
    assert world.boxes[later].participant._state.values == ()
    assert {late, later} <= {who for who, _ in messages_of(world, Reveal)}  # both still help to open it


def test_an_older_state_never_says_something_else() -> None:
    """A backup written back at any moment: the member goes on with the same messages, or it stops."""
    stopped = 0
    for seed in range(12):
        rng = random.Random(seed)
        round_ = make_round(people(6), dimension=1)
        values = random_values(round_, rng)
        world = World(round_, values, seed)
        kept: dict[bytes, list[bytes]] = {who: [box.durable] for who, box in world.boxes.items()}
        victim = rng.choice(world.ids[2:])
        for _ in Step:
            for _ in range(4):
                world.mix(20)
                for who, box in world.boxes.items():
                    kept[who].append(box.durable)
                world.restart(victim, rng.choice(kept[victim]))
            world.settle()
            world.close(world.ids[0])
        world.restart(victim, rng.choice(kept[victim]))
        world.settle()
        check_feeds(world)
        stopped += world.boxes[victim].participant.stopped == "state_behind"
        found = world.result()
        assert found is None or found.values == total(values, found.survivors)
    assert stopped > 3


def read_all(world: World, who: bytes) -> None:
    for writer in world.feeds:
        while world.deliver(who, writer):
            pass


def test_an_input_that_was_chosen_but_not_published_stays_here_once_the_round_is_closed() -> None:
    round_ = make_round(people(8))
    world = World(round_, random_values(round_, random.Random(4)), seed=4)
    who = world.ids[7]
    for step in Step:
        if step == Step.CLOSE:
            world.offline = {who}
            read_all(world, who)
            (masked,) = world.boxes[who].participant.next()
            assert isinstance(decode(masked, round_.digest), Masked)
            world.boxes[who].durable = world.boxes[who].participant.export()
        world.settle()
        assert world.close(world.ids[0])
    world.restart(who)  # the power failed between choosing and publishing
    world.offline = set()
    world.settle()
    assert masked not in world.feeds[who]
    assert {type(decode(block, round_.digest)) for block in world.feeds[who]} == {Keys, Shares, Ack, Reveal}


def test_a_state_whose_twin_went_on_publishes_nothing_it_had_chosen() -> None:
    round_ = make_round(people(6))
    world = World(round_, random_values(round_, random.Random(5)), seed=5)
    world.settle()
    world.close(world.ids[0])
    who = world.ids[3]
    before = world.boxes[who].durable
    read_all(world, who)
    (shares,) = world.boxes[who].participant.next()
    chosen = world.boxes[who].participant.export()
    world.restart(who, before)  # its twin draws other polynomials, and publishes them
    read_all(world, who)
    assert world.publish(who)
    assert shares not in world.feeds[who]
    world.restart(who, chosen)
    read_all(world, who)
    assert world.boxes[who].participant.next() == []
    assert world.boxes[who].participant.stopped == "state_behind"


def test_a_copy_of_the_box_elsewhere_stops_ours() -> None:
    round_ = make_round(people(6))
    world = World(round_, random_values(round_, random.Random(5)), seed=5)
    world.settle()
    who = world.ids[3]
    other = Participant(Board(round_), who, (0, 0, 0), random.Random(99).getrandbits)
    world.boxes[who].participant.receive(who, other.next()[0])
    assert world.boxes[who].participant.stopped == "state_behind"
    assert world.boxes[who].participant.next() == []


def test_a_second_closer_takes_over_at_any_step() -> None:
    for silent in Step:
        round_ = make_round(people(6), closers=2)
        values = random_values(round_, random.Random(6))
        world = World(round_, values, seed=6)
        for step in Step:
            world.settle()
            assert world.close(world.ids[0] if step < silent else world.ids[1])
        world.settle()
        found = world.result()
        assert found is not None
        assert found.values == total(values, range(6))


def test_two_closers_who_saw_the_same_agree() -> None:
    round_ = make_round(people(6), closers=2)
    world = World(round_, random_values(round_, random.Random(6)), seed=6)
    world.settle()
    boards = [world.boxes[who].participant.board for who in world.ids[:2]]
    assert Closer(boards[0], world.ids[0]).cut() == Closer(boards[1], world.ids[1]).cut()


def test_an_abort_ends_it() -> None:
    round_ = make_round(people(6))
    world = World(round_, random_values(round_, random.Random(7)), seed=7)
    for _ in range(2):
        world.settle()
        world.close(world.ids[0])
    world.settle()
    world.abort(world.ids[1], "deadline")
    world.settle()
    assert all(box.participant.stopped == "aborted" for box in world.boxes.values())
    with pytest.raises(RoundRefused) as refusal:
        world.result()
    assert refusal.value.reason == "aborted"
    assert not messages_of(world, Reveal)


def test_too_few_or_the_wrong_ones_cannot_be_closed_over() -> None:
    round_ = make_round(people(5))  # five owners: every one is needed
    world = World(round_, random_values(round_, random.Random(8)), seed=8)
    world.offline = {world.ids[4]}
    world.settle()
    with pytest.raises(RoundRefused) as refusal:
        Closer(world.boxes[world.ids[0]].participant.board, world.ids[0]).cut()
    assert refusal.value.reason == "owners"
    world = World(make_round(people(9)), [(0, 0, 0)] * 9, seed=8)
    world.offline = set(world.ids[5:])
    world.settle()
    with pytest.raises(RoundRefused) as refusal:
        Closer(world.boxes[world.ids[0]].participant.board, world.ids[0]).cut()
    assert refusal.value.reason == "members"


def test_secrets_are_forgotten_when_they_are_needed_no_more() -> None:
    round_ = make_round(people(6))
    world = World(round_, [(100, 200, 300)] * 6, seed=9)
    first = world.boxes[world.ids[0]].participant.export()
    state = world.boxes[world.ids[0]].participant._state
    secrets = [state.box_secret, state.mask_seed, state.self_seed]
    assert all(secret in first for secret in secrets)
    world.run()
    last = world.boxes[world.ids[0]].participant.export()
    assert not any(secret in last for secret in secrets)
    assert "100" not in repr(state)


def test_noise_has_the_variance_that_is_claimed() -> None:
    """One run, 400 coordinates, each a draw of the sum's noise."""
    round_ = make_round(people(6), dimension=400, clip=1, noise=Fraction(50))
    world = World(round_, [(0,) * 400] * 6, seed=10)
    world.run()
    found = world.result()
    assert found is not None
    assert found.noise_variance == 300
    assert 0.8 < sum(value**2 for value in found.values) / 400 / 300 < 1.25  # 400 draws: a standard error of 7 %


def test_values_must_be_quantised_and_the_member_known() -> None:
    round_ = make_round(people(6, 2), clip=10)
    for values in ((1, 1), (6, 0, 0), (4, 3, 1)):  # two shops an owner: 5 each
        with pytest.raises(LocalError):
            Participant(Board(round_), round_.members[0].id, values, random.getrandbits)
    Participant(Board(round_), round_.members[0].id, (-4, 3, 0), random.getrandbits)
    with pytest.raises(LocalError):
        Participant(Board(round_), bytes(32), (0, 0, 0), random.getrandbits)
    with pytest.raises(LocalError):
        Closer(Board(round_), round_.members[5].id)


def test_another_rounds_or_broken_state_is_refused() -> None:
    round_ = make_round(people(6))
    state = Participant(Board(round_), round_.members[0].id, (0, 0, 0), random.getrandbits).export()
    other = Board(make_round(people(7)))
    for board, data in ((other, state), (Board(round_), state[:-1]), (Board(round_), b"\x80")):
        with pytest.raises(StorageError):
            Participant.restore(board, data, [], random.getrandbits)
