"""Fuzz entry points of the peer layer: any bytes give events or `RemoteError`, in bounded memory, and nothing else.

Each `fuzz_<machine>(data)` returns quietly or raises what is a defect. They are deterministic: same bytes, same course.
"""

import random
from collections.abc import Callable
from copy import copy
from functools import cache
from typing import Any, Final

from nacl import bindings as sodium

from edge.crypto.keys import KeyPair
from edge.encoding.compact import buffer, string, uint
from edge.errors import RemoteError
from edge.hyperswarm.batch import BatchWriter
from edge.hyperswarm.noise import XX, HandshakeState
from edge.hyperswarm.protomux import Channel, Message, Mux
from edge.hyperswarm.secret_stream import SecretStream
from edge.limits import BATCH_RUN_ITEMS_MAX, CHANNELS_MAX, OPEN_REQUESTS_MAX, UNPAIRED_BYTES_MAX

_Cipher = sodium.crypto_secretstream_xchacha20poly1305_state


@cache
def _key(number: int) -> KeyPair:
    return KeyPair.from_seed(bytes([number]) * 32)


def _random(count: int) -> bytes:
    return random.Random(1).randbytes(count)


def _clone_handshake(handshake: HandshakeState) -> HandshakeState:
    clone = copy(handshake)
    clone._symmetric = copy(handshake._symmetric)
    clone._symmetric.cipher = copy(handshake._symmetric.cipher)
    return clone


def _cipher(state: bytes) -> _Cipher:
    cipher = _Cipher()
    sodium.crypto_secretstream_xchacha20poly1305_init_pull(cipher, bytes(24), bytes(32))  # makes room for a tag
    buffer: Any = cipher.statebuf
    buffer[0 : len(state)] = state
    return cipher


def _clone(stream: SecretStream) -> SecretStream:
    """A stream from which the same stream can be reached again, without the costs of a handshake."""
    clone = copy(stream)
    clone._handshake = _clone_handshake(stream._handshake)
    clone._out, clone._partial = list(stream._out), bytearray(stream._partial)
    clone._push, clone._pull = _cipher(bytes(stream._push.statebuf)), _cipher(bytes(stream._pull.statebuf))
    return clone


@cache
def _turns() -> list[tuple[HandshakeState, bytes]]:
    """For each message of a handshake: who reads it, and the message."""
    initiator = HandshakeState(XX, True, _key(1), ephemeral_seed=_key(2).public_key)
    responder = HandshakeState(XX, False, _key(3), ephemeral_seed=_key(4).public_key)
    turns = []
    for writer, reader in ((initiator, responder), (responder, initiator), (initiator, responder)):
        message = writer.write_message()
        turns.append((_clone_handshake(reader), message))
        reader.read_message(message)
    return turns


def fuzz_noise(data: bytes) -> None:
    """First byte: which message of the handshake; the rest is that message, or is laid over it."""
    which = data[0] if data else 0
    reader, message = _turns()[which % 3]
    reader = _clone_handshake(reader)
    message = data[1:] if which & 0x80 else bytes(a ^ b for a, b in zip(message, data[1:].ljust(96), strict=False))
    try:
        reader.read_message(message)
        if reader.my_turn:
            reader.write_message()
    except RemoteError:
        return


@cache
def _stages() -> list[tuple[SecretStream, bytes]]:
    """A stream in each of its states, and what an honest peer sends next."""
    left = SecretStream(True, _key(1), random=_random)
    right = SecretStream(False, _key(3), random=_random)
    hello = b"".join(left.data_to_send())
    stages = [(_clone(right), hello)]
    right.receive_data(hello)
    answer = b"".join(right.data_to_send())
    stages.append((_clone(left), answer))
    left.receive_data(answer)
    last, header = left.data_to_send()[1::2]
    frames = [len(frame).to_bytes(3, "little") + frame for frame in (last, header)]
    stages.append((_clone(right), b"".join(frames)))
    right.receive_data(frames[0])
    stages.append((_clone(right), frames[1]))
    right.receive_data(frames[1])
    before = _clone(left)
    left.send_message(b"message", now=0.0)
    stages.append((_clone(right), b"".join(left.data_to_send())))
    stages.append((_clone(right), bytes(before._push.statebuf)))  # for `fuzz_open_stream`
    return stages


