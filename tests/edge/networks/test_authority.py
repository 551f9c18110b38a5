"""An authority and its members on real stores: founding, following, rolling back, forking, several signers."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from support_linked_stores import linked
from support_roster import WEEK, secret_of

from edge.crypto.keys import seal
from edge.errors import ConfigError, RecordInvalid, RemoteError, SignatureError
from edge.hypercore.corestore import Corestore
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest
from edge.networks import roster_changes as changing
from edge.networks.access import FEEDS, FeedKind
from edge.networks.authority import Authority, authority, found, found_jointly, signatory, signing_pair
from edge.networks.folder import NetworkFolder, signer_of
from edge.networks.invitation import Invitation
from edge.networks.joining import JoinRequest
from edge.networks.policy import NetworkPolicy
from edge.networks.proposal import Desk, Proposal, review, sign
from edge.networks.roster import Roster
from edge.networks.roster_bee import Change, RosterBee, follow, open_roster
from edge.networks.roster_changes import Guest
from edge.networks.roster_codec import Founding, encode_epoch
from edge.records.message import Network


@contextlib.asynccontextmanager
async def office(state: Path, network: Network = Network.PRIVATE) -> AsyncIterator[tuple[Authority, Corestore]]:
    folder = await found(state, "shops", network, NetworkPolicy(), title="All shops")
    async with await Corestore.open(folder.store_directory) as store, authority(folder, store) as boss:
        yield boss, store


def request_of(state: Path, code: Invitation) -> JoinRequest:
    identity = NetworkFolder.store_of(state, "shops").identity()
    store = state / "networks" / "shops" / "store"
    return JoinRequest.make(code, identity, {kind: signer_of(store, kind) for kind in FEEDS[code.network]})


async def admitted(boss: Authority, state: Path) -> NetworkFolder:
    (code,), _ = await boss.invite([Guest("acme", label=state.name)], expires=WEEK + 4, week=WEEK)
    await boss.admit(request_of(state, code).encode(), week=WEEK)
    return NetworkFolder.create(state, "shops", code.network_id, code.network, code.root)


async def fetched(folder: NetworkFolder, source: Corestore, length: int) -> Roster | None:
    """The roster as a member follows it, once it has so many blocks."""
    async with await Corestore.open(folder.store_directory) as store:
        core = await open_roster(folder, store)
        async with linked(source, store):
            while core.length < length:
                await core.update()
            await core.download(0, core.length).done
        return await follow(folder, core)


async def test_members_follow_the_roster_and_learn_the_keys_of_their_time(tmp_path: Path) -> None:
    async with office(tmp_path / "office") as (boss, store):
        early = await admitted(boss, tmp_path / "early")
        await boss.rotate()
        late = await admitted(boss, tmp_path / "late")
        state = await boss.state()
        roster = await fetched(early, store, state.length)
        assert roster == state.roster
        assert (roster.name, roster.version, roster.epoch) == ("All shops", 6, 2)
        assert await fetched(late, store, state.length) == roster
        own = NetworkFolder.open(tmp_path / "office", "shops").epochs()
        assert early.epochs() == own
        assert late.epochs() == {2: own[2]}
        # one of them is lost, and found by nobody
        await boss.revoke(late.identity.public_key, {FeedKind.PRICES: 7}, reason="stolen")
        state = await boss.state()
        assert await fetched(early, store, state.length) == state.roster
        gone = await fetched(late, store, state.length)
        assert gone is not None
        assert not gone.admits(late.identity.public_key)
        assert gone.revoked[late.identity.public_key].lengths[FeedKind.PRICES] == 7
        assert sorted(early.epochs()) == [1, 2, 3]
        assert sorted(late.epochs()) == [2]
        # what was destroyed does not come back
        early.destroy_epoch(1)
        await fetched(early, store, state.length)
        assert sorted(early.epochs()) == [2, 3]


async def test_the_same_request_again_is_the_same_member(tmp_path: Path) -> None:
    async with office(tmp_path / "office") as (boss, _):
        (code, other), _ = await boss.invite([Guest("acme")] * 2, expires=WEEK + 4, week=WEEK)
        request = request_of(tmp_path / "a", code).encode()
        member, _ = await boss.admit(request, week=WEEK)
        version = (await boss.state()).roster.version
        assert (await boss.admit(request, week=WEEK))[0] == member
        assert (await boss.state()).roster.version == version
        for data, invite, reason in (
            (request_of(tmp_path / "b", code).encode(), None, "used"),
            (request_of(tmp_path / "a", other).encode(), None, "member"),
            (request_of(tmp_path / "b", other).encode(), code.key_pair.public_key, "foreign"),
        ):
            with pytest.raises(RecordInvalid) as caught:
                await boss.admit(data, week=WEEK, invite=invite)
            assert caught.value.reason == reason
        await boss.withdraw([other.key_pair.public_key])
        with pytest.raises(RecordInvalid) as caught:
            await boss.admit(request_of(tmp_path / "b", other).encode(), week=WEEK)
        assert caught.value.reason == "withdrawn"
        with pytest.raises(ConfigError, match="no such invitation"):
            await boss.withdraw([other.key_pair.public_key])


async def test_a_request_must_be_signed_by_every_key_in_it(tmp_path: Path) -> None:
    async with office(tmp_path / "office") as (boss, _):
        (code,), _ = await boss.invite([Guest("acme")], expires=WEEK, week=WEEK)
        request = request_of(tmp_path / "a", code)
        for index, signature in enumerate(request.signatures):
            forged = bytes((signature[0] ^ 1,)) + signature[1:]
            signatures = (*request.signatures[:index], forged, *request.signatures[index + 1 :])
            with pytest.raises(SignatureError):
                await boss.admit(replace(request, signatures=signatures).encode(), week=WEEK)
        stranger = request_of(tmp_path / "b", code)
        for changed in (replace(request, id=stranger.id), replace(request, signers=stranger.signers)):
            with pytest.raises(SignatureError):
                await boss.admit(changed.encode(), week=WEEK)
        assert (await boss.state()).roster.members == {}
        # another network's code, of the same authority
        folder = await found(tmp_path / "office", "other", Network.PRIVATE, NetworkPolicy())
        async with await Corestore.open(folder.store_directory) as store, authority(folder, store) as other:
            with pytest.raises(RecordInvalid) as caught:
                await other.admit(request.encode(), week=WEEK)
            assert caught.value.reason == "foreign"
        await boss.admit(request.encode(), week=WEEK)


async def test_a_network_is_founded_once_and_kept(tmp_path: Path) -> None:
    async with office(tmp_path) as (boss, _):
        before = await boss.state()
    with pytest.raises(ConfigError, match="there already"):
        await found(tmp_path, "shops", Network.PRIVATE, NetworkPolicy())
    folder = NetworkFolder.open(tmp_path, "shops")
    async with await Corestore.open(folder.store_directory) as store, authority(folder, store) as boss:
        assert await boss.state() == before
    with pytest.raises(ConfigError, match="open"):
        await found(tmp_path, "x", Network.PRIVATE, NetworkPolicy(), open_=True)


async def test_who_is_no_authority_signs_nothing(tmp_path: Path) -> None:
    async with office(tmp_path / "office") as (boss, store):
        folder = await admitted(boss, tmp_path / "shop")
        await fetched(folder, store, (await boss.state()).length)
    async with await Corestore.open(folder.store_directory) as own:
        with pytest.raises(ConfigError, match="no authority"):
            async with authority(folder, own):
                pass


# --- a log that goes back --------------------------------------------------------------------------------------------


async def written(state: Path, place: Path, policies: int) -> Hypercore:
    """Another log under the authority's key: the founding and so many new policies."""
    folder = NetworkFolder.open(state, "shops")
    pair = signing_pair(folder.store_directory)
    core = await Hypercore.open(
        place,
        create=True,
        key_pair=pair,
        manifest=Manifest.single(pair.public_key),
        encryption_key=folder.roster_secret,
    )
    bee = RosterBee(core)
    content = Founding(Network.PRIVATE, "All shops", False, (folder.identity.public_key,))
    await bee.write(1, changing.founding(content, NetworkPolicy(), secret_of(1), seal))
    for number in range(policies):
        policy = NetworkPolicy(keep_weeks=10 + number)
        state_ = await bee.read(core.length)
        await bee.write(state_.roster.version + 1, changing.new_policy(state_, policy))
    return core


