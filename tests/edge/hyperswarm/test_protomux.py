import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support_fuzz_swarm import ENTRY_POINTS, check_mux, fuzz_protomux
from support_swarm import Recorder, Side, Strict, exchange

from edge.encoding.compact import string, uint
from edge.errors import LocalError, RemoteError
from edge.hyperswarm.batch import PAYLOAD_BYTES_MAX
from edge.hyperswarm.protomux import Channel
from edge.limits import (
    BATCH_BYTES,
    BATCH_ITEMS_MAX,
    BATCH_RUN_ITEMS_MAX,
    CHANNEL_HANDSHAKE_BYTES_MAX,
    CHANNELS_MAX,
    FRAME_BYTES_MAX,
    OPEN_REQUESTS_MAX,
    UNPAIRED_BYTES_MAX,
)


def pair(*accepts: str) -> tuple[Side, Side]:
    return Side(*accepts), Side(*accepts)


def open_frame(remote_id: int, protocol: str = "p", channel_id: bytes = b"", handshake: bytes = b"") -> bytes:
    return b"\0\1" + uint(remote_id) + string(protocol) + uint(len(channel_id)) + channel_id + handshake


def batch(*items: tuple[int, bytes]) -> bytes:
    """Items of (channel, type and payload)."""
    out, last = [b"\0\0", uint(items[0][0])], items[0][0]
    for channel, item in items:
        if channel != last:
            out.append(b"\0" + uint(channel))
            last = channel
        out.append(uint(len(item)) + item)
    return b"".join(out)


def test_the_bytes_of_every_kind_of_frame() -> None:
    side = Side("p")
    first = side.open("alpha", b"\xaa\xbb", b"HS")
    assert side.mux.out.frames() == [b"\0\1\1\5alpha\2\xaa\xbbHS"]
    second = side.open("b")
    assert side.mux.out.frames() == [b"\0\1\2\1b\0"]
    first.send(7, b"payload")
    assert side.mux.out.frames() == [b"\1\7payload"]
    first.send(0, b"x")
    first.send(300, b"")
    second.send(1, b"y" * 300)
    second.close()
    expected = b"\0\0\1" + b"\2\0x" + b"\3\xfd\x2c\1" + b"\0\2" + b"\xfd\x2d\1\1" + b"y" * 300 + b"\0\0" + b"\2\3\2"
    assert side.mux.out.frames() == [expected]
    side.mux.receive(open_frame(1, "unknown"))
    assert side.mux.out.frames() == [b"\0\2\1"]
    assert side.mux.out.frames() == []


def test_open_messages_and_close() -> None:
    left, right = pair("p")
    channel = left.open("p", b"id", b"hello")
    channel.send(1, b"before the answer")
    exchange(left.mux, right.mux)
    assert right.asked == [("p", b"id")]
    (theirs,) = right.handlers
    assert theirs.messages == [(1, b"before the answer")]
    assert theirs.channel is not None
    assert theirs.channel.remote_handshake == b"hello"
    assert left.handlers[0].heard == ["opened"]
    theirs.channel.send(4, b"")
    theirs.channel.close()
    assert theirs.heard == ["opened", "closed"]
    exchange(left.mux, right.mux)
    assert left.handlers[0].messages == [(4, b"")]
    assert left.handlers[0].heard == ["opened", "closed"]
    channel.send(1, b"to nobody")
    channel.close()
    assert left.mux.out.frames() == []
    assert left.mux.channels == right.mux.channels == 0
    assert left.mux._pairs == right.mux._pairs == {}


def test_a_refused_channel_is_closed_without_having_been_open() -> None:
    left, right = pair()
    left.open("p")
    exchange(left.mux, right.mux)
    assert left.handlers[0].heard == ["closed"]
    assert left.mux._free == [1]


def test_both_open_at_once_and_nobody_is_asked() -> None:
    left, right = pair()
    left.open("p", b"x", b"L")
    right.open("p", b"x", b"R")
    exchange(left.mux, right.mux)
    assert left.asked == right.asked == []
    assert left.handlers[0].heard == right.handlers[0].heard == ["opened"]


