"""A roster in plain words, and as values for --json."""

from collections.abc import Callable, Iterable
from dataclasses import asdict

from edge.cli.lines import one_line
from edge.networks.policy import NetworkPolicy, changed
from edge.networks.roster import Member, Revocation
from edge.networks.roster_bee import RosterState
from edge.networks.roster_codec import InviteState

_SEEN = {
    "private": "raw prices, ranges, trends and model insights are seen by its members",
    "consortium": "price ranges, trends and model insights are seen by its members",
    "public": "trends alone are seen by its members",
}


def describe(
    state: RosterState, epochs: Iterable[int], last_day: Callable[[int], str], *, invitations: bool
) -> list[str]:
    """Lines for people. `epochs`: those whose secrets are here."""
    roster = state.roster
    owners = roster.owners
    known = list(epochs)
    counts = (
        _count(len(roster.members), "member"),
        _count(len(roster.revoked), "revoked", "revoked"),
        _count(len(roster.invited), "open invitation"),
    )
    lines = [
        f"{one_line(roster.name)}: {roster.network} network {roster.network_id.hex()}",
        f"  {_SEEN[roster.network]}{'; anybody may read it' if roster.open else ''}",
        f"  roster version {roster.version}, signed by {_count(len(roster.authorities), 'authority', 'authorities')}",
        f"  key epoch {roster.epoch}; {'its keys are here' if roster.epoch in known else 'its keys are not here'}",
        "  " + ", ".join(counts),
    ]
    lines += ["owners"] * bool(owners)
    lines += [f"  {one_line(owner):<32} {_count(number, 'shop')}" for owner, number in sorted(owners.items())]
    lines += ["members"] * bool(roster.members)
    lines += [_member_line(member) for member in _sorted(roster.members.values())]
    lines += ["revoked"] * bool(roster.revoked)
    lines += [_revoked_line(each) for each in roster.revoked.values()]
    if invitations and state.invites:
        lines.append("invitations")
        for key, invite in state.invites.items():
            until = f"until {last_day(invite.expires)}" if invite.state is InviteState.OPEN else invite.state
            lines.append(f"  {key.hex()[:16]}  {one_line(invite.label):<24} {one_line(invite.owner):<24} {until}")
    lines.append("settings")
    lines += ["  " + line for line in policy_lines(roster.policy)]
    return lines


def summary(state: RosterState, epochs: Iterable[int], *, invitations: bool) -> dict[str, object]:
    """The same as values."""
    roster = state.roster
    found: dict[str, object] = {
        "network": roster.network_id.hex(),
        "kind": roster.network.value,
        "name": roster.name,
        "open": roster.open,
        "version": roster.version,
        "epoch": roster.epoch,
        "epochs_here": list(epochs),
        "authorities": [key.hex() for key in roster.authorities],
        "owners": dict(roster.owners),
        "members": [_member_values(member) for member in _sorted(roster.members.values())],
        "revoked": [
            {
                **_member_values(each.member),
                "epoch": each.epoch,
                "lengths": {kind.name.lower(): length for kind, length in each.lengths.items()},
                "reason": each.reason,
            }
            for each in roster.revoked.values()
        ],
        "open_invitations": len(roster.invited),
        "policy": policy_values(roster.policy),
    }
    if invitations:
        found["invitations"] = [
            {"key": key.hex(), "label": each.label, "owner": each.owner, "state": each.state.value}
            for key, each in state.invites.items()
        ]
    return found


def difference(before: RosterState | None, after: RosterState) -> list[str]:
    """What a change does, line by line."""
    new = after.roster
    if before is None:
        rest = f"key epoch {new.epoch}, signed by {_count(len(new.authorities), 'authority', 'authorities')}"
        lines = [f"founds {one_line(new.name)}, a {new.network} network: {rest}"]
        return lines + ["  " + line for line in policy_lines(new.policy)]
    old = before.roster
    lines = [f"{one_line(new.name)}: version {old.version} becomes {new.version}"]
    lines += [f"admits {_member_line(new.members[id_]).strip()}" for id_ in sorted(new.members.keys() - old.members)]
    gone = sorted(old.members.keys() - new.members)
    lines += [f"revokes {_revoked_line(new.revoked[id_]).strip()}" for id_ in gone if id_ in new.revoked]
    lines += [f"removes {id_.hex()[:8]} without revoking it" for id_ in gone if id_ not in new.revoked]
    for id_ in sorted(new.members.keys() & old.members):
        if new.members[id_] != old.members[id_]:
            lines.append(
                f"changes {_member_line(old.members[id_]).strip()} to {_member_line(new.members[id_]).strip()}"
            )
    invited = sorted(new.invited - old.invited)
    lines += [
        f"invites {one_line(after.invites[key].label)} of {one_line(after.invites[key].owner)}" for key in invited
    ]
    withdrawn = [key for key in old.invited - new.invited if _withdrawn(after, key)]
    lines += [f"withdraws the invitation of {one_line(before.invites[key].label)}" for key in withdrawn]
    if old.epoch != new.epoch:
        lines.append(f"begins key epoch {new.epoch}")
    if old.authorities != new.authorities:
        lines.append("changes the connection keys of the authorities")
    both = changed(old.policy, new.policy)
    lines += [f"sets {name} from {_said(was)} to {_said(is_)}" for name, (was, is_) in both.items()]
    return lines


def policy_lines(policy: NetworkPolicy) -> list[str]:
    """Settings, one a line, as a TOML file would say them."""
    values = policy_values(policy)
    layers = values.pop("privacy")
    lines = [f"{name} = {_said(value)}" for name, value in values.items()]
    assert isinstance(layers, dict)
    return lines + [f"privacy.{name} = {_said(value)}" for name, value in layers.items()]


def policy_values(policy: NetworkPolicy) -> dict[str, object]:
    """Settings by name; the layers' under `privacy`."""
    return asdict(policy)


def _withdrawn(state: RosterState, key: bytes) -> bool:
    return key in state.invites and state.invites[key].state is InviteState.WITHDRAWN


def _sorted(members: Iterable[Member]) -> list[Member]:
    return sorted(members, key=lambda member: (member.owner, member.label, member.id))


def _member_line(member: Member) -> str:
    label = one_line(member.label) or "-"
    since = f"{member.role}, since epoch {member.since_epoch}"
    return f"  {member.id.hex()[:8]}  {label:<24} {one_line(member.owner):<24} {since}"


def _member_values(member: Member) -> dict[str, object]:
    return {
        "id": member.id.hex(),
        "label": member.label,
        "owner": member.owner,
        "role": member.role.value,
        "since_epoch": member.since_epoch,
    }


def _revoked_line(each: Revocation) -> str:
    counted = ", ".join(f"{kind.name.lower()} {length}" for kind, length in each.lengths.items())
    label = one_line(each.member.label) or "-"
    where = f"in epoch {each.epoch}, blocks that count: {counted or 'none'}"
    return f"  {each.member.id.hex()[:8]}  {label:<24} {where}; {one_line(each.reason)}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _said(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
