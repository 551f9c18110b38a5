"""One-time invitation codes: what a new box is told by a person, so that it trusts nobody else at first sight.

A code names the network (its roster's key), what the roster is encrypted with, who hands it out (a fingerprint of the
authority's connection key), and a seed. The seed is a key pair, whose public key stands in the roster as invited: a box
that connects with it is admitted by key before anything else is said, and a stranger is not. A code is used once.

As text it is six lines of five groups of five characters, in Crockford's base32 (no I, L, O, U; small letters, spaces
and dashes are as good). The last two characters of a line are check characters of a Reed-Solomon code over GF(32), so
that one mistyped character of a line is named, and more are noticed; three bytes at the end check the whole.
FORMATS.md, "Invitation code".
"""

from dataclasses import dataclass, field
from typing import Final

from edge.crypto.hashing import HASH_BYTES, hash256
from edge.crypto.keys import KeyPair, new_secret
from edge.errors import ConfigError, LocalError
from edge.networks.folder import ROOT_BYTES
from edge.records.message import Network

VERSION: Final = 1
SEED_BYTES: Final = 16
FINGERPRINT_BYTES: Final = 16
LINES: Final = 6
GROUP: Final = 5  # characters; five groups a line
_LINE: Final = 5 * GROUP
_DATA: Final = _LINE - 2  # of a line, without its check characters
_CHECK_BYTES: Final = 3
_BYTES: Final = 3 + HASH_BYTES + ROOT_BYTES + SEED_BYTES + FINGERPRINT_BYTES
_PADDING: Final = LINES * _DATA * 5 - 8 * (_BYTES + _CHECK_BYTES)  # bits; zero
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ_AS: Final = str.maketrans({"O": "0", "I": "1", "L": "1"})
_KINDS: Final = (Network.PRIVATE, Network.CONSORTIUM, Network.PUBLIC)
_OPEN: Final = 8
_WEEKS: Final = 1 << 16
_SEED: Final = b"pomona/invitation/seed/1"
_AUTHORITY: Final = b"pomona/invitation/authority/1"
_CHECK: Final = b"pomona/invitation/check/1"


def _powers() -> tuple[int, ...]:
    """Powers of the generator of GF(32), polynomial x^5 + x^2 + 1."""
    found = [1]
    for _ in range(30):
        value = found[-1] << 1
        found.append(value ^ 0b100101 if value & 32 else value)
    return tuple(found)


_POWER: Final = _powers()
_LOG: Final = {value: exponent for exponent, value in enumerate(_POWER)}


