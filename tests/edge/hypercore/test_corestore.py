"""Many cores of one folder: lent, found by peers, closed again, held after a copy. Peers meet over loopback TCP."""

import asyncio
import shutil
from pathlib import Path

import pytest
from support_linked_stores import linked

import edge.hypercore.replicator.replicator
from edge.errors import ConfigError, LocalError, StorageError, StorageFault
from edge.hypercore.corestore import Corestore
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest, Signer
from edge.hypercore.store import FeedStore, named_key_pair
from edge.hyperswarm.connection import Connection
from edge.limits import BLOCK_BYTES_MAX, FEED_SEGMENT_BYTES

ENCRYPTION_KEY = b"\x05" * 32


async def downloaded(core: Hypercore, length: int) -> None:
    async with asyncio.timeout(20):
        while core.length < length:
            await core.changed(core.length, core.fork)
        await core.download(0, length).done


async def test_names_keys_and_namespaces(tmp_path: Path) -> None:
    async with await Corestore.open(tmp_path) as store:
        core = await store.get("a")
        assert await store.get("a") is core
        assert await store.get(key=core.key) is core
        inner = store.namespace("inner")
        other = await inner.get("a")
        assert other.key != core.key
        assert await inner.namespace("x").get("a") is not other
        assert [feed.name for feed in store.feeds()] == ["a", "inner/a", "inner/x/a"]
        assert [feed.name for feed in inner.feeds()] == ["inner/a", "inner/x/a"]
        await core.append([b"one"], urgent=True)
        with pytest.raises(ConfigError, match="no such feed"):
            await store.get("b", create=False)
        with pytest.raises(LocalError):
            await store.get()
    async with await Corestore.open(tmp_path, write=False) as store:
        core = await store.get("a", create=False)
        assert list(core.blocks()) == [b"one"]
        assert not core.writable
    with pytest.raises(ConfigError, match="closed"):
        await store.get("a")


async def test_a_core_beside_another_is_signed_by_its_key(tmp_path: Path) -> None:
    async with await Corestore.open(tmp_path) as store:
        owner = await store.get("files", encryption_key=ENCRYPTION_KEY)
        assert owner.manifest is not None
        signer = Signer(owner.manifest.signers[0].public_key, namespace=b"\x01" * 32)
        manifest = Manifest(signers=(signer,), quorum=1)
        beside = await store.get_beside(owner.key, "blobs", manifest)
        assert beside.key == manifest.key()
        assert beside.encrypted
        assert await beside.append([b"x"], urgent=True) == 1
        assert await store.get_beside(owner.key, "blobs", manifest) is beside


