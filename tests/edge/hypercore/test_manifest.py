"""Manifests: what is refused, and any bytes. That the bytes are the stock ones: tests/interop."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.crypto.hashing import DEFAULT_NAMESPACE
from edge.errors import LocalError, RemoteError
from edge.hypercore.manifest import Manifest, Prologue, Signer
from edge.limits import MANIFEST_USER_DATA_BYTES_MAX, SIGNERS_MAX

KEY = bytes(range(32))
hashes = st.binary(min_size=32, max_size=32)
signers = st.builds(Signer, hashes, hashes)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    version = draw(st.integers(0, 3))
    signed = tuple(draw(st.lists(signers, max_size=4)))
    if version == 0:
        if not signed and draw(st.booleans()):
            return Manifest((), 0, version=0, prologue=Prologue(draw(hashes), 0))
        return Manifest(signed, draw(st.integers(0, len(signed))), version=0, allow_patch=draw(st.booleans()))
    return Manifest(
        signed,
        draw(st.integers(0, len(signed))),
        version=version,
        allow_patch=draw(st.booleans()),
        prologue=draw(st.none() | st.builds(Prologue, hashes, st.integers(0, 2**53 - 1))),
        linked=tuple(draw(st.lists(hashes, max_size=3))) if version > 1 else (),
        user_data=draw(st.none() | st.binary(min_size=1, max_size=300)) if version > 1 else None,
    )


@given(manifests())
def test_decoding_gives_the_manifest_back(manifest: Manifest) -> None:
    data = manifest.encode()
    assert Manifest.decode(data) == manifest
    assert Manifest.decode(data).key() == manifest.key()


@given(manifests(), st.data())
def test_damaged_manifests_are_refused_or_mean_what_they_say(manifest: Manifest, draw: st.DataObject) -> None:
    data = bytearray(manifest.encode())
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    damaged = bytes(data[: draw.draw(st.integers(0, len(data)))])
    try:
        decoded = Manifest.decode(damaged)
    except RemoteError:
        return
    assert decoded.encode() == damaged


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(RemoteError):
        assert Manifest.decode(data).encode() == data


@pytest.mark.parametrize(
    "data",
    [
        "04000000" + "00",  # version 4
        "01100000" + "00",  # an unknown flag
        "01000100" + "00",  # another hash
        "0100000101" + "01" + "00" * 64,  # another signature scheme
        "0100000201" + "00" * 65,  # quorum 2 of 1
        "01000000" + "fd4100" + "00" * 65 * 65,  # 65 signers
        "0104000000" + "01" + "00" * 32,  # linked cores in version 1
        "0208000000" + "00",  # no user data where it is announced
        "0204000000" + "00",  # no linked cores where they are announced
        "01000000" + "fd0000",  # a longer form of a count
        "0100000000" + "00",  # a byte too many
        "000003",  # kind 3 of version 0
        "00000202" + "0000",  # an unknown flag of version 0
    ],
)
def test_what_is_refused(data: str) -> None:
    with pytest.raises(RemoteError):
        Manifest.decode(bytes.fromhex(data))


def test_default_quorum_is_more_than_half() -> None:
    assert [Manifest.multi((KEY,) * n).quorum for n in (1, 2, 3, 4, 5)] == [1, 2, 2, 3, 3]
    assert Manifest.multi((KEY, KEY), quorum=1).quorum == 1
    assert Manifest.single(KEY).signers == (Signer(KEY, DEFAULT_NAMESPACE),)


def test_what_cannot_be_made() -> None:
    signer = Signer(KEY)
    for make in (
        lambda: Manifest((signer,), 2),
        lambda: Manifest((signer,), -1),
        lambda: Manifest((signer,) * (SIGNERS_MAX + 1), 1),
        lambda: Manifest((signer,), 1, version=4),
        lambda: Manifest((signer,), 1, user_data=b"x"),
        lambda: Manifest((signer,), 1, version=2, user_data=b""),
        lambda: Manifest((signer,), 1, version=2, user_data=bytes(MANIFEST_USER_DATA_BYTES_MAX + 1)),
        lambda: Manifest((signer,), 1, version=2, linked=(b"short",)),
        lambda: Manifest((signer,), 1, version=0, prologue=Prologue(KEY, 0)),
        lambda: Manifest.multi(()),
        lambda: Signer(KEY[:31]),
        lambda: Prologue(KEY, -1),
    ):
        with pytest.raises(LocalError):
            make()


def test_signers_are_found_by_key() -> None:
    manifest = Manifest.multi((KEY, KEY[::-1]))
    assert manifest.signer_index(KEY[::-1]) == 1
    assert manifest.signer_index(bytes(32)) is None