def test_ids_are_reused_last_in_first_out() -> None:
    left, right = pair("p")
    channels = [left.open("p", bytes([number])) for number in range(3)]
    exchange(left.mux, right.mux)
    channels[0].close()
    channels[2].close()
    exchange(left.mux, right.mux)
    assert [left.open("p", bytes([number])).local_id for number in (7, 8, 9)] == [3, 1, 4]


def test_an_id_is_not_free_before_the_peer_has_answered() -> None:
    left, right = pair("p")
    left.open("p").close()
    second = left.open("p")
    assert second.local_id == 2
    exchange(left.mux, right.mux)
    assert [handler.heard for handler in left.handlers] == [["closed"], ["opened"]]
    assert left.mux._free == [1]


def test_answers_belong_to_opens_in_their_order() -> None:
    left, right = pair("p")
    channels = [left.open("p")]
    for _ in range(3):
        channels[-1].close()
        channels.append(left.open("p"))
    exchange(left.mux, right.mux)
    assert [channel.opened for channel in channels] == [False, False, False, True]
    assert sorted(left.mux._free) == [1, 2, 3]
    channels[-1].send(0, b"to the last")
    exchange(left.mux, right.mux)
    assert [handler.messages for handler in right.handlers] == [[], [], [], [(0, b"to the last")]]


def test_a_channel_is_open_once() -> None:
    side = Side()
    side.open("p", b"x")
    with pytest.raises(LocalError, match="open already"):
        side.open("p", b"x")
    assert side.open("p", None).local_id == side.open("p", b"y").local_id - 1
    with pytest.raises(LocalError, match="open already"):
        side.open("p", b"")  # the empty id is none


def test_what_comes_for_a_closed_channel_is_dropped_until_the_peer_knows() -> None:
    left, right = pair("p")
    channel = left.open("p")
    exchange(left.mux, right.mux)
    theirs = right.handlers[0].channel
    assert theirs is not None
    theirs.send(0, b"late")
    channel.close()
    exchange(left.mux, right.mux)
    assert left.handlers[0].messages == []
    assert right.handlers[0].heard == ["opened", "closed"]


class Later(Side):
    """Puts every answer off."""

    def ask(self, protocol: str, channel_id: bytes | None) -> bool:  # type: ignore[override]
        self.asked.append((protocol, channel_id))
        return True


def test_an_answer_may_come_later() -> None:
    left, right = Side(), Later()
    channel = left.open("p", b"x", b"hello")
    left.open("p", b"y")
    channel.send(0, b"kept")
    exchange(left.mux, right.mux)
    channel.send(0, b"kept too")
    exchange(left.mux, right.mux)
    assert left.handlers[0].heard == []
    right.open("p", b"x")
    assert right.handlers[0].heard == []  # the owner has the channel before the handler hears of it
    right.mux.settle()
    assert right.handlers[0].messages == [(0, b"kept"), (0, b"kept too")]
    assert right.mux._unpaired_bytes == 0
    right.mux.refuse("p", b"y")
    right.mux.refuse("p", b"y")
    right.mux.refuse("p", b"never asked")
    exchange(left.mux, right.mux)
    assert [handler.heard for handler in left.handlers] == [["opened"], ["closed"]]


def test_a_request_that_is_taken_back_is_answered_by_a_refusal() -> None:
    left, right = Side(), Later()
    channel = left.open("p")
    channel.send(0, b"kept in vain")
    exchange(left.mux, right.mux)
    channel.close()
    exchange(left.mux, right.mux)
    assert (right.mux._requests, right.mux._unpaired_bytes, right.mux._pairs) == (0, 0, {})
    assert left.mux._free == [1]


