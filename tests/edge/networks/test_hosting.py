"""Joining over real connections: who is let in, what each is told, and who must go."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support_roster import WEEK

from edge.crypto.keys import KeyPair
from edge.errors import RemoteError, SignatureError
from edge.hypercore.corestore import Corestore
from edge.hyperswarm.connection import Connection, connect
from edge.networks.access import FEEDS
from edge.networks.authority import Authority, authority, found, found_jointly, signatory, signing_pair
from edge.networks.folder import NetworkFolder, signer_of
from edge.networks.hosting import RosterHost
from edge.networks.invitation import Invitation
from edge.networks.joining import JoinRequest, ask_to_join
from edge.networks.policy import NetworkPolicy
from edge.networks.proposal import Desk, sign
from edge.networks.roster_bee import follow, open_roster
from edge.networks.roster_changes import Guest
from edge.records.message import Network


@dataclass
class Office:
    """An authority that listens."""

    folder: NetworkFolder
    boss: Authority
    host: RosterHost
    said: list[str]

    @property
    def port(self) -> int:
        assert self.host.server is not None
        return self.host.server.port

    async def code(self, weeks: int = 4) -> Invitation:
        (code,), _ = await self.boss.invite([Guest("acme")], expires=WEEK + weeks, week=WEEK - 10)
        await asyncio.sleep(0)
        return code

    async def known(self, key: bytes, *, yes: bool = True) -> None:
        """Once the listener goes by a roster that lets this key in, or not."""
        async with asyncio.timeout(20):
            while self.host.admits(key) is not yes:
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def serving(folder: NetworkFolder) -> AsyncIterator[Office]:
    said: list[str] = []
    async with await Corestore.open(folder.store_directory) as store, authority(folder, store) as boss:
        core = await open_roster(folder, store)
        host = await RosterHost.start(
            folder,
            store,
            core,
            boss,
            host="127.0.0.1",
            port=0,
            week=lambda: WEEK,
            say=lambda event, _: said.append(event),
        )
        running = asyncio.create_task(host.run())
        try:
            yield Office(folder, boss, host, said)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await host.close()


@contextlib.asynccontextmanager
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with serving(await found(tmp_path / "office", "shops", Network.PRIVATE, NetworkPolicy())) as made:
        yield made


@dataclass
class Box:
    """A box that has or wants a code."""

    state: Path

    @property
    def identity(self) -> KeyPair:
        return NetworkFolder.store_of(self.state, "shops").identity()

    def request(self, code: Invitation) -> JoinRequest:
        identity, store = self.identity, self.state / "networks" / "shops" / "store"
        return JoinRequest.make(code, identity, {kind: signer_of(store, kind) for kind in FEEDS[code.network]})

    async def join(self, at: Office, code: Invitation) -> str:
        """The reason for a refusal; "" : it is a member."""
        await at.known(code.key_pair.public_key)
        return (await ask_to_join("127.0.0.1", at.port, code, self.request(code))).reason

    async def dial(self, at: Office) -> Connection:
        return await connect("127.0.0.1", at.port, key_pair=self.identity)


async def test_a_box_joins_and_has_the_roster_at_once(tmp_path: Path) -> None:
    async with office(tmp_path) as at:
        code, box = await at.code(), Box(tmp_path / "shop")
        await at.known(code.key_pair.public_key)
        answer = await ask_to_join("127.0.0.1", at.port, code, box.request(code))
        assert answer.accepted
        assert at.said == ["admitted"]
        folder = NetworkFolder.create(box.state, "shops", code.network_id, code.network, code.root)
        async with await Corestore.open(folder.store_directory) as store:
            core, connection = await open_roster(folder, store), await box.dial(at)
            store.replicate(connection)
            while core.length < answer.length:
                await core.update()
            await core.download(0, core.length).done
            roster = await follow(folder, core)
            assert roster is not None
            assert box.identity.public_key in roster.members
            assert list(folder.epochs()) == [1]
            # and it hears of its own revocation, and is then let in no more
            ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
            connection.on_closed = ended.set_result
            await at.boss.revoke(box.identity.public_key, {}, reason="lost")
            async with asyncio.timeout(20):
                await ended
            with pytest.raises(RemoteError):
                await served(await box.dial(at))


async def served(connection: Connection) -> None:
    """Raise unless the connection is still there once the other side has looked at our key."""
    connection.on_open_request = lambda _protocol, _id: None
    async with asyncio.timeout(20):
        await connection.wait_closed()
    raise RemoteError("closed", reason="closed")


async def test_each_refusal_says_why(tmp_path: Path) -> None:
    async with office(tmp_path) as at:
        used, expired, withdrawn = await at.code(), await at.code(weeks=-1), await at.code()
        await at.boss.withdraw([withdrawn.key_pair.public_key])
        one, two = Box(tmp_path / "one"), Box(tmp_path / "two")
        assert await one.join(at, used) == ""
        assert await one.join(at, used) == "", "the answer may have been lost"
        assert await two.join(at, used) == "used"
        assert await two.join(at, expired) == "expired"
        assert await two.join(at, withdrawn) == "withdrawn"
        assert await one.join(at, await at.code()) == "member"
        await at.boss.revoke(one.identity.public_key, {}, reason="lost")
        assert await one.join(at, used) == "revoked"
        assert await one.join(at, await at.code()) == "revoked"
        assert set(at.said) == {"admitted", "refused"}


async def test_a_code_of_another_network_is_not_let_in(tmp_path: Path) -> None:
    async with office(tmp_path) as at:
        own = at.folder.identity.public_key
        foreign = Invitation.new(Network.PRIVATE, at.folder.network_id, bytes(16), own, WEEK)
        with pytest.raises(RemoteError) as caught:
            await ask_to_join("127.0.0.1", at.port, foreign, Box(tmp_path / "shop").request(foreign))
        assert caught.value.reason == "foreign"


async def test_a_box_gives_its_request_to_nobody_but_the_authority_of_its_code(tmp_path: Path) -> None:
    async with office(tmp_path / "right") as right, office(tmp_path / "wrong") as wrong:
        code = await right.code()
        # an impostor lets any key in, to hear what it says
        assert wrong.host.server is not None
        object.__setattr__(wrong.host.server._policy, "admit", lambda _key: True)
        with pytest.raises(SignatureError) as caught:
            await ask_to_join("127.0.0.1", wrong.port, code, Box(tmp_path / "shop").request(code))
        assert caught.value.reason == "authority"
        assert wrong.said == []


async def test_a_stranger_is_let_in_nowhere(tmp_path: Path) -> None:
    async with office(tmp_path) as at:
        with pytest.raises(RemoteError):
            await served(await Box(tmp_path / "stranger").dial(at))


async def test_with_a_code_one_can_ask_to_join_and_nothing_else(tmp_path: Path) -> None:
    async with office(tmp_path) as at:
        code = await at.code()
        await at.known(code.key_pair.public_key)
        connection = await connect("127.0.0.1", at.port, key_pair=code.key_pair)
        async with await Corestore.open(tmp_path / "thief") as store:
            core = await store.get(key=at.folder.network_id)
            store.replicate(connection)
            await core.update()
            assert (core.length, core.manifest) == (0, None)


async def test_boxes_that_come_at_once_join_one_after_the_other(tmp_path: Path) -> None:
    async with office(tmp_path) as at:
        codes, _ = await at.boss.invite([Guest("acme", label=str(n)) for n in range(12)], expires=WEEK, week=WEEK)
        boxes = [Box(tmp_path / str(number)) for number in range(12)]
        reasons = await asyncio.gather(*(box.join(at, code) for box, code in zip(boxes, codes, strict=True)))
        assert reasons == [""] * 12
        roster = (await at.boss.state()).roster
        assert roster.version == 2 + 12
        assert {member.label for member in roster.members.values()} == {str(number) for number in range(12)}
        # one code, many boxes: one of them
        code = await at.code()
        many = [Box(tmp_path / f"x{number}") for number in range(8)]
        assert sorted(await asyncio.gather(*(box.join(at, code) for box in many))) == ["", *["used"] * 7]


async def test_where_several_sign_a_request_waits_for_them(tmp_path: Path) -> None:
    states = [tmp_path / "one", tmp_path / "two"]
    folder, proposal = await found_jointly(
        states[0], "shops", Network.CONSORTIUM, NetworkPolicy(), signatories=[signatory(states[1], "shops")], quorum=2
    )

    async def signed(change: bytes) -> bytes:
        for state in (states[1], states[0]):
            pair = signing_pair(state / "networks" / "shops" / "store")
            from_file = type(proposal).decode(change, pair)
            place = NetworkFolder.create(state, "shops", folder.network_id, folder.network, folder.root)
            async with await Corestore.open(place.store_directory) as store:
                complete, valid = await sign(Desk(place, store, pair), from_file)
            change = complete.encode()
            assert valid
        return change

    await signed(proposal.encode())
    async with await Corestore.open(folder.store_directory) as store, authority(folder, store) as boss:
        (code,), change = await boss.invite([Guest("acme")], expires=WEEK, week=WEEK)
    assert change is not None
    await signed(change.encode())
    box = Box(tmp_path / "shop")
    async with serving(folder) as at:
        assert await box.join(at, code) == "waiting"
        assert at.said == ["waiting"]
        (request,) = (folder.directory / "requests").iterdir()
        _, admission = await at.boss.admit(request.read_bytes(), week=WEEK)
    assert admission is not None
    await signed(admission.encode())
    async with serving(folder) as at:
        assert await box.join(at, code) == ""