async def test_twenty_cores_over_one_connection_are_opened_when_asked_for(tmp_path: Path) -> None:
    one = await Corestore.open(tmp_path / "one", cores_open_max=4)
    other = await Corestore.open(tmp_path / "other")
    keys = []
    for number in range(20):
        core = await one.get(f"core-{number}", encryption_key=ENCRYPTION_KEY if number % 5 == 0 else None)
        await core.append([b"%d-%d" % (number, index) for index in range(number + 1)], urgent=True)
        keys.append(core.key)
        await one.release(core)
    assert len(one._shared.open) <= 4
    async with linked(one, other), asyncio.TaskGroup() as group:
        for number, key in enumerate(keys):
            core = await other.get(key=key, encryption_key=ENCRYPTION_KEY if number % 5 == 0 else None)
            group.create_task(downloaded(core, number + 1))
    for number, key in enumerate(keys):
        core = await other.get(key=key)
        assert list(core.blocks()) == [b"%d-%d" % (number, index) for index in range(number + 1)]
        assert not core.writable
    await one.close()
    await other.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels are idle soon after the last wish."""
    monkeypatch.setattr(edge.hypercore.replicator.replicator, "LINGER_S", 0.1)
    monkeypatch.setattr(edge.hypercore.replicator.replicator, "TICK_S", 0.1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("count", "most"), [(16, 4), pytest.param(200, 64, marks=pytest.mark.soak)])
async def test_cores_served_over_one_connection_do_not_stay_open(tmp_path: Path, count: int, most: int) -> None:
    one = await Corestore.open(tmp_path / "one", cores_open_max=most)
    async with await Corestore.open(tmp_path / "other", cores_open_max=most) as other:
        cores = []
        for number in range(count):
            core = await one.get(f"core-{number}")
            await core.append([b"%d" % number], urgent=True)
            cores.append(core.key)
            await one.release(core)
        assert len(one._shared.open) <= most
        async with linked(one, other):
            copies = [await other.get(key=key) for key in cores]
            async with asyncio.TaskGroup() as group:
                for copy in copies:
                    group.create_task(downloaded(copy, 1))
            assert len(one._shared.open) == count
            for copy in copies:
                await other.release(copy)
            async with asyncio.timeout(60):
                while len(one._shared.open) > most or len(other._shared.open) > most:
                    await asyncio.sleep(0.1)
            again = await other.get(key=cores[3])
            again.download(0)
            core = await one.get("core-3", create=False)
            await core.append([b"later"], urgent=True)
            await downloaded(again, 2)
            assert len(one._shared.open) <= most
    await one.close()


@pytest.mark.usefixtures("impatient")
async def test_sessions_of_ended_connections_are_forgotten(tmp_path: Path) -> None:
    async with await Corestore.open(tmp_path / "one") as one, await Corestore.open(tmp_path / "other") as other:
        core = await one.get("a")
        await core.append([b"x"], urgent=True)
        await one.release(core)
        copy = await other.get(key=core.key)
        replicator = one.replicator(core)
        for _ in range(5):
            async with linked(one, other):
                await downloaded(copy, 1)
                await copy.update()
                other.replicator(copy).following = False
                async with asyncio.timeout(30):
                    while replicator.peers:
                        await asyncio.sleep(0.05)
            other.replicator(copy).following = True
        assert len(replicator.sessions) <= 1


async def test_a_store_that_is_closed_while_a_core_is_opened_keeps_no_folder(tmp_path: Path) -> None:
    async with await Corestore.open(tmp_path) as store:
        await store.get("a")
    for turns in (0, 1, 3):
        store = await Corestore.open(tmp_path)
        opening = asyncio.create_task(store.get("a"))
        for _ in range(turns):
            await asyncio.sleep(0.001)
        await store.close()
        await asyncio.gather(opening, return_exceptions=True)
        store = await Corestore.open(tmp_path)
        opening = asyncio.create_task(store.get("a"))
        for _ in range(turns):
            await asyncio.sleep(0.001)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await store.close()
    async with await Corestore.open(tmp_path) as store:
        await store.get("a")


async def test_what_is_appended_later_arrives_and_unknown_cores_are_refused(tmp_path: Path) -> None:
    async with await Corestore.open(tmp_path / "one") as one, await Corestore.open(tmp_path / "other") as other:
        core = await one.get("live")
        copy = await other.get(key=core.key)
        stranger = await other.get(key=b"\x09" * 32)
        async with linked(one, other):
            copy.download(0)
            for length in range(1, 6):
                await core.append([b"%d" % length], urgent=True)
                await downloaded(copy, length)
            async with asyncio.timeout(20):
                assert not await stranger.update()
        assert (copy.tree_hash(), copy.length) == (core.tree_hash(), 5)
        assert stranger.length == 0


async def test_cores_that_nobody_uses_are_closed_and_lent_ones_stay(tmp_path: Path) -> None:
    async with await Corestore.open(tmp_path, cores_open_max=2) as store:
        kept = [await store.get(f"kept-{number}") for number in range(3)]
        loose = await store.get("loose")
        assert len(store._shared.open) == 4  # all of them are lent
        await store.release(loose)
        assert loose.key not in store._shared.open
        assert len(store._shared.open) == 3
        with pytest.raises(LocalError):
            await store.release(loose)
        await kept[0].append([b"still open"], urgent=True)


async def test_a_copied_store_is_held_and_goes_on_in_a_new_epoch(tmp_path: Path) -> None:
    """What is to happen after a restored backup: nothing is signed twice, and what a peer has comes back."""
    async with await Corestore.open(tmp_path / "shop") as shop, await Corestore.open(tmp_path / "peer") as peer:
        sales = await shop.get("sales")
        await sales.append([b"%d" % index for index in range(60)], urgent=True)
        await shop.close()
        shutil.copytree(tmp_path / "shop", tmp_path / "backup")
        async with await Corestore.open(tmp_path / "shop") as shop_again:
            sales = await shop_again.get("sales")
            await sales.append([b"%d" % index for index in range(60, 100)], urgent=True)
            copy = await peer.get(key=sales.key)
            async with linked(shop_again, peer):
                await downloaded(copy, 100)
        async with await Corestore.open(tmp_path / "backup") as restored:
            assert restored.held("sales")
            old = await restored.get("sales")
            with pytest.raises(StorageError) as caught:
                await old.append([b"other"], urgent=True)
            assert caught.value.fault is StorageFault.READ_ONLY
            new = await restored.succeed("sales")
            assert await new.append([b"sold after the restore"], urgent=True) == 1
            new_copy = await peer.get(key=new.key)
            async with linked(restored, peer):
                await downloaded(old, 100)  # fetched back
                await downloaded(new_copy, 1)
            assert list(old.blocks()) == [b"%d" % index for index in range(100)]
            assert old.frozen is copy.frozen is None
            assert (await restored.get("sales")) is new
            assert restored.held("sales") is False
        async with await Corestore.open(tmp_path / "backup") as restored:
            assert (await restored.get("sales")).key == new.key
            assert (await restored.get(key=old.key)).length == 100


async def test_a_hold_is_released_by_a_person(tmp_path: Path) -> None:
    async with await Corestore.open(tmp_path / "shop") as shop:
        await shop.get("sales")
    shutil.move(tmp_path / "shop", tmp_path / "elsewhere")
    async with await Corestore.open(tmp_path / "elsewhere") as moved:
        assert not moved.held("sales")  # a folder that was renamed is the same folder
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "copy")
    async with await Corestore.open(tmp_path / "copy") as copy:
        assert copy.held("sales")
        await copy.release_hold("sales")
        core = await copy.get("sales")
        assert await core.append([b"x"], urgent=True) == 1


def epoch_manifest(store: Path, signer: str) -> Manifest:
    """As everybody computes it who knows the public key of `signer`."""
    primary_key = bytes.fromhex((store / "primary-key").read_text())
    return Manifest(signers=(Signer(named_key_pair(primary_key, signer).public_key, b"\x07" * 32),), quorum=1)


async def test_a_core_of_a_given_manifest_is_signed_by_a_key_pair_with_a_name(tmp_path: Path) -> None:
    FeedStore(tmp_path).identity()  # makes the primary key
    manifest = epoch_manifest(tmp_path, "signer-prices")
    async with await Corestore.open(tmp_path) as store:
        core = await store.get_under("1/prices", manifest, signer="signer-prices", encryption_key=ENCRYPTION_KEY)
        assert core.key == manifest.key()
        assert core.encrypted
        assert await core.append([b"secret"], urgent=True) == 1
        again = await store.get_under("1/prices", manifest, signer="signer-prices", encryption_key=ENCRYPTION_KEY)
        assert again is core
        for name, signer in (("1/trends", "signer-prices"), ("1/prices", "signer-trends")):
            with pytest.raises(ConfigError):
                await store.get_under(name, manifest, signer=signer, encryption_key=ENCRYPTION_KEY)
        other = Manifest(signers=(Signer(manifest.signers[0].public_key, b"\x08" * 32),), quorum=1)
        with pytest.raises(ConfigError, match="already such a feed"):
            await store.get_under("1/prices", other, signer="signer-prices", encryption_key=ENCRYPTION_KEY)
    async with await Corestore.open(tmp_path) as store:
        core = await store.get_under("1/prices", manifest, signer="signer-prices", encryption_key=ENCRYPTION_KEY)
        assert await core.append([b"more"], urgent=True) == 2
        assert list(core.blocks()) == [b"secret", b"more"]


async def test_a_restored_store_holds_even_cores_that_it_makes_under_a_given_manifest(tmp_path: Path) -> None:
    """The original may have made and signed them after the backup: the same key, other content."""
    FeedStore(tmp_path / "shop").identity()
    manifest = epoch_manifest(tmp_path / "shop", "signer")
    async with await Corestore.open(tmp_path / "shop") as shop:
        await shop.get(key=b"\x09" * 32)  # what the store knows when it is copied: nothing of its own
    shutil.copytree(tmp_path / "shop", tmp_path / "backup")
    async with await Corestore.open(tmp_path / "shop") as shop:
        core = await shop.get_under("1/prices", manifest, signer="signer", encryption_key=ENCRYPTION_KEY)
        await core.append([b"one"], urgent=True)
    async with await Corestore.open(tmp_path / "backup") as restored:
        core = await restored.get_under("1/prices", manifest, signer="signer", encryption_key=ENCRYPTION_KEY)
        with pytest.raises(StorageError) as caught:
            await core.append([b"other"], urgent=True)
        assert caught.value.fault is StorageFault.READ_ONLY
        await restored.release_holds()
    async with await Corestore.open(tmp_path / "backup") as restored:
        core = await restored.get_under("1/prices", manifest, signer="signer", encryption_key=ENCRYPTION_KEY)
        assert core.writable


async def test_a_discarded_core_leaves_nothing_and_is_never_made_again(tmp_path: Path) -> None:
    FeedStore(tmp_path).identity()
    manifest = epoch_manifest(tmp_path, "signer")
    async with await Corestore.open(tmp_path) as store:
        core = await store.get_under("1/prices", manifest, signer="signer", encryption_key=ENCRYPTION_KEY)
        await core.append([b"of long ago"], urgent=True)
        folder = tmp_path / "feeds" / core.discovery_key.hex()
        assert folder.exists()
        await store.discard(core)
        assert not folder.exists()
        for _ in range(2):
            with pytest.raises(ConfigError):
                await store.get_under("1/prices", manifest, signer="signer", encryption_key=ENCRYPTION_KEY)
            await store.release_holds()
        assert store.held("1/prices")


async def test_an_encryption_key_that_comes_later_is_used_and_never_silently_passed_over(tmp_path: Path) -> None:
    async with await Corestore.open(tmp_path / "one") as one, await Corestore.open(tmp_path / "other") as other:
        core = await one.get("a", encryption_key=ENCRYPTION_KEY)
        await core.append([b"secret"], urgent=True)
        copy = await other.get(key=core.key)  # to relay it
        async with linked(one, other):
            await downloaded(copy, 1)
            assert copy.get(0) != b"secret"
            with pytest.raises(ConfigError, match="encryption key"):
                await other.get(key=core.key, encryption_key=ENCRYPTION_KEY)
            await other.release(copy)
            opened = await other.get(key=core.key, encryption_key=ENCRYPTION_KEY)
            assert opened.get(0) == b"secret"
            assert await other.get(key=core.key) is opened
            with pytest.raises(ConfigError, match="encryption key"):
                await other.get(key=core.key, encryption_key=bytes(32))
            await core.append([b"later"], urgent=True)
            opened.download()
            await downloaded(opened, 2)
            assert opened.get(1) == b"later"
        with pytest.raises(ConfigError, match="encryption key"):
            await one.get("a", encryption_key=bytes(32))


async def test_who_signs_is_told_even_of_a_core_without_blocks(tmp_path: Path) -> None:
    """Asking that is no fault: members of a network follow feeds from before their first block."""
    async with await Corestore.open(tmp_path / "one") as one, await Corestore.open(tmp_path / "other") as other:
        core = await one.get("empty")
        copy = await other.get(key=core.key)
        async with linked(one, other):
            async with asyncio.timeout(20):
                while copy.manifest is None:
                    await asyncio.sleep(0.01)
            (peer,) = one.replicator(core).peers
            connection = peer.session.connection
            assert isinstance(connection, Connection)
            assert connection.strikes == 0
            await core.append([b"first"], urgent=True)
            await downloaded(copy, 1)
        assert copy.manifest == core.manifest


async def test_small_segments_take_the_largest_blocks_of_peers_and_stay_small(tmp_path: Path) -> None:
    async with (
        await Corestore.open(tmp_path / "one") as one,
        await Corestore.open(tmp_path / "other", segment_bytes=FEED_SEGMENT_BYTES) as other,
    ):
        core = await one.get("large")
        for number in range(3):
            await core.append([bytes((number,)) * BLOCK_BYTES_MAX, b"small"], urgent=True)
        copy = await other.get(key=core.key)
        async with linked(one, other):
            await downloaded(copy, 6)
        assert list(copy.blocks()) == list(core.blocks())
    async with await Corestore.open(tmp_path / "other") as other:  # what is there keeps its size
        copy = await other.get(key=core.key)
        assert copy.get(4) == b"\x02" * BLOCK_BYTES_MAX
        sizes = {path.stat().st_size for path in (tmp_path / "other").rglob("log/*") if path.stat().st_size > 4096}
        assert sizes == {FEED_SEGMENT_BYTES}
