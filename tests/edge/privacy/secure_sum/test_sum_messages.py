"""The codec and the board: any bytes give a message of this round or `RemoteError`, which leaves no trace."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_secure_sum import World, make_round, people, random_values

from edge.encoding import cbor
from edge.errors import RemoteError
from edge.privacy.secure_sum import Board, Closer
from edge.privacy.secure_sum.messages import (
    Abort,
    Ack,
    Cut,
    Keys,
    Masked,
    Message,
    Reveal,
    Shares,
    Step,
    decode,
    encode,
)

ROUND = make_round(people(6))
HASHES = st.binary(min_size=32, max_size=32)


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    numbers = draw(st.sets(st.integers(0, 127), min_size=1, max_size=12))
    return Cut(draw(st.sampled_from(Step)), draw(HASHES), tuple(sorted(numbers)), tuple(draw(HASHES) for _ in numbers))


@st.composite
def shares(draw: st.DrawFn) -> Shares:
    count = draw(st.integers(0, 6))
    boxes = [draw(st.binary(min_size=80, max_size=80)) for _ in range(count)]
    digests = [draw(st.binary(min_size=64, max_size=64)) for _ in range(count)]
    return Shares(draw(HASHES), draw(HASHES), tuple(boxes), tuple(digests))


MESSAGES = st.one_of(
    st.builds(Keys, HASHES, HASHES),
    cuts(),
    shares(),
    st.builds(Masked, HASHES, st.binary(max_size=64)),
    st.builds(Ack, HASHES),
    st.builds(Reveal, HASHES, st.lists(st.one_of(st.none(), HASHES), max_size=12).map(tuple)),
    st.builds(Abort, st.text("abc de", min_size=1, max_size=64)),
)


@given(MESSAGES)
def test_messages_survive_the_wire(message: Message) -> None:
    block = encode(message, ROUND.digest)
    assert decode(block, ROUND.digest) == message
    with pytest.raises(RemoteError) as error:
        decode(block, bytes(32))
    assert error.value.reason == "other_round"


def _real_blocks() -> list[tuple[bytes, bytes]]:
    world = World(ROUND, random_values(ROUND, random.Random(1)), seed=1)
    world.run()
    world.feeds[world.ids[1]].append(Closer(world.board(), world.ids[1]).abort("late"))
    return [(who, block) for who, feed in world.feeds.items() for block in feed]


REAL = _real_blocks()


def _mutated(rng: random.Random, block: bytes) -> bytes:
    """Bytes changed, cut, doubled; or another value somewhere inside, encoded well."""
    if rng.random() < 0.5:
        data = bytearray(block)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    del data[at : at + rng.randint(1, 40)]
                case 2:
                    data[at:at] = rng.randbytes(rng.randint(1, 40))
                case _:
                    data = data[: at + 1]
            if not data:
                break
        return bytes(data)
    value = cbor.decode(block)
    assert isinstance(value, list)
    strange: list[object] = [None, -1, 0, 7, 2**40, 0.5, "x", b"", bytes(32), rng.randbytes(32), [], [1], {}, True]
    at = rng.randrange(len(value) + 1)
    if at == len(value):
        value.append(rng.choice(strange))
    elif isinstance(value[at], list) and value[at] and rng.random() < 0.7:
        value[at][rng.randrange(len(value[at]))] = rng.choice(strange)
    else:
        value[at] = rng.choice(strange)
    return cbor.encode(value)


def fuzz(count: int, seed: int) -> int:
    """Refused blocks, of so many; each is checked to have left no trace."""
    rng = random.Random(seed)
    world = World(ROUND, random_values(ROUND, rng), seed)
    world.settle()
    who = world.ids[2]
    participant = world.boxes[who].participant
    refused = 0
    senders = [*world.ids, bytes(32)]
    for _ in range(count):
        sender, block = rng.choice(REAL)
        sender = sender if rng.random() < 0.6 else rng.choice(senders)
        before = participant.export(), dict(participant.board._messages), dict(participant.board._cuts)
        try:
            if sender != who:  # nobody else writes into its own feed
                participant.receive(sender, _mutated(rng, block) if rng.random() < 0.9 else block)
        except RemoteError:
            refused += 1
            if (participant.export(), participant.board._messages, participant.board._cuts) != before:
                raise
        participant.next()
        assert participant.stopped in (None, "late", "aborted")
        if participant.stopped or len(participant.board._messages) > 20:
            world.restart(who)
            participant = world.boxes[who].participant
    return refused


def test_fuzzed_blocks_are_refused_without_a_trace() -> None:
    assert fuzz(4000, seed=1) > 2000


@pytest.mark.soak
def test_a_million_fuzzed_blocks() -> None:
    assert sum(fuzz(50_000, seed) for seed in range(20)) > 500_000


@given(st.binary(max_size=200))
def test_arbitrary_bytes(data: bytes) -> None:
    board = Board(ROUND)
    with pytest.raises(RemoteError):
        board.receive(ROUND.members[0].id, data)
    assert board._messages == {}


@pytest.mark.parametrize(
    ("sender", "message", "reason"),
    [
        (0, Keys(bytes(32), b"\x09" + bytes(31)), "key"),  # a point of low order: everybody knows the agreement
        (0, Keys(b"\x09" + bytes(31), b"\x01" + bytes(31)), "key"),
        (3, Cut(Step.KEYS, ROUND.digest, (0,), (bytes(32),)), "not_a_closer"),
        (3, Abort("no"), "not_a_closer"),
        (None, Ack(bytes(32)), "not_a_member"),
        (0, Cut(Step.KEYS, ROUND.digest, (6,), (bytes(32),)), "malformed"),
        (0, Shares(bytes(32), bytes(32), (bytes(80),) * 7, (bytes(64),) * 7), "malformed"),
        (0, Reveal(bytes(32), (None,) * 7), "malformed"),
        (0, Masked(bytes(32), bytes(5)), "malformed"),
    ],
)
def test_what_cannot_be_of_this_round(sender: int | None, message: Message, reason: str) -> None:
    board = Board(ROUND)
    who = bytes(32) if sender is None else ROUND.members[sender].id
    with pytest.raises(RemoteError) as error:
        board.receive(who, encode(message, ROUND.digest))
    assert error.value.reason == reason
    assert board._messages == {}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ([9, 1, ROUND.digest, 1], "unknown_kind"),
        ([5, 2, ROUND.digest, bytes(32)], "unknown_version"),
        ([5, True, ROUND.digest, bytes(32)], "unknown_version"),
        ([True, 1, ROUND.digest, bytes(32), bytes(32)], "unknown_version"),
        ([5, 1, ROUND.digest, bytes(31)], "malformed"),
        ([5, 1, ROUND.digest, bytes(32), 0], "unknown_kind"),
        ([2, 1, ROUND.digest, 0, bytes(32), [1, 1], bytes(64)], "malformed"),
        ([2, 1, ROUND.digest, 0, bytes(32), [2, 1], bytes(64)], "malformed"),
        ([2, 1, ROUND.digest, 0, bytes(32), [0, 1], bytes(32)], "malformed"),
        ([2, 1, ROUND.digest, 3, bytes(32), [0], bytes(32)], "malformed"),
        ([2, 1, ROUND.digest, 0, bytes(32), [], b""], "malformed"),
        ([2, 1, ROUND.digest, 0, bytes(32), [True], bytes(32)], "malformed"),
        ([3, 1, ROUND.digest, bytes(32), bytes(32), bytes(80), bytes(128)], "malformed"),
        ([3, 1, ROUND.digest, bytes(32), bytes(32), bytes(81), bytes(64)], "malformed"),
        ([6, 1, ROUND.digest, bytes(32), [b""]], "malformed"),
        ([6, 1, ROUND.digest, bytes(32), [None] * 200], "malformed"),
        ([7, 1, ROUND.digest, ""], "malformed"),
        ([7, 1, ROUND.digest, "a\nb"], "malformed"),
        ([7, 1, ROUND.digest, "a" * 65], "malformed"),
        ({}, "malformed"),
    ],
)
def test_bodies_that_break_a_rule(body: object, reason: str) -> None:
    with pytest.raises(RemoteError) as error:
        decode(cbor.encode(body), ROUND.digest)
    assert error.value.reason == reason


def test_the_largest_messages_fit() -> None:
    group = people(64, 2)
    round_ = make_round(group, dimension=4096, clip=2**40)
    hashes = tuple(bytes(32) for _ in group)
    largest: list[Message] = [
        Shares(bytes(32), bytes(32), tuple(bytes(80) for _ in group), tuple(bytes(64) for _ in group)),
        Masked(bytes(32), bytes(round_.dimension * round_.bits // 8)),
        Cut(Step.CLOSE, bytes(32), tuple(range(128)), hashes),
        Reveal(bytes(32), hashes),
    ]
    for message in largest:
        assert decode(encode(message, round_.digest), round_.digest) == message