def _times(value: int, exponent: int) -> int:
    """`value` times the generator to `exponent`."""
    return _POWER[(_LOG[value] + exponent) % 31] if value else 0


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a code says."""

    network: Network
    network_id: bytes
    root: bytes | None = field(repr=False)  # of the roster's encryption; None: the network is open
    seed: bytes = field(repr=False)
    authority: bytes  # fingerprint of its connection key
    expires: int  # the last week in which the code can be used

    def __post_init__(self) -> None:
        sizes = (len(self.network_id), len(self.seed), len(self.authority))
        if sizes != (HASH_BYTES, SEED_BYTES, FINGERPRINT_BYTES) or not 0 <= self.expires < _WEEKS:
            raise LocalError("an invitation's parts have fixed sizes")
        if (self.root is None and self.network is not Network.PUBLIC) or len(
            self.root or bytes(ROOT_BYTES)
        ) != ROOT_BYTES:
            raise LocalError("an invitation's root has 16 bytes")

    @classmethod
    def new(
        cls, network: Network, network_id: bytes, root: bytes | None, authority_key: bytes, expires: int
    ) -> "Invitation":
        """With a seed of its own; `authority_key` is the connection key of who takes it back."""
        return cls(network, network_id, root, new_secret()[:SEED_BYTES], fingerprint(authority_key), expires)

    @property
    def key_pair(self) -> KeyPair:
        """What the joining box connects with; the public key stands in the roster."""
        return KeyPair.from_seed(hash256(_SEED, self.seed))

    def of_authority(self, connection_key: bytes) -> bool:
        """Whether `connection_key` is that of who handed the code out."""
        return fingerprint(connection_key) == self.authority

    def text(self) -> str:
        """The code on one line, in groups joined by dashes."""
        return "-".join(group for line in self.lines() for group in line)

    def lines(self) -> list[list[str]]:
        """The code as it is printed: lines of groups."""
        head = VERSION << 4 | (0 if self.root is not None else _OPEN) | _KINDS.index(self.network)
        data = bytes((head,)) + self.expires.to_bytes(2, "big") + self.network_id
        data += (self.root or bytes(ROOT_BYTES)) + self.seed + self.authority
        number = int.from_bytes(data + hash256(_CHECK, data)[:_CHECK_BYTES], "big") << _PADDING
        symbols = [number >> 5 * place & 31 for place in reversed(range(LINES * _DATA))]
        found = []
        for start in range(0, len(symbols), _DATA):
            line = _with_checks(symbols[start : start + _DATA])
            text = "".join(_ALPHABET[symbol] for symbol in line)
            found.append([text[at : at + GROUP] for at in range(0, _LINE, GROUP)])
        return found

    @classmethod
    def parse(cls, text: str) -> "Invitation":
        """The invitation that somebody typed. Raises `ConfigError` that says what is wrong, and where."""
        symbols = _symbols(text)
        number = 0
        for line in range(LINES):
            part = symbols[line * _LINE : (line + 1) * _LINE]
            _check_line(line, part)
            for symbol in part[:_DATA]:
                number = number << 5 | symbol
        data = (number >> _PADDING).to_bytes(_BYTES + _CHECK_BYTES, "big")
        body, check = data[:_BYTES], data[_BYTES:]
        if check != hash256(_CHECK, body)[:_CHECK_BYTES] or number & ((1 << _PADDING) - 1):
            raise _wrong("its lines do not belong together: one is missing, swapped or of another code")
        if body[0] >> 4 != VERSION:
            raise _wrong(f"it is of version {body[0] >> 4}; this software knows {VERSION}")
        kind, is_open = body[0] & 7, bool(body[0] & _OPEN)
        if kind >= len(_KINDS) or (is_open and _KINDS[kind] is not Network.PUBLIC):
            raise _wrong("it is of a kind of network that this software does not know")
        at = 3 + HASH_BYTES
        root, seed, authority = (body[at + 16 * part : at + 16 * part + 16] for part in range(3))
        expires = int.from_bytes(body[1:3], "big")
        return cls(_KINDS[kind], body[3:at], None if is_open else root, seed, authority, expires)


def fingerprint(connection_key: bytes) -> bytes:
    """What a code says of a connection key: 16 bytes, of which nobody finds another key with the same."""
    return hash256(_AUTHORITY, connection_key)[:FINGERPRINT_BYTES]


# --- characters ------------------------------------------------------------------------------------------------------


def _symbols(text: str) -> list[int]:
    """Values of the characters, `LINES` lines of them; `ConfigError` for one that no code has, or another number."""
    found: list[int] = []
    for character in text.upper().translate(_READ_AS):
        if character.isspace() or character == "-":
            continue
        if character not in _ALPHABET:
            raise _wrong(f"{_place(len(found))} is {character!r}, which no code has")
        found.append(_ALPHABET.index(character))
    if len(found) != LINES * _LINE:
        groups = [group for group in text.replace("-", " ").split() if len(group) != GROUP]
        where = f"; look at the group {groups[0]!r}" if len(groups) == 1 else ""
        raise _wrong(f"it has {len(found)} characters instead of {LINES * _LINE}{where}")
    return found


def _with_checks(symbols: list[int]) -> list[int]:
    """A line with its two check characters, so that both sums of `_check_line` are zero."""
    plain = weighted = 0
    for place, symbol in enumerate(symbols):
        plain ^= symbol
        weighted ^= _times(symbol, place)
    # a ^ b == plain, and a * g^23 ^ b * g^24 == weighted
    rest = weighted ^ _times(plain, _DATA)
    last = _times(rest, -_LOG[_POWER[_DATA] ^ _POWER[_DATA + 1]])
    return [*symbols, plain ^ last, last]


def _check_line(number: int, symbols: list[int]) -> None:
    plain = weighted = 0
    for place, symbol in enumerate(symbols):
        plain ^= symbol
        weighted ^= _times(symbol, place)
    if not plain and not weighted:
        return
    if plain and weighted:
        place = (_LOG[weighted] - _LOG[plain]) % 31
        if place < _LINE:
            typed, right = _ALPHABET[symbols[place]], _ALPHABET[symbols[place] ^ plain]
            raise _wrong(f"{_place(number * _LINE + place)} is mistyped: {typed!r} should probably be {right!r}")
    raise _wrong(f"line {number + 1} has several mistyped characters")


def _place(index: int) -> str:
    """Where a character stands, as a person counts."""
    line, rest = divmod(index, _LINE)
    group, place = divmod(rest, GROUP)
    return f"character {place + 1} of group {line * 5 + group + 1} (line {line + 1}, group {group + 1})"


def _wrong(why: str) -> ConfigError:
    return ConfigError("invitation code", why)
