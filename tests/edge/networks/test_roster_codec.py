"""Entries of a roster: read as they were written, and refused in every other form."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_roster import Joiner

from edge.encoding import cbor
from edge.errors import RecordInvalid
from edge.networks import roster_codec as codec
from edge.networks.access import FEEDS, FeedKind
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import WRITERS, Member, Revocation, Role
from edge.networks.roster_codec import Founding, Invite, InviteState
from edge.privacy.rules import PrivacyRules
from edge.records.message import Network

texts = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=64)


@st.composite
def members(draw: st.DrawFn, network: Network = Network.CONSORTIUM) -> Member:
    joiner, role = Joiner(draw(st.integers(0, 99))), draw(st.sampled_from(Role))
    signers = {kind: pair.public_key for kind, pair in joiner.signers(network).items()} if role in WRITERS else {}
    return Member(joiner.identity.public_key, draw(texts), role, signers, draw(st.integers(1, 99)), draw(texts))


@st.composite
def revocations(draw: st.DrawFn) -> Revocation:
    member = draw(members())
    lengths = {kind: draw(st.integers(0, 2**40)) for kind in member.signers}
    return Revocation(member, draw(st.integers(1, 99)), lengths, draw(texts))


@st.composite
def invites(draw: st.DrawFn) -> Invite:
    state = draw(st.sampled_from(InviteState))
    by = bytes(32) if state is InviteState.USED else b""
    return Invite(draw(texts), draw(st.sampled_from(Role)), draw(texts), draw(st.integers(0, 9999)), state, by)


@given(members())
def test_members(member: Member) -> None:
    data = codec.encode_member(member)
    assert codec.decode_member(codec.member_key(member.id), data, Network.CONSORTIUM) == member


@given(revocations())
def test_revocations(revocation: Revocation) -> None:
    key = codec.revoked_key(revocation.member.id)
    assert codec.decode_revocation(key, codec.encode_revocation(revocation), Network.CONSORTIUM) == revocation


@given(invites())
def test_invites(invite: Invite) -> None:
    assert codec.decode_invite("invite/" + "00" * 32, codec.encode_invite(invite)) == invite


@given(st.integers(1, 30), st.floats(0.01, 1.0), st.booleans(), st.integers(1, 2000))
def test_policies(owners: int, share: float, live: bool, epsilon: int) -> None:
    rules = PrivacyRules(epsilon_milli=epsilon, owners_min=30)
    policy = NetworkPolicy(owners_min=owners, owner_share_max=share, live_use=live, privacy=rules)
    assert codec.decode_policy(codec.encode_policy(policy)) == policy


def test_the_rest() -> None:
    founding = Founding(Network.PUBLIC, "signals", True, (bytes(32), b"1" * 32))
    assert codec.decode_founding(codec.encode_founding(founding)) == founding
    assert codec.decode_epoch(codec.encode_epoch(7, b"")) == (7, b"")
    assert codec.decode_version(codec.encode_version(9)) == 9
    assert codec.sealed_key(7, bytes(32)) == "sealed/00000007/" + "00" * 32


SAMPLE = Member(
    Joiner(1).identity.public_key,
    "acme",
    Role.SHOP,
    {kind: pair.public_key for kind, pair in Joiner(1).signers(Network.PRIVATE).items()},
    1,
    "front street",
)
ID = "00" * 32
DECODERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "network": (codec.decode_founding, codec.encode_founding(Founding(Network.PRIVATE, "shops", False, (bytes(32),)))),
    "policy": (codec.decode_policy, codec.encode_policy(NetworkPolicy())),
    "epoch": (codec.decode_epoch, codec.encode_epoch(1, b"")),
    "version": (codec.decode_version, codec.encode_version(1)),
    "member": (lambda data: codec.decode_member(f"member/{ID}", data, Network.PRIVATE), codec.encode_member(SAMPLE)),
    "revoked": (
        lambda data: codec.decode_revocation(f"revoked/{ID}", data, Network.PRIVATE),
        codec.encode_revocation(Revocation(SAMPLE, 1, {FeedKind.PRICES: 4}, "lost")),
    ),
    "invite": (
        lambda data: codec.decode_invite(f"invite/{ID}", data),
        codec.encode_invite(Invite("acme", Role.SHOP, "", 2954)),
    ),
}


@pytest.mark.parametrize("name", sorted(set(DECODERS) - {"version"}))
def test_a_field_more_or_less_or_of_another_type_is_refused(name: str) -> None:
    decode, data = DECODERS[name]
    fields = cbor.decode(data)
    assert isinstance(fields, dict)
    wrong = [{**fields, "extra": 1}, *({k: v for k, v in fields.items() if k != gone} for gone in fields)]
    others: tuple[object, ...] = (None, [], 1.5, {"a": 1}, -1)
    wrong += [{**fields, key: value} for key in fields for value in others]
    wrong += [{**fields, key: True} for key, value in fields.items() if not isinstance(value, bool)]
    for each in wrong:
        with pytest.raises(RecordInvalid):
            decode(cbor.encode(each))


@given(st.sampled_from(sorted(DECODERS)), st.integers(0, 2000), st.integers(1, 255), st.booleans())
def test_changed_bytes_are_refused_or_say_what_they_encode(name: str, at: int, by: int, cut: bool) -> None:
    decode, data = DECODERS[name]
    at %= len(data)
    changed = data[:at] if cut else data[:at] + bytes((data[at] ^ by,)) + data[at + 1 :]
    try:
        decode(changed)
    except RecordInvalid:
        return
    assert cbor.encode(cbor.decode(changed)) == changed


@given(st.sampled_from(sorted(DECODERS)), st.binary(max_size=200))
def test_any_bytes_are_refused_as_a_record(name: str, data: bytes) -> None:
    decode, _ = DECODERS[name]
    if name == "version":
        return
    with pytest.raises(RecordInvalid):
        decode(data)


@pytest.mark.parametrize(
    "change",
    [
        {"signers": {}},
        {"signers": {1: bytes(32), 2: bytes(32), 3: bytes(32)}},
        {"signers": {1: bytes(31)}},
        {"signers": {9: bytes(32)}},
        {"role": "boss"},
        {"role": "reader"},
        {"owner": ""},
        {"owner": "x" * 65},
        {"label": "two\nlines"},
        {"since": 0},
    ],
)
def test_members_that_cannot_be(change: dict[str, object]) -> None:
    fields = cbor.decode(codec.encode_member(SAMPLE))
    assert isinstance(fields, dict)
    with pytest.raises(RecordInvalid):
        codec.decode_member(f"member/{ID}", cbor.encode({**fields, **change}), Network.PRIVATE)


@pytest.mark.parametrize("key", ["member/", "member/" + "0" * 63, "member/" + "0" * 65, "member/" + "A" * 64, "x"])
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(RecordInvalid):
        codec.decode_member(key, codec.encode_member(SAMPLE), Network.PRIVATE)


def test_a_member_writes_every_feed_of_its_network() -> None:
    assert set(SAMPLE.signers) == set(FEEDS[Network.PRIVATE])
    with pytest.raises(RecordInvalid):
        codec.decode_member(f"member/{ID}", codec.encode_member(SAMPLE), Network.CONSORTIUM)