def test_a_request_answered_and_closed_in_one_turn() -> None:
    left, right = Side(), Later()
    left.open("p").send(0, b"never heard")
    exchange(left.mux, right.mux)
    right.open("p").close()
    exchange(left.mux, right.mux)
    assert right.handlers[0].heard == ["closed"]
    assert left.handlers[0].heard == ["opened", "closed"]
    check_mux(right.mux)


def test_a_request_that_a_handler_answers_while_the_peer_takes_it_back_in_the_same_batch() -> None:
    side, late = Later(), Recorder()

    class Answers(Recorder):
        def received(self, channel: Channel, messages: list[Any]) -> None:
            side.mux.open("p", b"late", b"", late)

    side.mux.open("p", b"first", b"", Answers())
    side.mux.receive(open_frame(1, "p", b"first"))
    side.mux.receive(open_frame(2, "p", b"late"))
    side.mux.receive(batch((1, b"\1answer"), (2, b"\1a"), (0, b"\3\2")))
    assert late.heard == ["opened", "closed"]
    assert late.messages == [(1, b"a")]
    check_mux(side.mux)


def test_an_alias_pairs_what_was_asked_under_another_name() -> None:
    left, right = Side(), Later()
    left.open("old", b"x")
    exchange(left.mux, right.mux)
    handler = Recorder()
    right.mux.open("new", b"x", b"", handler, aliases=("old",))
    right.mux.settle()
    assert handler.heard == ["opened"]
    handler.channel.close() if handler.channel else None
    assert right.mux._pairs == {}


def test_messages_of_a_batch_come_together_in_their_order() -> None:
    left, right = pair("p")
    one, two = left.open("p", b"1"), left.open("p", b"2")
    exchange(left.mux, right.mux)
    for channel, count in ((one, 3), (two, 2), (one, 1)):
        for number in range(count):
            channel.send(number, b"x")
    exchange(left.mux, right.mux)
    assert [handler.runs for handler in right.handlers] == [[3, 1], [2]]


def test_a_long_batch_is_handed_over_in_parts_and_too_long_a_one_is_refused() -> None:
    side = Side("p")
    side.mux.receive(open_frame(1))
    side.mux.receive(b"\0\0\1" + b"\1\5" * BATCH_ITEMS_MAX)
    assert side.handlers[0].runs == [BATCH_RUN_ITEMS_MAX] * (BATCH_ITEMS_MAX // BATCH_RUN_ITEMS_MAX)
    with pytest.raises(RemoteError, match=f"more than {BATCH_ITEMS_MAX} items"):
        side.mux.receive(b"\0\0\1" + b"\1\5" * (BATCH_ITEMS_MAX + 1))


@pytest.mark.parametrize("size", [1, 64])
def test_a_batch_of_small_items_takes_at_most_four_times_its_bytes(size: int) -> None:
    side = Side()

    class Forgets(Recorder):
        def received(self, channel: Channel, messages: list[Any]) -> None:
            self.runs.append(len(messages))

    handler = Forgets()
    side.mux.open("p", None, b"", handler)
    side.mux.receive(open_frame(1))
    frame = b"\0\0\1" + (uint(size) + bytes(size)) * BATCH_ITEMS_MAX
    tracemalloc.start()
    try:
        side.mux.receive(frame)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(handler.runs) == BATCH_ITEMS_MAX
    assert peak <= 3 * len(frame)  # beside the frame itself


def test_what_is_sent_leaves_in_batches_that_fit_a_frame() -> None:
    side = Side()
    channel = side.open("p")
    side.mux.out.frames()
    for _ in range(100):
        channel.send(0, bytes(10_000))
    channel.send(0, bytes(PAYLOAD_BYTES_MAX - 1))
    frames = side.mux.out.frames()
    assert max(len(frame) for frame in frames[:-1]) <= BATCH_BYTES + 1024
    assert len(frames) == 5
    assert len(frames[-1]) + 17 <= FRAME_BYTES_MAX
    with pytest.raises(LocalError, match="at most"):
        channel.send(0, bytes(PAYLOAD_BYTES_MAX))


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"\1", "malformed"),  # no type
        (b"\xfd\1", "malformed"),
        (b"\5\0", "channel"),  # never opened
        (b"\0\0", "malformed"),
        (b"\0\0\1\0", "malformed"),  # a switch to nothing
        (b"\0\0\5\1\0", "channel"),
        (b"\0\0\1\5\0", "batch"),  # an item longer than the frame
        (b"\0\0\1\1\xfd", "malformed"),  # a type longer than its item
        (batch((0, b"\0\1\1\0")), "batch"),  # a batch within a batch
        (b"\0\1", "malformed"),
        (open_frame(3), "channel"),  # ids grow by one
        (open_frame(1), "channel"),  # in use
        (open_frame(2, "x" * 257), "too_large"),
        (open_frame(2, "x", bytes(257)), "too_large"),
        (open_frame(2, "x", b"", bytes(CHANNEL_HANDSHAKE_BYTES_MAX + 1)), "too_large"),
        (b"\0\1\2\2\xff\xff\0", "malformed"),  # a name that is no text
        (b"\0\2\1", "channel"),  # refuses what is open
        (b"\0\2\x09", "channel"),
        (b"\0\3", "malformed"),
        (b"\0\2\xff" + b"\xff" * 8, "range"),
    ],
)
def test_what_breaks_the_rules_is_refused(frame: bytes, reason: str) -> None:
    side = Side("p")
    side.mux.receive(open_frame(1))
    side.mux.receive(b"")
    side.mux.receive(b"\0\x09what a later version sends")
    with pytest.raises(RemoteError) as caught:
        side.mux.receive(frame)
    assert caught.value.reason == reason


