"""Named feeds: keys derived from one secret, a registry that is whole or not there, creation that can be repeated."""

import json
import shutil
from pathlib import Path

import pytest

from edge.crypto.keys import read_secret, write_secret
from edge.errors import ConfigError, StorageError, StorageFault
from edge.hypercore import catalog as catalog_module
from edge.hypercore.catalog import LATER, format_catalog, parse
from edge.hypercore.manifest import Manifest, Signer
from edge.hypercore.store import FeedStore, named_key_pair

PRIMARY = bytes(range(32))
ENCRYPTION_KEY = b"\x05" * 32


@pytest.fixture
def store(tmp_path: Path) -> FeedStore:
    return FeedStore(tmp_path / "store")


async def test_feeds_are_made_found_written_and_read(store: FeedStore, tmp_path: Path) -> None:
    assert store.feeds() == []
    made = [await store.create("prices"), await store.create("a.b-c_1", encryption_key=ENCRYPTION_KEY)]
    assert store.feeds() == sorted(made, key=lambda feed: feed.name)
    for feed in made:
        assert store.find(feed.name) == store.find(feed.key.hex()) == store.find(feed.key.hex().upper()) == feed
        core = await store.open(feed, write=True)
        assert core.key == feed.key
        await core.append([b"one", b"two"], urgent=True)
        await core.close()
        core = await store.open(feed)
        assert list(core.blocks()) == [b"one", b"two"]
        assert not core.writable
        await core.close()
    for path in (tmp_path / "store").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or path.is_dir()
    assert (tmp_path / "store").stat().st_mode & 0o077 == 0


async def test_the_same_primary_key_gives_the_same_feeds(tmp_path: Path) -> None:
    keys = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_secret(tmp_path / folder / "primary-key", PRIMARY)
        keys.append((await FeedStore(tmp_path / folder).create("prices")).key)
    assert keys[0] == keys[1]
    assert named_key_pair(PRIMARY, "a").public_key != named_key_pair(PRIMARY, "b").public_key


@pytest.mark.parametrize(
    "name", ["", ".hidden", "a/", "/a", "a//b", "a/../b", "a#2", "a b", "..", "x" * 65, "0" * 64, "naïve", "-x"]
)
async def test_names_that_cannot_be(store: FeedStore, name: str) -> None:
    with pytest.raises(ConfigError):
        await store.create(name)


async def test_a_name_is_taken_once(store: FeedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = await store.create("prices")
    with pytest.raises(ConfigError, match="already"):
        await store.create("prices")
    with pytest.raises(ConfigError, match="no such feed"):
        store.find("price")
    monkeypatch.setattr(catalog_module, "FEEDS_MAX", 1)
    with pytest.raises(ConfigError, match="1 feeds already"):
        await store.create("more")
    assert store.feeds() == [feed]


@pytest.mark.parametrize("where", ["before the rename", "before the registry"])
async def test_an_interrupted_creation_can_be_repeated(store: FeedStore, tmp_path: Path, where: str) -> None:
    await store.create("other")
    registry = (tmp_path / "store" / "feeds.json").read_bytes()
    feed = await store.create("prices", encryption_key=ENCRYPTION_KEY)
    (tmp_path / "store" / "feeds.json").write_bytes(registry)
    if where == "before the rename":
        folder = store.folder(feed)
        folder.rename(folder.parent / ".prices.new")
        (folder.parent / ".prices.new" / "encryption-key").unlink()
    again = await store.create("prices")  # without encryption this time
    assert (again.key, again.encrypted) == (feed.key, False)
    core = await store.open(again, write=True)
    assert await core.append([b"x"], urgent=True) == 1
    await core.close()


async def test_one_creation_at_a_time(store: FeedStore, tmp_path: Path) -> None:
    with store._locked(), pytest.raises(StorageError) as caught:
        await store.create("prices")
    assert caught.value.fault is StorageFault.LOCKED
    await store.create("prices")


async def test_a_lost_primary_key_is_said_and_never_replaced(store: FeedStore, tmp_path: Path) -> None:
    feed = await store.create("prices")
    path = tmp_path / "store" / "primary-key"
    assert read_secret(path) is not None
    path.unlink()
    with pytest.raises(ConfigError, match="put it back"):
        await store.create("more")
    with pytest.raises(ConfigError, match="read but not written"):
        await store.open(feed, write=True)
    await (await store.open(feed)).close()
    assert not path.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "feeds": {}}',
        '{"version": 3, "feeds": {}}',
        '{"version": 2, "feeds": {}, "others": {}, "held": [], "place": null, "more": 1}',
        '{"version": 2, "feeds": {}, "others": {}, "held": [], "place": "../x"}',
        '{"version": 2, "feeds": {}, "others": {"00": {"encrypted": false}}, "held": [], "place": null}',
        '{"version": 1, "feeds": {}, "more": 1}',
        '{"version": 1, "feeds": {"a": {"key": "00"}}}',
        '{"version": 1, "feeds": {"a": {"key": "00", "encrypted": false}}}',
        '{"version": 1, "feeds": {"../a": {"key": "' + "00" * 32 + '", "encrypted": false}}}',
        '{"version": 1, "feeds": {"a": {"key": "' + "00" * 32 + '", "encrypted": 1}}}',
        '{"version": 1, "feeds": []}',
        "[" * 5000,
    ],
)
async def test_a_damaged_registry_is_said_and_not_replaced(store: FeedStore, tmp_path: Path, text: str) -> None:
    await store.create("prices")
    path = tmp_path / "store" / "feeds.json"
    assert json.loads(path.read_text())["version"] == 2
    path.write_text(text)
    with pytest.raises(StorageError, match="damaged") as caught:
        await store.create("more")
    assert caught.value.fault is StorageFault.CORRUPT
    assert path.read_text() == text


