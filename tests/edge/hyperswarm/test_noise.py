"""Vectors: noise_vectors.json, made by the stock noise-handshake (tests/interop/noise_vectors.mjs)."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_add

from edge.crypto.keys import KeyPair
from edge.errors import LocalError, SignatureError
from edge.hyperswarm.noise import XX, HandshakeState

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "noise_vectors.json").read_text())["vectors"]
LOW_ORDER = [
    bytes(32),  # order 4
    b"\x01" + bytes(31),  # the neutral element
    b"\xec" + b"\xff" * 30 + b"\x7f",  # order 2
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),  # order 8
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),  # order 8
]
NOT_CANONICAL = [b"\xed" + b"\xff" * 30 + b"\x7f", b"\xff" * 32]
OFF_CURVE = [b"\x02" + bytes(31)]


def key(number: int) -> KeyPair:
    return KeyPair.from_seed(bytes([number]) * 32)


def sides(seeds: dict[str, int], prologue: bytes = b"") -> tuple[HandshakeState, HandshakeState]:
    def side(initiator: bool, static: str, ephemeral: str) -> HandshakeState:
        seed = bytes([seeds[ephemeral]]) * 32
        return HandshakeState(XX, initiator, key(seeds[static]), ephemeral_seed=seed, prologue=prologue)

    return side(True, "initiator", "initiator_ephemeral"), side(False, "responder", "responder_ephemeral")


SEEDS = VECTORS[0]["seeds"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"seed {vector['seeds']['initiator']}")
def test_the_stock_handshake_byte_by_byte(vector: dict[str, Any]) -> None:
    initiator, responder = sides(vector["seeds"], bytes.fromhex(vector["prologue"]))
    turns = [(initiator, responder), (responder, initiator), (initiator, responder)]
    for (writer, reader), payload, expected in zip(turns, vector["payloads"], vector["messages"], strict=True):
        size = writer.message_bytes()
        message = writer.write_message(bytes.fromhex(payload))
        assert message.hex() == expected
        assert len(message) == size + len(payload) // 2
        assert reader.read_message(message).hex() == payload
    ours, theirs = initiator.session(), responder.session()
    assert ours.handshake_hash.hex() == theirs.handshake_hash.hex() == vector["handshake_hash"]
    assert ours.send_key.hex() == theirs.receive_key.hex() == vector["initiator_send"]
    assert ours.receive_key.hex() == theirs.send_key.hex() == vector["initiator_receive"]
    assert ours.remote_public_key == key(vector["seeds"]["responder"]).public_key
    assert theirs.remote_public_key == key(vector["seeds"]["initiator"]).public_key


@pytest.mark.parametrize("point", LOW_ORDER + NOT_CANONICAL + OFF_CURVE, ids=lambda point: point.hex()[:8])
def test_a_point_that_is_no_key_is_refused_on_either_side(point: bytes) -> None:
    initiator, responder = sides(SEEDS)
    responder.read_message(point)  # the first message needs no secret
    with pytest.raises(SignatureError, match="main subgroup"):
        responder.write_message()
    initiator.write_message()
    with pytest.raises(SignatureError, match="main subgroup"):
        initiator.read_message(point + bytes(64))


def test_a_key_with_a_low_order_part_is_refused() -> None:
    mixed = crypto_core_ed25519_add(key(9).public_key, LOW_ORDER[3])
    with pytest.raises(SignatureError, match="main subgroup"):
        key(8).agree(mixed)


def test_both_sides_agree_and_others_do_not() -> None:
    assert key(1).agree(key(2).public_key) == key(2).agree(key(1).public_key) != key(3).agree(key(1).public_key)
    with pytest.raises(SignatureError, match="32 bytes, not 31"):
        key(1).agree(bytes(31))


def shake(initiator: HandshakeState, responder: HandshakeState, changed: int, place: int, change: int) -> None:
    turns = [(initiator, responder), (responder, initiator), (initiator, responder)]
    for number, (writer, reader) in enumerate(turns):
        message = bytearray(writer.write_message())
        if number == changed:
            message[place % len(message)] ^= change
        reader.read_message(bytes(message))


@given(st.integers(0, 2), st.integers(0, 95), st.integers(1, 255))
def test_any_changed_byte_is_noticed(number: int, place: int, change: int) -> None:
    initiator, responder = sides(SEEDS)
    with pytest.raises(SignatureError):  # a changed first message is noticed by whoever reads the second
        shake(initiator, responder, number, place, change)


@pytest.mark.parametrize("number", range(3))
def test_a_short_message_is_refused(number: int) -> None:
    initiator, responder = sides(SEEDS)
    turns = [(initiator, responder), (responder, initiator), (initiator, responder)]
    for index, (writer, reader) in enumerate(turns):
        message = writer.write_message()
        if index == number:
            with pytest.raises(SignatureError, match="bytes; it has"):
                reader.read_message(message[:-1])
            return
        reader.read_message(message)


def test_turns_are_kept() -> None:
    initiator, responder = sides(SEEDS)
    with pytest.raises(LocalError, match="peer's turn"):
        responder.write_message()
    with pytest.raises(LocalError, match="our turn"):
        initiator.read_message(bytes(32))
    with pytest.raises(LocalError, match="not complete"):
        initiator.session()
