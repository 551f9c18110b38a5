"""XSalsa20, the bare stream cipher of block encryption, from the libsodium that PyNaCl brings along.

PyNaCl has no binding for it (only for the authenticated secretbox), so the symbol is called through ctypes. PyNaCl's
wheels export libsodium's functions; where they do not (a PyNaCl built another way), the system's libsodium is used.
Spec: libsodium, "Stream ciphers > XSalsa20". The cipher authenticates nothing: the Merkle tree does.
"""

import ctypes
import ctypes.util
import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Final

from edge.errors import LocalError

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 24
SYMBOL: Final = "crypto_stream_xsalsa20_xor"

_Xor = Callable[[ctypes.Array[ctypes.c_char], bytes, ctypes.c_ulonglong, bytes, bytes], int]


def xor(data: bytes, nonce: bytes, key: bytes) -> bytes:
    """`data` combined with the key stream of (`key`, `nonce`): encrypts, and decrypts when applied again.

    Raises `LocalError` if a length is wrong or no libsodium offers the cipher.
    """
    if len(nonce) != NONCE_BYTES or len(key) != KEY_BYTES:
        raise LocalError(f"XSalsa20 takes a nonce of {NONCE_BYTES} and a key of {KEY_BYTES} bytes")
    size = len(data)
    out = ctypes.create_string_buffer(size)
    if _xsalsa20_xor()(out, data, ctypes.c_ulonglong(size), nonce, key) != 0:
        raise LocalError("libsodium refused to encrypt")
    return out.raw


@cache
def _xsalsa20_xor() -> _Xor:
    binding = importlib.util.find_spec("nacl._sodium")  # in the wheels, this extension module is libsodium itself
    for path in (binding.origin if binding else None, ctypes.util.find_library("sodium")):
        if path is None:
            continue
        try:
            library = ctypes.CDLL(path)
            function = getattr(library, SYMBOL)
        except (OSError, AttributeError):
            continue
        if library.sodium_init() < 0:
            continue
        function.restype = ctypes.c_int
        function.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulonglong, ctypes.c_char_p, ctypes.c_char_p)
        return function  # type: ignore[no-any-return]
    raise LocalError(
        f"no libsodium exports {SYMBOL}, which encrypted feeds need: install PyNaCl from its wheel, "
        "or the system's libsodium (Debian: apt install libsodium23)"
    )
