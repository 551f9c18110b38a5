"""What each operation changes in a roster: from the state before to keys and values. Pure; how to seal is an argument.

Every function raises `ConfigError` (the person who asked for it is wrong) or, where a joining box asks, `RecordInvalid`
with the reason that the box is told: `foreign`, `used`, `withdrawn`, `expired`, `revoked`, `member`, `owner`, `full`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from edge.errors import ConfigError, RecordInvalid
from edge.limits import (
    LABEL_CHARS_MAX,
    REASON_CHARS_MAX,
    ROSTER_AUTHORITIES_MAX,
    ROSTER_INVITES_MAX,
    ROSTER_MEMBERS_MAX,
    SEALED_EPOCHS_KEPT,
)
from edge.networks import roster_codec as codec
from edge.networks.access import FeedKind
from edge.networks.joining import JoinRequest
from edge.networks.policy import NetworkPolicy, check_owners
from edge.networks.roster import WRITERS, Member, Revocation, Role, Roster
from edge.networks.roster_bee import Change, RosterState
from edge.networks.roster_codec import Founding, Invite, InviteState

Seal = Callable[[bytes, bytes], bytes]
"""(message, public key) → sealed; `edge.crypto.keys.seal`."""

Changes = list[Change]
FIRST_EPOCH: Final = 1
REMEMBERED_WEEKS: Final = 13  # after an invitation has expired, so that who tries it is told why it fails


@dataclass(frozen=True, slots=True)
class Guest:
    """Whom an invitation is for. The owner is what is counted; the label is for people."""

    owner: str
    role: Role = Role.SHOP
    label: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.owner) <= LABEL_CHARS_MAX or not self.owner.isprintable():
            raise ConfigError("owner", f"1 to {LABEL_CHARS_MAX} printable characters")
        if len(self.label) > LABEL_CHARS_MAX or not self.label.isprintable():
            raise ConfigError("label", f"at most {LABEL_CHARS_MAX} printable characters")


def founding(content: Founding, policy: NetworkPolicy, secret: bytes, seal: Seal) -> Changes:
    """The first version of a roster: nobody but its authorities, epoch 1 with `secret`."""
    if not 1 <= len(content.name) <= LABEL_CHARS_MAX or not content.name.isprintable():
        raise ConfigError("name", f"1 to {LABEL_CHARS_MAX} printable characters")
    if not 1 <= len(content.authorities) <= ROSTER_AUTHORITIES_MAX:
        raise ConfigError("signers", f"1 to {ROSTER_AUTHORITIES_MAX} of them")
    return [
        ("network", codec.encode_founding(content)),
        ("policy", codec.encode_policy(policy)),
        *_epoch(FIRST_EPOCH, secret, content.authorities, seal, open_=content.open),
    ]


def invitation(state: RosterState, guests: Mapping[bytes, Guest], expires: int, week: int) -> Changes:
    """Invitations by their public keys, to be used up to week `expires`; forgets what expired long before `week`."""
    kept = {key: invite for key, invite in state.invites.items() if invite.expires + REMEMBERED_WEEKS >= week}
    if expires < week:
        raise ConfigError("expires", "that week is over")
    if len(kept) + len(guests) > ROSTER_INVITES_MAX:
        raise ConfigError("count", f"{len(kept)} invitations wait or were used lately; at most {ROSTER_INVITES_MAX}")
    waiting = [invite.owner for invite in kept.values() if invite.state is InviteState.OPEN]
    owners = {*_owners(state.roster), *waiting, *(guest.owner for guest in guests.values())}
    check_owners(state.roster.network, state.roster.policy, owners)
    forgotten: Changes = [(codec.invite_key(key), None) for key in state.invites if key not in kept]
    invites = {key: Invite(guest.owner, guest.role, guest.label, expires) for key, guest in guests.items()}
    return forgotten + [(codec.invite_key(key), codec.encode_invite(invite)) for key, invite in invites.items()]


def withdrawal(state: RosterState, keys: Iterable[bytes]) -> Changes:
    """Invitations that nobody may use any more."""
    changes: Changes = []
    for key in keys:
        invite = state.invites.get(key)
        if invite is None or invite.state is not InviteState.OPEN:
            raise ConfigError(key.hex()[:16], "no such invitation is open")
        changes.append((codec.invite_key(key), codec.encode_invite(replace(invite, state=InviteState.WITHDRAWN))))
    return changes


def admission(state: RosterState, request: JoinRequest, secret: bytes | None, week: int, seal: Seal) -> Changes:
    """The box of `request` becomes a member; no changes: it is one already, by this invitation.

    `secret` is the current epoch's; None in an open network, where it stands in the roster.
    """
    roster = state.roster
    invite = state.invites.get(request.invite)
    if request.network_id != roster.network_id or invite is None:
        raise RecordInvalid("this code is not one of this network's", reason="foreign")
    if invite.state is InviteState.USED and invite.by in roster.revoked:
        raise RecordInvalid("the box that used this code was revoked; ask for a new code", reason="revoked")
    if invite.state is InviteState.USED and invite.by == request.id and request.id in roster.members:
        return []
    if invite.state is InviteState.USED:
        raise RecordInvalid("this code was used already; each is for one box", reason="used")
    if invite.state is InviteState.WITHDRAWN:
        raise RecordInvalid("this code was withdrawn", reason="withdrawn")
    if invite.expires < week:
        raise RecordInvalid("this code has expired; ask for a new one", reason="expired")
    _check_newcomer(roster, request, invite)
    signers = request.signers if invite.role in WRITERS else {}
    member = Member(request.id, invite.owner, invite.role, signers, roster.epoch, invite.label)
    used = replace(invite, state=InviteState.USED, by=request.id)
    changes: Changes = [
        (codec.member_key(member.id), codec.encode_member(member)),
        (codec.invite_key(request.invite), codec.encode_invite(used)),
    ]
    if not roster.open:
        if secret is None:
            raise ConfigError("epoch", f"the secret of epoch {roster.epoch} is not here; it is needed to admit anybody")
        changes.append((codec.sealed_key(roster.epoch, member.id), seal(secret, member.id)))
    return changes


def revocation(
    state: RosterState, id_: bytes, lengths: Mapping[FeedKind, int], *, reason: str, secret: bytes, seal: Seal
) -> Changes:
    """`id_` is a member no more; its feeds of this epoch count up to `lengths` (0 where none is given).

    The network moves to a new epoch with `secret`, sealed to everybody who stays.
    """
    roster = state.roster
    member = roster.members.get(id_)
    if id_ in roster.revoked:
        raise ConfigError(id_.hex()[:16], "is revoked already")
    if member is None:
        raise ConfigError(id_.hex()[:16], "is no member")
    if id_ in roster.authorities:
        raise ConfigError(id_.hex()[:16], "is an authority of this network, whose own box is not revoked")
    if len(reason) > REASON_CHARS_MAX or not reason.isprintable():
        raise ConfigError("reason", f"at most {REASON_CHARS_MAX} printable characters")
    if not set(lengths) <= set(member.signers) or any(length < 0 for length in lengths.values()):
        raise ConfigError("length", "of a kind of feed that this member does not write, or below 0")
    counted = {kind: lengths.get(kind, 0) for kind in member.signers}
    gone = Revocation(member, roster.epoch, counted, reason)
    return [
        (codec.member_key(id_), None),
        (codec.revoked_key(id_), codec.encode_revocation(gone)),
        *_epoch(roster.epoch + 1, secret, _recipients(roster, without=id_), seal, open_=roster.open),
    ]


def rotation(state: RosterState, secret: bytes, seal: Seal) -> Changes:
    """The network moves to a new epoch with `secret`."""
    roster = state.roster
    return _epoch(roster.epoch + 1, secret, _recipients(roster), seal, open_=roster.open)


def new_policy(state: RosterState, policy: NetworkPolicy) -> Changes:
    """Other settings, lawful for the owners who are there."""
    check_owners(state.roster.network, policy, _owners(state.roster))
    return [("policy", codec.encode_policy(policy))]


def oldest_sealed(epoch: int) -> int:
    """The first epoch whose sealed secrets the roster still keeps once `epoch` is the current one."""
    return max(1, epoch - SEALED_EPOCHS_KEPT + 1)


# --- within ----------------------------------------------------------------------------------------------------------


def _epoch(number: int, secret: bytes, recipients: Sequence[bytes], seal: Seal, *, open_: bool) -> Changes:
    changes: Changes = [("epoch", codec.encode_epoch(number, secret if open_ else b""))]
    if not open_:
        changes += [(codec.sealed_key(number, id_), seal(secret, id_)) for id_ in recipients]
    return changes


def _recipients(roster: Roster, without: bytes = b"") -> list[bytes]:
    return sorted({*roster.members, *roster.authorities} - {without})


def _owners(roster: Roster) -> set[str]:
    return {member.owner for member in roster.members.values()}


def _check_newcomer(roster: Roster, request: JoinRequest, invite: Invite) -> None:
    if request.id in roster.revoked:
        raise RecordInvalid("this box was revoked; it needs new keys", reason="revoked")
    if request.id in roster.members:
        raise RecordInvalid("this box is a member already", reason="member")
    known = {key for each in roster.members.values() for key in each.signers.values()}
    known |= {key for each in roster.revoked.values() for key in each.member.signers.values()}
    if not known.isdisjoint(request.signers.values()):
        raise RecordInvalid("this box signs with keys that stand in the roster already", reason="member")
    if len(roster.members) >= ROSTER_MEMBERS_MAX:
        raise RecordInvalid(f"the network has {ROSTER_MEMBERS_MAX} members", reason="full")
    try:
        check_owners(roster.network, roster.policy, {*_owners(roster), invite.owner})
    except ConfigError as error:
        raise RecordInvalid(f"the network cannot take this owner: {error}", reason="owner") from error