def fuzz_secret_stream(data: bytes) -> None:
    """First byte: which state (3 bits), and whether the rest comes raw, after, or over what is due; second: cuts."""
    mode, step, data = (data[0] if data else 0), (data[1:2] or b"\0")[0], data[2:]
    stage = (mode & 7) % 5
    stream, due = _stages()[stage]
    stream = _clone(stream)
    way = mode >> 3 & 3
    if way == 1:
        data = due + data
    elif way == 2:
        data = bytes(a ^ b for a, b in zip(due, data.ljust(len(due), b"\0"), strict=False)) + data[len(due) :]
    elif way == 3:
        data = due[: len(data)] + data
    step = step or len(data) + 1
    received = 0
    honest = way == 1 and data == due
    peer = _key(3 if stage == 1 else 1).public_key
    try:
        for position in range(0, len(data), step):
            piece = data[position : position + step]
            received += len(piece)
            for event in stream.receive_data(piece):
                assert event
                assert isinstance(event, bytes) or event.remote_public_key == peer
            assert stream.partial_bytes <= received
    except RemoteError:
        assert not honest
        return


def fuzz_open_stream(data: bytes) -> None:
    """After the handshake. First byte: how the stream is cut. Then pieces: a kind, two bytes of length, so many bytes.

    Kind 0 is raw; any other is encrypted as the peer would, with that number as the tag of the message.
    """
    stream, state = _stages()[-1]
    stream = _clone(stream)
    writer = _cipher(state)
    wire, expected, honest = bytearray(), [], True
    position = 1
    while position < len(data):
        kind, size = data[position], int.from_bytes(data[position + 1 : position + 3], "little")
        piece = data[position + 3 : position + 3 + size]
        position += 3 + size
        if not kind:
            wire += piece
            honest = honest and not piece
            continue
        frame = sodium.crypto_secretstream_xchacha20poly1305_push(writer, piece, None, kind - 1 & 3)
        wire += len(frame).to_bytes(3, "little") + frame
        honest = honest and kind - 1 & 3 == 0
        if honest and piece:
            expected.append(piece)
    step = (data[0] if data else 0) or len(wire) + 1
    events: list[object] = []
    try:
        for at in range(0, len(wire), step):
            events += stream.receive_data(bytes(wire[at : at + step]))
            assert stream.partial_bytes <= at + step
    except RemoteError:
        assert not honest
    if honest:
        assert events == expected
        assert stream.partial_bytes == 0


