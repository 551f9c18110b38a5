"""A roster through any sequence of invitations, admissions, revocations and rotations, beside a plain model of it.

And what a revoked member can know: with every secret it had, its own keys and all blocks of the roster, nothing of a
later epoch.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_roster import WEEK, Joiner, Office, pair, secret_of

from edge.encoding import cbor
from edge.errors import ConfigError, RecordInvalid, RemoteError, SignatureError
from edge.hyperbee.codec import decode_block
from edge.networks import roster_changes as changing
from edge.networks.access import FEEDS, FeedKind
from edge.networks.epochs import Epoch
from edge.networks.invitation import Invitation
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import Role
from edge.networks.roster_bee import check_successor
from edge.networks.roster_changes import Guest, oldest_sealed
from edge.privacy.rules import PrivacyRules
from edge.records.message import Network

OWNERS = ("acme", "globex", "initech")
LOOSE = NetworkPolicy(owners_min=1, owner_share_max=1.0, lag_weeks=0, live_use=True, privacy=PrivacyRules())

steps = st.lists(
    st.one_of(
        st.tuples(st.just("invite"), st.integers(0, 2), st.sampled_from((Role.SHOP, Role.READER))),
        st.tuples(st.just("expired"), st.integers(0, 2), st.just(Role.SHOP)),
        st.tuples(st.just("accept"), st.integers(0, 7), st.integers(0, 5)),  # code, box
        st.tuples(st.just("revoke"), st.integers(0, 5), st.integers(0, 9)),
        st.tuples(st.just("rotate"), st.just(0), st.just(0)),
    ),
    max_size=16,
)


@dataclass
class Model:
    """What must hold, kept in the plainest way."""

    version: int = 1
    epoch: int = 1
    codes: list[tuple[Invitation, str, bool]] = field(default_factory=list)  # code, owner, expired
    used: dict[int, int] = field(default_factory=dict)  # code → box
    owner: dict[int, str] = field(default_factory=dict)  # members
    revoked: set[int] = field(default_factory=set)

    def reason(self, code: int, box: int, *, one_owner: bool) -> str | None:
        """Why a code is refused; "" : it was used by this very member."""
        if code in self.used:
            if self.used[code] in self.revoked:
                return "revoked"
            return "" if self.used[code] == box else "used"
        _, owner, expired = self.codes[code]
        if expired:
            return "expired"
        if box in self.revoked:
            return "revoked"
        if box in self.owner:
            return "member"
        if one_owner and set(self.owner.values()) - {owner}:
            return "owner"
        return None


async def play(sequence: list[tuple[str, int, object]], *, one_owner: bool) -> None:
    office = Office(policy=LOOSE if one_owner else NetworkPolicy())
    await office.begin()
    model, before = Model(), (await office.state()).roster
    for what, first, second in sequence:
        if what in ("invite", "expired"):
            assert isinstance(second, Role)
            expires = WEEK - 1 if what == "expired" else WEEK + 4
            waiting = {owner for number, (_, owner, _) in enumerate(model.codes) if number not in model.used}
            if one_owner and (waiting | set(model.owner.values())) - {OWNERS[first]}:
                with pytest.raises(ConfigError, match="the law's floor"):
                    await office.invite(Guest(OWNERS[first], second), expires=expires, week=WEEK - 5)
                continue
            made = await office.invite(Guest(OWNERS[first], second), expires=expires, week=WEEK - 5)
            model.codes.append((made[0], OWNERS[first], what == "expired"))
        elif what == "accept":
            assert isinstance(second, int)
            if first >= len(model.codes):
                continue
            reason = model.reason(first, second, one_owner=one_owner)
            request = Joiner(second).request(model.codes[first][0])
            if reason:
                with pytest.raises(RecordInvalid) as caught:
                    await office.admit(request)
                assert caught.value.reason == reason
                continue
            changed = await office.admit(request)
            assert changed is (reason is None)
            if not changed:
                continue
            model.used[first] = second
            model.owner[second] = model.codes[first][1]
        elif what == "revoke":
            if first not in model.owner:
                with pytest.raises(ConfigError, match="revoked already" if first in model.revoked else "no member"):
                    await office.revoke(Joiner(first).identity.public_key)
                continue
            await office.revoke(Joiner(first).identity.public_key)
            del model.owner[first]
            model.revoked.add(first)
            model.epoch += 1
        else:
            await office.rotate()
            model.epoch += 1
        model.version += 1
        after = (await office.state()).roster
        check_successor(before, after)
        before = after
        assert (after.version, after.epoch) == (model.version, model.epoch)
        ids = {Joiner(box).identity.public_key: owner for box, owner in model.owner.items()}
        assert {id_: member.owner for id_, member in after.members.items()} == ids
        assert set(after.revoked) == {Joiner(box).identity.public_key for box in model.revoked}
        assert len(after.invited) == len(model.codes) - len(model.used)
        assert not any(after.admits(id_) for id_ in after.revoked)
        assert all(after.limit(id_, FeedKind.TRENDS, after.epoch) == 0 for id_ in after.revoked)
    await everybody_has_their_keys(office, model)


async def everybody_has_their_keys(office: Office, model: Model) -> None:
    state = await office.state()
    epoch = state.roster.epoch
    for box in model.owner:
        sealed = await office.bee.sealed(state.length, Joiner(box).identity.public_key, [epoch])
        assert Joiner(box).identity.unseal(sealed[epoch]) == secret_of(epoch)
    for box in model.revoked:
        assert await office.bee.sealed(state.length, Joiner(box).identity.public_key, [epoch]) == {}


@settings(max_examples=40, deadline=None)
@given(steps, st.booleans())
def test_any_sequence_keeps_the_rules(sequence: list[tuple[str, int, object]], one_owner: bool) -> None:
    asyncio.run(play(sequence, one_owner=one_owner))


def byte_strings(value: object) -> set[bytes]:
    """Every byte string in a value."""
    if isinstance(value, bytes):
        return {value}
    if isinstance(value, dict):
        return set().union(*(byte_strings(each) for pair_ in value.items() for each in pair_))
    return set().union(*map(byte_strings, value)) if isinstance(value, list) else set()


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(0, 4), st.integers(0, 2), st.integers(1, 3))
def test_a_revoked_member_can_find_and_read_nothing_of_a_later_epoch(
    boxes: int, gone: int, rotations_before: int, rotations_after: int
) -> None:
    gone %= boxes

    async def play_once() -> None:
        office = Office()
        await office.begin()
        joiners = [Joiner(number) for number in range(boxes)]
        for joiner, code in zip(joiners, await office.invite(*[Guest("acme")] * boxes), strict=True):
            await office.admit(joiner.request(code))
        for _ in range(rotations_before):
            await office.rotate()
        last = (await office.state()).roster.epoch
        await office.revoke(joiners[gone].identity.public_key)
        for _ in range(rotations_after):
            await office.rotate()
        state = await office.state()

        # Everything that the revoked member holds: its keys, and every block of the roster, in the clear.
        thief = joiners[gone]
        keys = [thief.identity, *thief.signers(office.network).values()]
        found: set[bytes] = set()
        for block in office.log.blocks[1:]:
            value = decode_block(block).value
            if value is not None:
                found.add(value)
                with contextlib.suppress(RemoteError):  # a sealed secret is bare bytes
                    found |= byte_strings(cbor.decode(value))
        opened = set()
        for data, key in product(found, keys):
            try:
                opened.add(key.unseal(data))
            except SignatureError:
                continue
        assert opened == {secret_of(number) for number in range(1, last + 1)}, "its own epochs, and no other"

        # Whatever it takes for a secret, nothing of a later epoch comes out.
        signers = {kind: joiners[gone - 1].signers(office.network)[kind].public_key for kind in FEEDS[office.network]}
        guesses = {data for data in opened | found if len(data) == 32}
        guesses |= {data for each in guesses for data in everything(Epoch(1, each), signers)}
        for number in range(last + 1, state.roster.epoch + 1):
            secret = everything(Epoch(number, secret_of(number)), signers)
            assert guesses.isdisjoint(secret | {secret_of(number)})
            for guess in guesses:
                assert everything(Epoch(number, guess), signers).isdisjoint(secret)
        assert not any(secret_of(number) in block for number in range(1, 9) for block in office.log.blocks)

    asyncio.run(play_once())


def everything(epoch: Epoch, signers: dict[FeedKind, bytes]) -> set[bytes]:
    """What finds and opens the feeds of an epoch."""
    return {epoch.topic, epoch.encryption_key, *(epoch.feed_key(kind, key) for kind, key in signers.items())}


async def test_an_open_network_says_its_secret_to_everybody() -> None:
    office = Office(network=Network.PUBLIC, open=True)
    await office.begin()
    (code,) = await office.invite(Guest("acme"))
    await office.admit(Joiner(1).request(code))
    await office.rotate()
    state = await office.state()
    assert state.epoch_secret == secret_of(2)
    assert state.roster.admits(pair("stranger", 1).public_key)
    await office.revoke(Joiner(1).identity.public_key)
    assert not (await office.state()).roster.admits(Joiner(1).identity.public_key)


async def test_sealed_secrets_are_kept_for_some_epochs() -> None:
    office = Office()
    await office.begin()
    for _ in range(9):
        await office.rotate()
    state = await office.state()
    old = await office.bee.sealed_keys(state.length, oldest_sealed(state.roster.epoch + 1))
    assert [key.split("/")[1] for key in old] == ["00000001", "00000002", "00000003"]


async def test_a_private_network_takes_no_second_owner() -> None:
    office = Office(network=Network.PRIVATE)
    await office.begin()
    (code,) = await office.invite(Guest("acme"))
    await office.admit(Joiner(1).request(code))
    with pytest.raises(ConfigError, match="make it a consortium"):
        await office.invite(Guest("globex"))


async def test_a_member_of_a_second_owner_is_refused_while_the_settings_are_those_of_one() -> None:
    office = Office()
    await office.begin()
    first, second = await office.invite(Guest("acme"), Guest("globex"))
    await office.admit(Joiner(1).request(first))
    await office.apply(changing.new_policy(await office.state(), LOOSE))
    with pytest.raises(RecordInvalid, match="the law's floor") as caught:
        await office.admit(Joiner(2).request(second))
    assert caught.value.reason == "owner"
    await office.apply(changing.new_policy(await office.state(), NetworkPolicy()))
    assert await office.admit(Joiner(2).request(second))
    with pytest.raises(ConfigError, match="the law's floor"):
        changing.new_policy(await office.state(), LOOSE)
