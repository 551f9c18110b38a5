import random
import secrets
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings as sodium

from edge.crypto.keys import KeyPair
from edge.errors import LocalError, RemoteError, SignatureError
from edge.hyperswarm.secret_stream import MESSAGE_BYTES_MAX, Handshaken, SecretStream
from edge.limits import FRAME_BYTES_MAX, KEEPALIVE_S

KEYS = [KeyPair.from_seed(bytes([number]) * 32) for number in range(3)]


def made(initiator: bool, *, expect: bytes | None = None) -> SecretStream:
    generator = random.Random(int(initiator))
    key_pair = KEYS[0 if initiator else 1]
    return SecretStream(initiator, key_pair, random=generator.randbytes, remote_public_key=expect)


def cut(data: bytes, sizes: Iterable[int]) -> Iterable[bytes]:
    position = 0
    for size in sizes:
        if position >= len(data):
            return
        yield data[position : position + size]
        position += size
    if position < len(data):
        yield data[position:]


def feed(stream: SecretStream, data: bytes, size: int) -> list[Handshaken | bytes]:
    return [event for piece in cut(data, [size] * len(data)) for event in stream.receive_data(piece)]


def joined(size: int = 1 << 20) -> tuple[SecretStream, SecretStream]:
    """Both sides after the handshake, which came in pieces of `size`."""
    left, right = made(True), made(False)
    events: dict[bool, list[Handshaken | bytes]] = {True: [], False: []}
    for _ in range(3):
        events[False] += feed(right, b"".join(left.data_to_send()), size)
        events[True] += feed(left, b"".join(right.data_to_send()), size)
    for initiator, other in ((True, KEYS[1]), (False, KEYS[0])):
        (event,) = events[initiator]
        assert isinstance(event, Handshaken)
        assert event.remote_public_key == other.public_key
    assert left.established
    assert right.established
    return left, right


@pytest.mark.parametrize("size", [1, 2, 3, 7, 58, 59, 60, 1000])
def test_a_handshake_and_messages_cut_anywhere(size: int) -> None:
    left, right = joined(size)
    messages = [bytes([number % 256]) * (number * 13 % 700 + 1) for number in range(100)]
    for message in messages:
        left.send_message(message, now=0.0)
    assert feed(right, b"".join(left.data_to_send()), size) == messages
    right.send_message(b"back", now=0.0)
    assert feed(left, b"".join(right.data_to_send()), size) == [b"back"]
    assert (left.bytes_sent, left.bytes_received) == (right.bytes_received, right.bytes_sent)


@settings(max_examples=50)
@given(
    st.lists(st.binary(max_size=300) | st.integers(0, 70_000).map(bytes), max_size=12),
    st.lists(st.integers(1, 100_000), max_size=12),
)
def test_the_same_messages_come_out_whatever_the_cuts(messages: list[bytes], sizes: list[int]) -> None:
    left, right = joined()
    for message in messages:
        left.send_message(message, now=0.0)
    got = [event for piece in cut(b"".join(left.data_to_send()), sizes) for event in right.receive_data(piece)]
    assert got == [message for message in messages if message]  # empty ones are keepalives
    assert right.partial_bytes == 0


def test_the_largest_message_passes_and_a_larger_one_is_our_mistake() -> None:
    left, right = joined()
    left.send_message(bytes(MESSAGE_BYTES_MAX), now=0.0)
    data = b"".join(left.data_to_send())
    assert [len(event) for event in feed(right, data, 256 * 1024) if isinstance(event, bytes)] == [MESSAGE_BYTES_MAX]
    with pytest.raises(LocalError, match="at most"):
        left.send_message(bytes(MESSAGE_BYTES_MAX + 1), now=0.0)


@pytest.mark.parametrize("length", [0, 1, 16, FRAME_BYTES_MAX + 1, 2**24 - 1])
def test_a_frame_of_no_allowed_length_is_refused_before_it_arrives(length: int) -> None:
    _, right = joined()
    with pytest.raises(RemoteError, match="are allowed") as caught:
        right.receive_data(length.to_bytes(3, "little"))
    assert caught.value.reason == "frame_length"
    with pytest.raises(LocalError, match="failed before"):
        right.receive_data(b"")


