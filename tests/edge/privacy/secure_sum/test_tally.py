"""Who cheats, and what it gets: closers that equivocate, dealers and revealers that lie."""

import random
from itertools import product

import pytest
from support_secure_sum import (
    World,
    known_shares,
    make_round,
    people,
    published,
    random_values,
    secrets_of,
    total,
    until_masked,
)

from edge.errors import RemoteError
from edge.privacy.secure_sum import Board, Closer, RoundRefused, Tally
from edge.privacy.secure_sum.boxes import MASK, SELF, seal
from edge.privacy.secure_sum.messages import Ack, Cut, Masked, Reveal, Step, cut_digest, decode, encode

PARTICIPANT = "edge.privacy.secure_sum.participant"


# --- closers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [7, 10, 12])
def test_a_closer_that_shows_two_closes_never_gets_both_kinds_of_shares(count: int) -> None:
    """It shows one half a close with the victim and the other half one without, and its accomplices hold to both."""
    opened = set()
    for split in range(count + 1):
        round_ = make_round(people(count))
        values = random_values(round_, random.Random(split))
        world = World(round_, values, seed=split)
        secrets = secrets_of(world)
        colluders = range(-(-count // 3) - 1)  # fewer than a third, the closer among them
        closer, victim = world.ids[0], count - 1
        until_masked(world, closer)
        board = world.boxes[closer].participant.board
        honest = Closer(board, closer).cut()
        assert honest is not None
        cut = decode(honest, round_.digest)
        assert isinstance(cut, Cut)
        without = encode(Cut(cut.step, cut.parent, cut.numbers[:-1], cut.digests[:-1]), round_.digest)
        shown = (honest, without)
        for number in range(len(colluders), count):
            half = int(number >= split)
            participant = world.boxes[world.ids[number]].participant
            participant.receive(closer, shown[half])
            digest = cut_digest(shown[half])
            for accomplice in colluders:
                participant.receive(world.ids[accomplice], encode(Ack(digest), round_.digest))
        world.offline = {world.ids[number] for number in colluders}  # they do not follow the protocol any more
        _exchange(world)
        known = known_shares(world, colluders, secrets)
        for dealer in range(count):
            enough = [len(known[dealer, which]) >= round_.threshold for which in (SELF, MASK)]
            assert not all(enough)
        closes = {reveal.close for reveal in published(world, Reveal).values()}
        assert len(closes) <= 1
        opened |= {shown.index(close) for close in shown if cut_digest(close) in closes}
        if closes == {cut_digest(without)}:
            assert len(known[victim, SELF]) < round_.threshold
        else:
            assert len(known[victim, MASK]) < round_.threshold
    assert opened == {0, 1}  # where nearly all were shown one of them, it is what they open


def _exchange(world: World) -> None:
    """Honest members read each other, not the colluders."""
    for _ in range(3):
        for who in world.online():
            world.publish(who)
        for reader, writer in product(world.online(), world.online()):
            for block in world.feeds[writer]:
                if reader != writer:
                    world.boxes[reader].participant.receive(writer, block)


def test_a_second_close_by_one_closer_is_refused() -> None:
    round_ = make_round(people(6))
    world = World(round_, random_values(round_, random.Random(1)), seed=1)
    until_masked(world, world.ids[0])
    board = world.board()
    block = Closer(board, world.ids[0]).cut()
    assert block is not None
    board.receive(world.ids[0], block)
    cut = decode(block, round_.digest)
    assert isinstance(cut, Cut)
    other = encode(Cut(cut.step, cut.parent, cut.numbers[1:], cut.digests[1:]), round_.digest)
    with pytest.raises(RemoteError) as error:
        board.receive(world.ids[0], other)
    assert error.value.reason == "equivocation"
    assert board.receive(world.ids[0], block) is False


def test_a_close_over_too_few_or_with_what_was_not_published_is_not_followed() -> None:
    round_ = make_round(people(8))
    world = World(round_, random_values(round_, random.Random(2)), seed=2)
    closer = world.ids[0]
    until_masked(world, closer)
    block = Closer(world.board(), closer).cut()
    assert block is not None
    cut = decode(block, round_.digest)
    assert isinstance(cut, Cut)
    few = Cut(cut.step, cut.parent, cut.numbers[:5], cut.digests[:5])  # threshold is 6
    strange = Cut(cut.step, bytes(32), cut.numbers, cut.digests)
    skipped = Cut(Step.CLOSE, round_.digest, cut.numbers, cut.digests)
    forged = Cut(cut.step, cut.parent, cut.numbers, (bytes(32),) * 8)
    for bad in (few, strange, skipped, forged):
        world.feeds[closer].append(encode(bad, round_.digest))
        for reader in world.ids[1:]:
            participant = world.boxes[reader].participant
            board = Board(round_)
            copy = type(participant).restore(board, participant.export(), world.feeds[reader], random.getrandbits)
            for writer, feed in world.feeds.items():
                for each in feed:
                    if writer != reader:
                        copy.receive(writer, each)
            assert copy.next() == []
            assert not any(isinstance(decode(made, round_.digest), Ack) for made in copy._state.made.values())
        world.feeds[closer].pop()


# --- members ---------------------------------------------------------------------------------------------------------


def test_shares_that_lie_are_passed_over() -> None:
    """Two of seven reveal other bytes: five good shares of each seed are enough."""
    round_ = make_round(people(7))
    values = random_values(round_, random.Random(3))
    world = World(round_, values, seed=3)
    world.run()
    board = Board(round_)
    for number, who in enumerate(world.ids):
        for block in world.feeds[who]:
            message = decode(block, round_.digest)
            if isinstance(message, Reveal) and number in (2, 5):
                wrong = Reveal(message.close, tuple(bytes(32) for _ in message.shares))
                block = encode(wrong, round_.digest)  # noqa: PLW2901 - what its feed says instead
            board.receive(who, block)
    found = Tally(board).result()
    assert found is not None
    assert found.values == total(values, range(7))


@pytest.mark.parametrize("fault", ["commitment", "shares", "boxes"])
def test_a_dealer_that_lies_is_named_or_leaves_the_round_open(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    round_ = make_round(people(7))
    world = World(round_, random_values(round_, random.Random(4)), seed=4)
    world.settle()
    world.close(world.ids[0])
    liar = world.ids[3]
    for writer in world.feeds:
        while world.deliver(liar, writer):
            pass
    with monkeypatch.context() as patch:
        if fault == "shares":  # each share is what its digest says, but they lie on no polynomial of the degree
            patch.setattr(f"{PARTICIPANT}.split", lambda secret, threshold, holders, bits: [bits(200) for _ in holders])
        elif fault == "commitment":
            patch.setattr(f"{PARTICIPANT}.commitment", lambda seed: bytes(32))
        else:
            patch.setattr(f"{PARTICIPANT}.seal", lambda *rest: (bytes(80), seal(*rest)[1]))
        world.publish(liar)
    world.settle()
    world.close(world.ids[0])
    world.settle()
    world.close(world.ids[0])
    world.settle()
    assert all(box.participant.done for box in world.boxes.values())
    if fault == "boxes":
        assert world.result() is None
        assert all(reveal.shares[3] is None for reveal in published(world, Reveal).values())
    else:
        with pytest.raises(RoundRefused, match="member 3") as refusal:
            world.result()
        assert refusal.value.reason == "dealer"


def test_a_masked_input_that_is_not_the_closes_is_not_summed() -> None:
    """Its feed forked: the tally has read another input than the closer."""
    round_ = make_round(people(7))
    world = World(round_, random_values(round_, random.Random(5)), seed=5)
    world.run()
    board = Board(round_)
    for who in world.ids:
        for block in world.feeds[who]:
            message = decode(block, round_.digest)
            if isinstance(message, Masked) and who == world.ids[2]:
                block = encode(Masked(message.parent, bytes(len(message.packed))), round_.digest)  # noqa: PLW2901
            board.receive(who, block)
    assert Tally(board).result() is None