async def test_a_log_that_is_another_or_shorter_is_refused(tmp_path: Path) -> None:
    async with office(tmp_path / "office") as (boss, _):
        for number in range(3):
            await boss.set_policy(NetworkPolicy(keep_weeks=20 + number))
    folder = NetworkFolder.open(tmp_path / "office", "shops")
    before, epochs = folder.accepted(), folder.epochs()
    for policies, reason in ((0, "rollback"), (9, "fork")):
        core = await written(tmp_path / "office", tmp_path / f"core {policies}", policies)
        with pytest.raises(RecordInvalid) as caught:
            await follow(folder, core)
        assert caught.value.reason == reason
        await core.close()
    assert (folder.accepted(), folder.epochs()) == (before, epochs)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ([("version", b"\x01")], "rollback"),
        ([("surprise", b"\x01")], "roster"),
        ([("network", None)], "roster"),
        ([("policy", b"\xa0")], "roster"),
        ([("epoch", encode_epoch(1, b"x" * 32))], "roster"),
    ],
)
async def test_what_an_authority_signs_by_mistake_is_not_accepted(
    tmp_path: Path, change: list[Change], reason: str
) -> None:
    async with office(tmp_path) as (boss, store):
        await boss.set_policy(NetworkPolicy(keep_weeks=20))
        folder = NetworkFolder.open(tmp_path, "shops")
        core = await open_roster(folder, store)
        before = folder.accepted()
        version = 1 if change[0][0] == "version" else 9
        await RosterBee(core).write(version, change if version == 9 else [])
        with pytest.raises(RecordInvalid) as caught:
            await follow(folder, core)
        assert caught.value.reason == reason
        assert folder.accepted() == before


