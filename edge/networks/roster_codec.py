"""The entries of a roster, between values and canonical CBOR. Pure; strict: a field that is missing, unknown or of
another type, and a key that nobody knows, is refused (`RecordInvalid`).

    network            {format, kind, name, open, authorities}
    policy             every field of `NetworkPolicy`; `privacy` every field of `PrivacyRules`
    epoch              {number, secret}: the secret is empty but in an open network
    member/ID          {owner, role, label, since, signers}
    revoked/ID         {member, epoch, lengths, reason}
    invite/PUBLIC_KEY  {owner, role, label, expires, state, by}
    sealed/EPOCH/ID    the epoch's secret, sealed to the connection key ID; bare bytes
    version            a whole number

FORMATS.md, "Roster", has the details. IDs and keys are 64 lower-case hexadecimal digits.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from edge.crypto.keys import PUBLIC_KEY_BYTES
from edge.encoding import cbor
from edge.errors import ConfigError, RecordInvalid, RemoteError
from edge.limits import INTEGER_MAX, LABEL_CHARS_MAX, REASON_CHARS_MAX, ROSTER_ENTRY_BYTES_MAX
from edge.networks.access import FEEDS, FeedKind
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import WRITERS, Member, Revocation, Role
from edge.privacy.rules import PrivacyRules
from edge.records.message import Network

FORMAT: Final = 1
EPOCH_DIGITS: Final = 8  # in keys, so that they sort by number
_POLICY: Final = tuple(each.name for each in dataclasses.fields(NetworkPolicy))
_PRIVACY: Final = tuple(each.name for each in dataclasses.fields(PrivacyRules))


class InviteState(StrEnum):
    """What became of an invitation."""

    OPEN = "open"
    USED = "used"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Invite:
    """An invitation as the roster knows it, under its public key."""

    owner: str
    role: Role
    label: str
    expires: int  # the last week in which it can be used
    state: InviteState = InviteState.OPEN
    by: bytes = b""  # id of the member who used it


@dataclass(frozen=True, slots=True)
class Founding:
    """What never changes about a network, but for the connection keys of its authorities."""

    network: Network
    name: str
    open: bool
    authorities: tuple[bytes, ...]


# --- keys ------------------------------------------------------------------------------------------------------------


def member_key(id_: bytes) -> str:
    """Where a member stands."""
    return f"member/{id_.hex()}"


def revoked_key(id_: bytes) -> str:
    """Where its revocation stands."""
    return f"revoked/{id_.hex()}"


def invite_key(public_key: bytes) -> str:
    """Where an invitation stands."""
    return f"invite/{public_key.hex()}"


def sealed_key(epoch: int, id_: bytes) -> str:
    """Where an epoch's secret stands that is sealed to `id_`."""
    return f"sealed/{epoch:0{EPOCH_DIGITS}}/{id_.hex()}"


def key_of(key: str, prefix: str) -> bytes:
    """The 32 bytes at the end of a key."""
    digits = key.removeprefix(prefix)
    if len(digits) == 2 * PUBLIC_KEY_BYTES and all(digit in "0123456789abcdef" for digit in digits):
        return bytes.fromhex(digits)
    raise _wrong(key)


# --- values ----------------------------------------------------------------------------------------------------------


def encode_founding(founding: Founding) -> bytes:
    """Value of `network`."""
    authorities = list(founding.authorities)
    return cbor.encode(
        {
            "format": FORMAT,
            "kind": founding.network.value,
            "name": founding.name,
            "open": founding.open,
            "authorities": authorities,
        }
    )


def decode_founding(data: bytes) -> Founding:
    """Raises `RecordInvalid`."""
    match _value("network", data):
        case {
            "format": int(number),
            "kind": str(kind),
            "name": str(name),
            "open": bool(is_open),
            "authorities": [*keys],
            **rest,
        } if not rest:
            if type(number) is not int or number != FORMAT:
                raise RecordInvalid(f"a roster of format {number}; this software knows {FORMAT}", reason="version")
            if kind not in list(Network) or (is_open and kind != Network.PUBLIC):
                raise _wrong("network")
            authorities = tuple(_key("network", key) for key in keys)
            if not authorities or len(set(authorities)) != len(authorities):
                raise _wrong("network")
            return Founding(Network(kind), _text("network", name, 1), is_open, authorities)
    raise _wrong("network")


def encode_policy(policy: NetworkPolicy) -> bytes:
    """Value of `policy`."""
    fields = {name: getattr(policy, name) for name in _POLICY if name != "privacy"}
    return cbor.encode({**fields, "privacy": {name: getattr(policy.privacy, name) for name in _PRIVACY}})


def decode_policy(data: bytes) -> NetworkPolicy:
    """Raises `RecordInvalid` (reason `policy` where a value is out of range)."""
    fields: Any = _value("policy", data)
    if not isinstance(fields, dict) or set(fields) != set(_POLICY):
        raise _wrong("policy")
    privacy = fields.pop("privacy")
    if not isinstance(privacy, dict) or set(privacy) != set(_PRIVACY):
        raise _wrong("policy")
    try:
        return NetworkPolicy(**fields, privacy=PrivacyRules(**privacy))
    except (ConfigError, ValueError) as error:
        raise RecordInvalid(f"roster: {error}", reason="policy") from error