def test_an_open_of_the_control_channel_is_refused() -> None:
    side = Side("p")
    side.mux.receive(open_frame(0))
    assert side.mux.out.frames() == [b"\0\2\0"]
    side.mux.receive(b"\0\3\0")
    assert side.asked == []


def test_unanswered_requests_are_bounded() -> None:
    side = Later()
    for number in range(OPEN_REQUESTS_MAX):
        side.mux.receive(open_frame(number + 1, "p", uint(number)))
    assert side.mux.out.frames() == []
    side.mux.receive(open_frame(OPEN_REQUESTS_MAX + 1, "p", b"more"))
    assert side.mux.out.frames() == [b"\0\2" + uint(OPEN_REQUESTS_MAX + 1)]
    check_mux(side.mux)


def test_messages_before_the_answer_are_bounded() -> None:
    side = Later()
    side.mux.receive(open_frame(1))
    side.mux.receive(b"\1\0" + bytes(UNPAIRED_BYTES_MAX - 1000))
    with pytest.raises(RemoteError) as caught:
        side.mux.receive(b"\1\0" + bytes(1000))
    assert caught.value.reason == "unpaired"
    side = Later()
    side.mux.receive(open_frame(1))
    with pytest.raises(RemoteError):
        side.mux.receive(b"\0\0\1" + b"\1\5" * 4096)  # small ones count with what they cost


def test_channels_are_bounded_on_either_side() -> None:
    left, right = Side(), Side("p")
    for number in range(CHANNELS_MAX):
        left.open("p", uint(number))
    with pytest.raises(RemoteError) as caught:
        left.open("p", b"more")
    assert caught.value.reason == "channels"
    exchange(left.mux, right.mux)
    with pytest.raises(RemoteError):
        right.mux.receive(open_frame(CHANNELS_MAX + 1, "p", b"more"))


def test_invalid_messages_are_counted_and_the_rest_is_heard() -> None:
    side = Side()
    handler = Strict()
    side.mux.open("p", None, b"", handler)
    side.mux.receive(open_frame(1))
    side.mux.receive(batch((1, b"\1a"), (1, b"\2b"), (1, b"\3c")))
    assert [error.reason for error in side.invalid] == ["disliked"] * 3
    assert len(handler.messages) == 3


