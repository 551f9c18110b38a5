"""Entry points for a fuzzer: any bytes give a value or a `RemoteError`, and what was read is read again the same."""

from collections.abc import Callable
from typing import Any, Final

from edge.errors import RemoteError
from edge.hypercore import messages
from edge.hypercore.conflict import decode_conflict
from edge.hypercore.manifest import Manifest, Signer
from edge.hypercore.merkle import Tree
from edge.hypercore.verifier import Verifier

_TREE: Final = Tree().append([b"a", b"b", b"c"])[0]
_SIGNERS: Final = (Signer(bytes(32)), Signer(bytes([1]) * 32))
VERIFIERS: Final = [
    Verifier.of(Manifest(_SIGNERS, 2, version=version, allow_patch=allow))
    for version in (0, 1)
    for allow in (False, True)
]


def _again(decode: Callable[[bytes], Any], data: bytes) -> None:
    try:
        value = decode(data)
    except RemoteError:
        return
    assert decode(value.encode()) == value


def fuzz_handshake(data: bytes) -> None:
    _again(messages.decode_handshake, data)


def fuzz_sync(data: bytes) -> None:
    _again(messages.decode_sync, data)


def fuzz_request(data: bytes) -> None:
    _again(messages.decode_request, data)


def fuzz_cancel(data: bytes) -> None:
    _again(messages.decode_cancel, data)


def fuzz_data(data: bytes) -> None:
    _again(messages.decode_data, data)


def fuzz_no_data(data: bytes) -> None:
    _again(messages.decode_no_data, data)


def fuzz_want(data: bytes) -> None:
    _again(messages.decode_want, data)


def fuzz_unwant(data: bytes) -> None:
    _again(messages.decode_unwant, data)


def fuzz_bitfield(data: bytes) -> None:
    _again(messages.decode_bitfield, data)


def fuzz_range(data: bytes) -> None:
    _again(messages.decode_range, data)


def fuzz_extension(data: bytes) -> None:
    _again(messages.decode_extension, data)


def fuzz_manifest(data: bytes) -> None:
    _again(Manifest.decode, data)


def fuzz_conflict(data: bytes) -> None:
    _again(decode_conflict, data)


def fuzz_signature(data: bytes) -> None:
    for verifier in VERIFIERS:
        try:
            verifier.verify_tree(data, _TREE, 0)
        except RemoteError:
            continue
        raise AssertionError("bytes of nobody's verify")


ENTRY_POINTS: Final = [value for name, value in sorted(globals().items()) if name.startswith("fuzz_")]