async def test_half_a_change_is_not_read(tmp_path: Path) -> None:
    async with office(tmp_path) as (boss, store):
        folder = NetworkFolder.open(tmp_path, "shops")
        core = await open_roster(folder, store)
        before = await boss.state()
        await core.append([core.get(core.length - 2), core.get(core.length - 3)])  # blocks of a tree, but no end
        assert await boss.state() == before
        assert await follow(folder, core) == before.roster


# --- several signers -------------------------------------------------------------------------------------------------


class Signer:
    """One of those who sign, on a machine of its own. Changes come to it as bytes."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.card = signatory(state, "trade")

    @contextlib.asynccontextmanager
    async def desk(self, change: bytes) -> AsyncIterator[tuple[Desk, Proposal]]:
        pair = signing_pair(self.state / "networks" / "trade" / "store")
        proposal = Proposal.decode(change, pair)
        folder = NetworkFolder.create(self.state, "trade", proposal.network_id, proposal.network, proposal.root)
        async with await Corestore.open(folder.store_directory) as store:
            yield Desk(folder, store, pair), proposal

    async def sign(self, change: bytes, *, replaces: bool = False) -> tuple[bytes, bool]:
        async with self.desk(change) as (desk, proposal):
            signed, valid = await sign(desk, proposal, replaces=replaces)
            return signed.encode(), valid

    @contextlib.asynccontextmanager
    async def boss(self) -> AsyncIterator[Authority]:
        folder = NetworkFolder.open(self.state, "trade")
        async with await Corestore.open(folder.store_directory) as store, authority(folder, store) as boss:
            yield boss


async def three(tmp_path: Path) -> tuple[list[Signer], bytes]:
    """Three signers, two of whom must sign, and the founding that the first has signed."""
    signers = [Signer(tmp_path / name) for name in ("one", "two", "three")]
    cards = [each.card for each in signers[1:]]
    _, proposal = await found_jointly(
        signers[0].state, "trade", Network.CONSORTIUM, NetworkPolicy(), signatories=cards, quorum=2, title="Trade"
    )
    return signers, proposal.encode()


async def test_two_of_three_found_a_network_and_change_it(tmp_path: Path) -> None:
    (one, two, late), founding = await three(tmp_path)
    async with two.desk(founding) as (desk, proposal):
        before, after = await review(desk, proposal)
        assert before is None
        assert after.roster.name == "Trade"
        assert set(after.roster.authorities) == {each.card.connection_key for each in (one, two, late)}
    with pytest.raises(ConfigError, match="no authority"):  # nothing holds yet, not even here
        async with one.boss():
            pass
    complete, valid = await two.sign(founding)
    assert valid
    assert (await one.sign(complete))[1]
    assert (await late.sign(complete))[1]
    async with two.boss() as boss:
        assert not boss.alone
        codes, change = await boss.invite([Guest("acme"), Guest("globex")], expires=WEEK + 4, week=WEEK)
        assert change is not None
        assert change.missing == 1
        assert (await boss.state()).invites == {}
        assert sorted(NetworkFolder.open(two.state, "trade").epochs()) == [1], "every signer has the keys"
    complete, valid = await late.sign(change.encode())
    assert valid
    assert (await two.sign(complete))[1]
    async with late.boss() as boss:
        state = await boss.state()
        assert (state.roster.version, set(state.invites)) == (2, {code.key_pair.public_key for code in codes})
        _, admission = await boss.admit(request_of(tmp_path / "shop", codes[0]).encode(), week=WEEK)
        assert admission is not None
    with pytest.raises(ConfigError, match="newer roster"):  # who missed a change gets it first
        await one.sign(admission.encode())
    assert (await two.sign(admission.encode()))[1]
    async with two.boss() as boss:
        assert [each.owner for each in (await boss.state()).roster.members.values()] == ["acme"]


async def test_a_signer_signs_one_continuation(tmp_path: Path) -> None:
    (one, two, late), founding = await three(tmp_path)
    complete, _ = await two.sign(founding)
    for each in (one, late):
        await each.sign(complete)
    async with one.boss() as boss:
        first = await boss.set_policy(NetworkPolicy(keep_weeks=50))
    async with late.boss() as boss:
        second = await boss.set_policy(NetworkPolicy(keep_weeks=60))
    assert first is not None
    assert second is not None
    with pytest.raises(ConfigError, match="has signed another change"):
        await one.sign(second.encode())
    async with one.boss() as boss:
        with pytest.raises(ConfigError, match="has signed another change"):
            await boss.rotate()
    assert (await two.sign(second.encode()))[1]
    with pytest.raises(ConfigError, match="has changed since"):
        await two.sign(first.encode())
    assert (await one.sign((await two.sign(second.encode()))[0], replaces=True))[1]


async def test_a_change_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    (_, two, late), founding = await three(tmp_path)
    outsider = Signer(tmp_path / "outsider")
    with pytest.raises(SignatureError, match="another roster"):
        await outsider.sign(founding)
    async with two.desk(founding) as (desk, proposal):
        for changed in (
            replace(proposal, blocks=(*proposal.blocks[:-2], proposal.blocks[-1], proposal.blocks[-2])),
            replace(proposal, blocks=proposal.blocks[:-1]),
            replace(proposal, network=Network.PRIVATE),
            replace(proposal, signatures={0: bytes(64), 1: bytes(64), 2: bytes(64)}),
        ):
            with pytest.raises((RecordInvalid, SignatureError)):
                await sign(desk, changed)
    pair = signing_pair(late.state / "networks" / "trade" / "store")
    whole = Proposal.decode(founding, pair)
    for at in range(0, len(founding), 5):
        data = founding[:at] + bytes((founding[at] ^ 1,)) + founding[at + 1 :]
        try:
            found_there = Proposal.decode(data, pair)
        except RemoteError:
            continue
        assert replace(found_there, signatures=whole.signatures) == whole, "what was sealed to others, or a signature"