class Refuses(Recorder):
    """Raises for whatever it hears."""

    def opened(self, channel: Channel) -> None:
        super().opened(channel)
        if channel.remote_handshake:
            raise RemoteError("proves nothing", reason="capability")

    def received(self, channel: Channel, messages: list[Any]) -> None:
        raise RemoteError("not a message", reason="garbage")


def test_a_handler_that_raises_abandons_its_list_and_a_bad_handshake_closes() -> None:
    side = Side()
    handler, other = Refuses(), Refuses()
    side.mux.open("p", b"1", b"", handler)
    side.mux.open("p", b"2", b"", other)
    side.mux.receive(open_frame(1, "p", b"1"))
    side.mux.receive(batch((1, b"\1a"), (1, b"\2b")))
    side.mux.receive(open_frame(2, "p", b"2", b"wrong"))
    assert [error.reason for error in side.invalid] == ["garbage", "capability"]
    assert (handler.heard, other.heard) == (["opened"], ["opened", "closed"])
    check_mux(side.mux)


def test_the_end_is_heard_once_by_everybody_and_nothing_after_it() -> None:
    side = Side("p")
    side.open("q")
    side.mux.receive(open_frame(1))
    side.mux.end(RemoteError("gone", reason="idle"))
    side.mux.end(None)
    assert [handler.heard for handler in side.handlers] == [["closed"], ["opened", "closed"]]
    assert all(isinstance(handler.error, RemoteError) for handler in side.handlers)
    side.mux.receive(batch((1, b"\1a")))
    with pytest.raises(RemoteError, match="has ended"):
        side.open("z")
    assert side.mux.out.frames() == []


def test_a_handler_may_end_it_all_in_the_midst_of_a_batch() -> None:
    side = Side("p")

    class Ends(Recorder):
        def received(self, channel: Channel, messages: list[Any]) -> None:
            super().received(channel, messages)
            side.mux.end(None)

    first, second = Ends(), Recorder()
    side.mux.open("p", b"1", b"", first)
    side.mux.open("p", b"2", b"", second)
    side.mux.receive(open_frame(1, "p", b"1"))
    side.mux.receive(open_frame(2, "p", b"2"))
    side.mux.receive(batch((1, b"\1a"), (2, b"\1b"), (0, b"\3\1"), (1, b"\1a")))
    assert (first.runs, second.runs) == ([1], [])


# --- a model beside the machine -------------------------------------------------------------------------------------