class _Checker:
    """A handler that closes, opens, answers and objects, as the messages say, and checks what it may hear."""

    def __init__(self, world: "_World") -> None:
        self.world = world
        self.state = "new"

    def opened(self, channel: Channel) -> None:
        assert self.state == "new"
        self.state = "open"
        if channel.remote_handshake[:1] == b"\xee":
            raise RemoteError("a handshake that proves nothing", reason="handshake")

    def received(self, channel: Channel, messages: list[Message]) -> None:
        assert self.state == "open"
        assert 0 < len(messages) <= max(BATCH_RUN_ITEMS_MAX, UNPAIRED_BYTES_MAX // 128)
        for kind, payload in messages:
            assert isinstance(payload, bytes)
            if kind == 0:
                channel.send(1, payload)
            elif kind == 2:
                channel.invalid(RemoteError("not liked", reason="disliked"))
            elif kind == 3:
                channel.close()
                return
            elif kind == 4:
                self.world.open("later", payload[:1] or None)
            elif kind == 5:
                raise RemoteError("the rest of the list too", reason="disliked")
            elif kind == 6:
                self.world.mux.end(None)
                return

    def closed(self, channel: Channel, error: Exception | None) -> None:
        assert self.state != "closed"
        assert channel.closed
        self.state = "closed"


class _World:
    """A mux and its owner: answers "now" at once, "later" later, refuses others."""

    def __init__(self) -> None:
        self.strikes = 0
        self.mux = Mux(on_open_request=self.ask, on_invalid=self.invalid)

    def ask(self, protocol: str, channel_id: bytes | None) -> bool:
        if protocol == "now":
            self.open(protocol, channel_id)
        return protocol == "later"

    def open(self, protocol: str, channel_id: bytes | None) -> None:
        pair = self.mux._pairs.get((protocol, channel_id))
        if not self.mux._ended and (pair is None or pair.channel is None):
            self.mux.open(protocol, channel_id, b"hello", _Checker(self))

    def invalid(self, _channel: Channel, error: RemoteError) -> None:
        self.strikes += 1
        if self.strikes >= 64:
            raise RemoteError("too many", reason="strikes") from error


def fuzz_protomux(data: bytes) -> None:
    """Frames, each after two bytes of length (little endian); the last one may be short."""
    world = _World()
    mux = world.mux
    for number in range(3):
        world.open("now", bytes([number]))
    position = 0
    try:
        while position < len(data):
            size = int.from_bytes(data[position : position + 2], "little")
            frame = data[position + 2 : position + 2 + size]
            position += 2 + size
            mux.receive(frame)
            check_mux(mux)
            mux.out.frames()
    except RemoteError:
        pass
    mux.end(None)
    assert mux.channels == 0


def check_mux(mux: Mux) -> None:
    """The invariants that hold between any two calls."""
    assert mux._requests <= OPEN_REQUESTS_MAX + 1
    assert 0 <= mux._unpaired_bytes <= UNPAIRED_BYTES_MAX
    assert len(mux._remote) <= mux._remote_ids <= CHANNELS_MAX
    assert len(set(mux._free)) == len(mux._free)
    if mux._ended:
        return
    assert not set(mux._free) & set(mux._local)
    assert len(mux._free) + len(mux._local) == mux._local_ids
    waiting = {number for pair in mux._pairs.values() for number in pair.outgoing}
    assert waiting == {number for number, channel in mux._local.items() if not channel.remote_id}
    for number, channel in mux._local.items():
        assert not channel.closed or number in waiting
    for pair in mux._pairs.values():
        assert pair.channel is not None or pair.outgoing or pair.incoming


# --- examples ---------------------------------------------------------------------------------------------------------


def _open(local_id: int, protocol: str, channel_id: bytes | None, handshake: bytes = b"") -> bytes:
    return b"\x00\x01" + uint(local_id) + string(protocol) + buffer(channel_id) + buffer(handshake)


def _batch(*messages: tuple[int, int, bytes]) -> bytes:
    out = BatchWriter(on_waiting=lambda: None, on_batch=lambda: None)
    for channel, kind, payload in messages:
        out.push(channel, kind, payload)
    (frame,) = out.frames()
    return frame


def _frames(*frames: bytes) -> bytes:
    return b"".join(len(frame).to_bytes(2, "little") + frame for frame in frames)


def _pieces(cut: int, *pieces: tuple[int, bytes]) -> bytes:
    parts = [bytes((kind,)) + len(piece).to_bytes(2, "little") + piece for kind, piece in pieces]
    return bytes((cut,)) + b"".join(parts)


_OPENED: Final = [_open(1, "now", b"\x00"), _open(2, "now", b"\x01", b"\xee"), _open(3, "later", None)]
_TALK: Final = [
    _batch((1, 0, b"answer this"), (1, 1, b""), (1, 1, b"x" * 300), (3, 0, b"early")),
    _batch((1, 4, b"z"), (1, 2, b""), (1, 5, b""), (1, 0, b"never")),
    _batch((3, 0, b"y" * 20), (1, 9, b"a kind of a later version")),
]
CORPUS: Final[dict[str, list[bytes]]] = {
    "fuzz_noise": [bytes((which,)) + bytes(size) for which in (0, 1, 2, 0x80, 0x81, 0x82) for size in (0, 32, 96)],
    "fuzz_secret_stream": [
        *(bytes((way << 3 | stage, cut)) for way in (1, 2) for stage in range(5) for cut in (0, 1, 7)),
        *(bytes((2 << 3 | stage, 0)) + bytes(place) + b"\x01" for stage in range(5) for place in (0, 3, 20, 50)),
        b"\x0c\x00" + b"\x11\x00\x00" + bytes(17),
        b"\x0c\x05" + b"\xff\xff\xff",
        b"\x1a\x00" + bytes(70),
    ],
    "fuzz_open_stream": [
        _pieces(0, (1, b"one"), (1, b""), (1, b"two" * 100)),
        _pieces(5, (1, b"one"), (1, b"three" * 50)),
        _pieces(1, (1, b"tagged"), (2, b"push"), (3, b"rekey"), (4, b"final")),
        _pieces(0, (1, b"one"), (0, b"\x10\x00\x00" + bytes(16)), (1, b"two")),
        _pieces(0, (0, b"\xff\xff\xff")),
    ],
    "fuzz_protomux": [
        _frames(*_OPENED),
        _frames(*_OPENED, *_TALK, b"\x00\x03\x01", _open(1, "now", b"\x00"), _TALK[0]),
        _frames(_open(1, "none", b"id"), b"\x00\x02\x01", b"\x00\x03\x02", *_OPENED),
        _frames(*_OPENED, _batch((1, 6, b""))),
        _frames(_open(1, "later", b"1"), _batch((1, 0, b"m" * 250), *[(1, 0, b"")] * 50), b"\x00\x03\x01"),
    ],
}
COSTLY: Final = {"fuzz_protomux": [_frames(*_OPENED, b"\x00\x00\x01" + b"\x01\x01" * 30_000)]}
BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "fuzz_open_stream": (
        8,
        128 * 1024,
    ),  # what the peer encrypts, and what must come of it, are beside what is measured
    "fuzz_protomux": (4, 640 * 1024),  # BATCH_RUN_ITEMS_MAX messages of one byte are handed over together
}
ENTRY_POINTS: Final[list[Callable[[bytes], None]]] = [fuzz_noise, fuzz_secret_stream, fuzz_open_stream, fuzz_protomux]