async def test_a_feed_whose_folder_is_gone(store: FeedStore) -> None:
    feed = await store.create("prices")
    shutil.rmtree(store.folder(feed))
    with pytest.raises(ConfigError, match="no core"):
        await store.open(feed)


async def test_names_in_namespaces_derive_as_stock_corestore_does() -> None:
    plain = named_key_pair(PRIMARY, "b")
    spaced = named_key_pair(PRIMARY, "a/b")
    assert spaced.public_key != plain.public_key
    assert spaced.public_key != named_key_pair(PRIMARY, "b/a").public_key


async def test_a_version_1_catalog_is_read_and_written_anew(store: FeedStore, tmp_path: Path) -> None:
    feed = await store.create("prices")
    path = tmp_path / "store" / "feeds.json"
    old = {"version": 1, "feeds": {"prices": {"key": feed.key.hex(), "encrypted": False}}}
    path.write_text(json.dumps(old))
    assert store.feeds() == [feed]
    assert store.settle() == []  # nothing was known of the place
    assert json.loads(path.read_text())["version"] == 2
    assert store.catalog().place is not None


async def test_a_copied_store_holds_its_feeds_until_they_are_succeeded_or_released(tmp_path: Path) -> None:
    store = FeedStore(tmp_path / "store")
    feeds = [await store.create("prices"), await store.create("secret", encryption_key=ENCRYPTION_KEY)]
    pair = named_key_pair(primary(tmp_path / "store"), "secret")
    blobs = Manifest(signers=(Signer(pair.public_key, namespace=b"\x07" * 32),), quorum=1)
    beside = await store.create_beside(feeds[1], "secret/blobs", blobs)
    assert store.settle() == []
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    copy = FeedStore(tmp_path / "copy")
    assert copy.settle() == sorted([*feeds, beside], key=lambda feed: feed.name)
    assert copy.settle() == []  # it is at home there from now on, but what is held stays so
    assert copy.catalog().held == {LATER, *(feed.key for feed in (*feeds, beside))}
    copy.release(feeds[0])
    assert feeds[0].key not in copy.catalog().held
    successor = await copy.succeed(feeds[1])
    assert (successor.name, successor.epoch, successor.previous) == ("secret", 2, feeds[1].key)
    assert successor.encrypted
    assert copy.encryption_key(successor) == ENCRYPTION_KEY
    assert copy.find("secret") == successor
    assert copy.find(feeds[1].key.hex()).name == ""
    core = await copy.open(successor, write=True)
    assert core.manifest is not None
    assert core.manifest.linked == (feeds[1].key,)
    assert await core.append([b"x"], urgent=True) == 1
    await core.close()
    assert successor.key not in copy.catalog().held
    with pytest.raises(ConfigError, match="only a named feed"):
        await copy.succeed(copy.find(feeds[1].key.hex()))
    again = FeedStore(tmp_path / "copy").catalog()
    assert parse(format_catalog(again).decode()) == again


def primary(directory: Path) -> bytes:
    secret = read_secret(directory / "primary-key")
    assert secret is not None
    return secret