class Muxes(RuleBasedStateMachine):
    """Two muxes, frames between them held back at will. The model: who wants which channel, and what was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = (Side("p"), Later())
        self.wires: tuple[list[bytes], list[bytes]] = ([], [])
        self.live: list[dict[bytes, tuple[Channel, Recorder]]] = [{}, {}]
        self.sent: dict[int, list[bytes]] = {}  # by id() of the sender's channel
        self.everything: list[tuple[Channel, Recorder]] = []
        self.count = 0

    keys = st.sampled_from([b"a", b"b", b"c"])
    which = st.integers(0, 1)

    def _adopt(self) -> None:
        """Channels that a side opened by itself, as the answer to a request."""
        for number, side in enumerate(self.sides):
            for channel in list(side.mux._local.values()):
                handler = channel.handler
                assert isinstance(handler, Recorder)
                if (channel, handler) not in self.everything:
                    self.everything.append((channel, handler))
                    self.sent[id(channel)] = []
                if not channel.closed:
                    self.live[number][channel.id or b""] = (channel, handler)
            self.live[number] = {key: it for key, it in self.live[number].items() if not it[0].closed}

    @rule(number=which, key=keys)
    def open(self, number: int, key: bytes) -> None:
        if key not in self.live[number]:
            self.sides[number].open("p", key, key)
        else:
            with pytest.raises(LocalError):
                self.sides[number].open("p", key)
        self._adopt()

    @rule(number=which, key=keys)
    def close(self, number: int, key: bytes) -> None:
        if key in self.live[number]:
            channel, handler = self.live[number][key]
            channel.close()
            assert handler.heard[-1] == "closed"
        self._adopt()

    @rule(number=which, key=keys)
    def reopen(self, number: int, key: bytes) -> None:
        """The answer to the first open is then no answer to the second."""
        if key in self.live[number]:
            self.live[number][key][0].close()
            self.sides[number].open("p", key, key)
        self._adopt()

    @rule(number=which, key=keys, count=st.integers(1, 5))
    def send(self, number: int, key: bytes, count: int) -> None:
        if key in self.live[number]:
            channel, _ = self.live[number][key]
            for _ in range(count):
                self.count += 1
                channel.send(1, b"%d" % self.count)
                self.sent[id(channel)].append(b"%d" % self.count)

    @rule(key=keys)
    def refuse(self, key: bytes) -> None:
        self.sides[1].mux.refuse("p", key)

    @rule(number=which)
    def flush(self, number: int) -> None:
        self.wires[number].extend(self.sides[number].mux.out.frames())

    @rule(number=which, count=st.integers(1, 10))
    def carry(self, number: int, count: int) -> None:
        wire = self.wires[number]
        for frame in wire[:count]:
            self.sides[1 - number].mux.receive(frame)
        del wire[:count]
        self._adopt()

    @precondition(lambda self: self.count > 0)
    @rule()
    def settle_down(self) -> None:
        """Everything arrives and is answered: then both sides have the same channels."""
        for _ in range(8):
            for number in (0, 1):
                self.flush(number)
                self.carry(number, 10_000)
            for protocol, channel_id in self.sides[1].asked:
                assert protocol == "p"
                pair = self.sides[1].mux._pairs.get((protocol, channel_id))
                if pair is not None and pair.incoming:
                    self.sides[1].open(protocol, channel_id)
                    self.sides[1].mux.settle()
            self._adopt()
        assert self.live[0].keys() == self.live[1].keys()
        for key, (channel, handler) in self.live[0].items():
            other, other_handler = self.live[1][key]
            assert channel.opened
            assert other.opened
            assert (channel.local_id, channel.remote_id) == (other.remote_id, other.local_id)
            assert [payload for _, payload in handler.messages] == self.sent[id(other)]
            assert [payload for _, payload in other_handler.messages] == self.sent[id(channel)]

    @invariant()
    def bounded_and_consistent(self) -> None:
        for side in self.sides:
            check_mux(side.mux)
            assert side.invalid == []
        for channel, handler in self.everything:
            assert handler.heard in ([], ["opened"], ["closed"], ["opened", "closed"])
            assert channel.closed == ("closed" in handler.heard)


TestMuxes = Muxes.TestCase
TestMuxes.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


# --- any bytes -----------------------------------------------------------------------------------------------------

ITEMS = st.tuples(st.integers(0, 6), st.binary(max_size=6)).map(lambda it: bytes([it[0]]) + it[1])
FRAMES = st.one_of(
    st.builds(open_frame, st.integers(0, 6), st.sampled_from(["now", "later", "no"]), st.binary(max_size=1)),
    st.builds(open_frame, st.integers(0, 6), st.just("now"), st.binary(max_size=1), st.just(b"\xee")),
    st.builds(lambda kind, number: bytes([0, kind, number]), st.integers(2, 3), st.integers(0, 6)),
    st.builds(lambda number, item: bytes([number]) + item, st.integers(0, 6), ITEMS),
    st.lists(st.tuples(st.integers(0, 6), ITEMS), min_size=1, max_size=6).map(lambda items: batch(*items)),
    st.binary(max_size=12),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(FRAMES, max_size=12))
def test_frames_of_any_kind_in_any_order(frames: list[bytes]) -> None:
    fuzz_protomux(b"".join(len(frame).to_bytes(2, "little") + frame for frame in frames))


@pytest.mark.parametrize("fuzz", ENTRY_POINTS)
@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes(fuzz: Any, data: bytes) -> None:
    fuzz(data)