@pytest.mark.parametrize("length", [0, 31, 33, 96, 2**24 - 1])
def test_a_handshake_frame_has_its_exact_length(length: int) -> None:
    with pytest.raises(RemoteError, match="it has 32"):
        made(False).receive_data(length.to_bytes(3, "little"))


def test_an_announced_frame_takes_no_memory_before_it_comes() -> None:
    _, right = joined()
    right.receive_data(FRAME_BYTES_MAX.to_bytes(3, "little") + b"x" * 100)
    assert right.partial_bytes == 103
    assert right.partial_size == FRAME_BYTES_MAX + 3
    assert right._partial.__sizeof__() < 1024


def test_a_changed_byte_of_a_frame_is_noticed() -> None:
    left, right = joined()
    left.send_message(b"the price of pears", now=0.0)
    data = bytearray(b"".join(left.data_to_send()))
    data[20] ^= 1
    with pytest.raises(SignatureError) as caught:
        right.receive_data(bytes(data))
    assert caught.value.reason == "frame_mac"


def test_a_replayed_or_dropped_frame_is_noticed() -> None:
    left, right = joined()
    left.send_message(b"one", now=0.0)
    one = b"".join(left.data_to_send())
    left.send_message(b"two", now=0.0)
    two = b"".join(left.data_to_send())
    assert right.receive_data(one) == [b"one"]
    with pytest.raises(SignatureError):
        right.receive_data(one)
    _, other = joined()
    with pytest.raises(SignatureError):
        other.receive_data(two)


@pytest.mark.parametrize("tag", [1, 2, 3])
def test_only_plain_messages_exist(tag: int) -> None:
    left, right = joined()
    frame = sodium.crypto_secretstream_xchacha20poly1305_push(left._push, b"last", tag=tag)
    with pytest.raises(RemoteError, match=f"tag {tag}"):
        right.receive_data(len(frame).to_bytes(3, "little") + frame)


def test_a_header_of_another_stream_is_refused() -> None:
    left, right = made(True), made(False)
    right.receive_data(b"".join(left.data_to_send()))
    left.receive_data(b"".join(right.data_to_send()))
    data = bytearray(b"".join(left.data_to_send()))
    data[3 + 64 + 3] ^= 1  # behind the third handshake message
    with pytest.raises(SignatureError) as caught:
        right.receive_data(bytes(data))
    assert caught.value.reason == "stream_id"


def test_a_peer_with_another_key_than_expected_is_refused() -> None:
    left, right = made(True, expect=KEYS[2].public_key), made(False)
    right.receive_data(b"".join(left.data_to_send()))
    with pytest.raises(SignatureError) as caught:
        left.receive_data(b"".join(right.data_to_send()))
    assert caught.value.reason == "wrong_key"
    left, right = made(True, expect=KEYS[1].public_key), made(False)
    right.receive_data(b"".join(left.data_to_send()))
    assert len(left.receive_data(b"".join(right.data_to_send()))) == 1


def test_a_keepalive_is_sent_after_silence_and_not_delivered() -> None:
    left, right = joined()
    assert left.next_timer() is None
    left.start_keepalive(now=10.0)
    assert left.next_timer() == 10.0 + KEEPALIVE_S
    left.send_message(b"data", now=12.0)
    assert left.next_timer() == 12.0 + KEEPALIVE_S
    assert feed(right, b"".join(left.data_to_send()), 999) == [b"data"]
    left.handle_timer(now=10.0 + KEEPALIVE_S)
    assert left.data_to_send() == []
    left.handle_timer(now=12.0 + KEEPALIVE_S)
    data = b"".join(left.data_to_send())
    assert len(data) == 3 + 17
    assert feed(right, data, 1) == []


def test_nothing_is_sent_before_the_handshake_is_done() -> None:
    stream = SecretStream(False, KEYS[0], random=secrets.token_bytes)
    with pytest.raises(LocalError, match="once the handshake is done"):
        stream.send_message(b"early", now=0.0)


@given(st.binary(max_size=400))
def test_any_bytes_give_events_or_a_remote_error(data: bytes) -> None:
    for initiator in (True, False):
        try:
            assert made(initiator).receive_data(data) == []
        except RemoteError:
            continue