def encode_epoch(number: int, secret: bytes) -> bytes:
    """Value of `epoch`; the secret stands there in open networks alone."""
    return cbor.encode({"number": number, "secret": secret})


def decode_epoch(data: bytes) -> tuple[int, bytes]:
    """Raises `RecordInvalid`."""
    match _value("epoch", data):
        case {"number": int(number), "secret": bytes(secret), **rest} if not rest and len(secret) in (0, 32):
            return _whole("epoch", number, 1, 10**EPOCH_DIGITS - 1), secret
    raise _wrong("epoch")


def encode_version(version: int) -> bytes:
    """Value of `version`."""
    return cbor.encode(version)


def decode_version(data: bytes) -> int:
    """Raises `RecordInvalid`."""
    value = _value("version", data)
    if not isinstance(value, int):
        raise _wrong("version")
    return _whole("version", value, 1, INTEGER_MAX)


def encode_member(member: Member) -> bytes:
    """Value of `member/ID`."""
    return cbor.encode(_member_value(member))


def decode_member(key: str, data: bytes, network: Network) -> Member:
    """Raises `RecordInvalid`."""
    return _member(key, key_of(key, "member/"), _value(key, data), network)


def encode_revocation(revocation: Revocation) -> bytes:
    """Value of `revoked/ID`."""
    return cbor.encode(
        {
            "member": _member_value(revocation.member),
            "epoch": revocation.epoch,
            "lengths": {int(kind): length for kind, length in revocation.lengths.items()},
            "reason": revocation.reason,
        }
    )


def decode_revocation(key: str, data: bytes, network: Network) -> Revocation:
    """Raises `RecordInvalid`."""
    match _value(key, data):
        case {
            "member": member,
            "epoch": int(epoch),
            "lengths": dict(lengths),
            "reason": str(reason),
            **rest,
        } if not rest:
            found = _member(key, key_of(key, "revoked/"), member, network)
            if len(reason) > REASON_CHARS_MAX or not reason.isprintable():
                raise _wrong(key)
            counted = {kind: _whole(key, length, 0, INTEGER_MAX) for kind, length in _by_kind(key, lengths, network)}
            return Revocation(found, _whole(key, epoch, 1, INTEGER_MAX), counted, reason)
    raise _wrong(key)


def encode_invite(invite: Invite) -> bytes:
    """Value of `invite/PUBLIC_KEY`."""
    return cbor.encode(
        {
            "owner": invite.owner,
            "role": invite.role.value,
            "label": invite.label,
            "expires": invite.expires,
            "state": invite.state.value,
            "by": invite.by,
        }
    )


def decode_invite(key: str, data: bytes) -> Invite:
    """Raises `RecordInvalid`."""
    match _value(key, data):
        case {
            "owner": str(owner),
            "role": str(role),
            "label": str(label),
            "expires": int(expires),
            "state": str(state),
            "by": bytes(by),
            **rest,
        } if not rest and role in list(Role) and state in list(InviteState):
            if len(by) != (PUBLIC_KEY_BYTES if state == InviteState.USED else 0):
                raise _wrong(key)
            texts = _text(key, owner, 1), Role(role), _text(key, label, 0)
            return Invite(*texts, _whole(key, expires, 0, INTEGER_MAX), InviteState(state), by)
    raise _wrong(key)


# --- within ----------------------------------------------------------------------------------------------------------


def _member_value(member: Member) -> dict[str, object]:
    return {
        "owner": member.owner,
        "role": member.role.value,
        "label": member.label,
        "since": member.since_epoch,
        "signers": {int(kind): key for kind, key in member.signers.items()},
    }


def _member(key: str, id_: bytes, value: object, network: Network) -> Member:
    match value:
        case {
            "owner": str(owner),
            "role": str(role),
            "label": str(label),
            "since": int(since),
            "signers": dict(signers),
            **rest,
        } if not rest and role in list(Role):
            pairs = {kind: _key(key, public) for kind, public in _by_kind(key, signers, network)}
            kinds = set(FEEDS[network]) if role in WRITERS else set()
            if set(pairs) != kinds or len(set(pairs.values())) != len(pairs):
                raise _wrong(key)
            since = _whole(key, since, 1, INTEGER_MAX)
            return Member(id_, _text(key, owner, 1), Role(role), pairs, since, _text(key, label, 0))
    raise _wrong(key)


def _by_kind(key: str, values: Mapping[Any, Any], network: Network) -> list[tuple[FeedKind, Any]]:
    if not all(isinstance(number, int) and number in FEEDS[network] for number in values):
        raise _wrong(key)
    return [(FeedKind(number), value) for number, value in values.items()]


def _value(key: str, data: bytes) -> Any:
    try:
        return cbor.decode(data, bytes_max=ROSTER_ENTRY_BYTES_MAX)
    except RemoteError as error:
        raise RecordInvalid(f"roster: the entry {key[:90]!r}: {error}", reason="roster") from error


def _key(key: str, value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != PUBLIC_KEY_BYTES:
        raise _wrong(key)
    return value


def _text(key: str, text: str, chars_min: int) -> str:
    if not chars_min <= len(text) <= LABEL_CHARS_MAX or not text.isprintable():
        raise _wrong(key)
    return text


def _whole(key: str, value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise _wrong(key)
    return value


def _wrong(key: str) -> RecordInvalid:
    return RecordInvalid(f"roster: the entry {key[:90]!r} is not understood", reason="roster")
