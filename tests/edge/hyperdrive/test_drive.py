"""A drive against a dict of paths; readers elsewhere; versions; what a peer's wrong entry leads to."""

import asyncio
from contextlib import aclosing, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support_drive_logs import PAIR, MemoryLog, content, logs, new_drive, replica

from edge.errors import BlockMissing, ConfigError, LocalError, RemoteError
from edge.hypercore.manifest import Manifest
from edge.hyperdrive.content import content_manifest
from edge.hyperdrive.drive import Hyperdrive
from edge.hyperdrive.entry import BlobId, FileValue, Json
from edge.hyperdrive.paths import FILES
from edge.hyperdrive.view import DriveView
from edge.limits import SYMLINKS_FOLLOWED_MAX


async def files(view: DriveView, folder: str = "/") -> dict[str, bytes | None]:
    return {entry.key: await view.get(entry) async for entry in view.list(folder)}


async def test_put_get_delete() -> None:
    drive = new_drive()
    assert drive.version == 1
    assert await drive.get("/a") is None
    assert await drive.entry("/a") is None
    await drive.put("a", b"one", executable=True, metadata={"by": "us"})
    entry = await drive.entry("/a")
    assert entry is not None
    assert (entry.key, entry.seq, entry.byte_length) == ("/a", 1, 3)
    assert (entry.value.executable, entry.value.metadata) == (True, {"by": "us"})
    assert await drive.exists("a")
    assert await drive.get(entry) == b"one"
    await drive.put("/a", b"")
    assert await drive.get("/a") == b""
    assert [piece async for piece in drive.read("/a")] == []
    assert await drive.delete("a")
    assert not await drive.delete("a")
    assert not await drive.exists("a")
    assert drive.version == 4
    with pytest.raises(ConfigError, match="no such file"):
        [piece async for piece in drive.read("/a")]
    with pytest.raises(LocalError):
        await drive.put("/", b"")


async def test_nothing_is_written_for_an_entry_that_is_refused() -> None:
    db, blobs = logs()
    drive = Hyperdrive(db, blobs)
    for path, metadata in (("/..", None), ("/a", b"bytes")):
        wrong: Any = metadata
        with pytest.raises(LocalError):
            await drive.put(path, b"content", metadata=wrong)
    assert (db.length, blobs.length) == (0, 0)


async def test_a_part_of_a_file() -> None:
    drive = new_drive()
    whole = content(1, 200_000)
    await drive.put("/a", whole)
    for start, length in ((0, None), (65_535, 2), (131_072, 65_536), (199_999, 10), (200_000, 1), (70_000, 0)):
        pieces = [piece async for piece in drive.read("/a", start=start, length=length)]
        assert b"".join(pieces) == whole[start : None if length is None else start + length]


async def test_links() -> None:
    drive = new_drive()
    await drive.put("/folder/file", b"x")
    await drive.symlink("/absolute", "/folder/file")
    await drive.symlink("/folder/relative", "../file")  # as stock: from the link's own path
    await drive.symlink("/chain", "/absolute")
    await drive.symlink("/dangling", "/not/there")
    await drive.symlink("/out", "../../x")
    await drive.symlink("/self", "/self")
    for path in ("/absolute", "/folder/relative", "/chain", "/folder/file"):
        entry = await drive.entry(path, follow=True)
        assert entry is not None, path
        assert entry.key == "/folder/file"
        assert await drive.get(path, follow=True) == b"x"
    assert await drive.get("/absolute") is None
    assert [piece async for piece in drive.read("/absolute")] == []
    link = await drive.entry("/absolute")
    assert link is not None
    assert await drive.content_length(link) == 0
    assert await drive.entry("/dangling", follow=True) is None
    for path, said in (("/out", "out of the drive"), ("/self", "too many")):
        with pytest.raises(RemoteError, match=said):
            await drive.entry(path, follow=True)
    for number in range(SYMLINKS_FOLLOWED_MAX):
        await drive.symlink(f"/n{number}", f"/n{number + 1}")
    with pytest.raises(RemoteError, match="too many"):
        await drive.entry("/n0", follow=True)
    assert await drive.entry("/n1", follow=True) is None


async def test_folders() -> None:
    drive = new_drive()
    for path in ("/a", "/a-b", "/a/1", "/a/b/c", "/a0", "/b/0/x", "/b/00", "/b/0-", "/b/1"):
        await drive.put(path, path.encode())
    assert list(await files(drive)) == ["/a", "/a-b", "/a/1", "/a/b/c", "/a0", "/b/0-", "/b/0/x", "/b/00", "/b/1"]
    assert list(await files(drive, "a/")) == ["/a/1", "/a/b/c"]
    assert [name async for name in drive.readdir()] == ["a", "a-b", "a", "a0", "b"]  # the folder a, as stock
    assert [name async for name in drive.readdir("b")] == ["0-", "0", "00", "1"]
    assert [name async for name in drive.readdir("/nothing")] == []
    shallow = [entry.key async for entry in drive.list("/b", recursive=False, ignore=["/b/1"])]
    assert shallow == ["/b/0-", "/b/0/x", "/b/00"]
    assert [entry.key async for entry in drive.list(ignore=["a", "/b/0"])] == ["/a-b", "/a0", "/b/0-", "/b/00", "/b/1"]


async def fail(drive: Hyperdrive) -> None:
    async with drive.batch() as batch:
        await batch.put("/never", b"x")
        await batch.put("/", b"x")


async def test_batch() -> None:
    db, blobs = logs()
    drive = Hyperdrive(db, blobs)
    await drive.put("/old", b"old")
    async with drive.batch() as batch:
        await batch.put("/a", b"a")
        await batch.symlink("/l", "a")
        await batch.delete("/old")
        await batch.put_entry("/e", executable=True)
        assert await batch.get("/a") == b"a"
        assert [entry.key async for entry in batch.list()] == ["/a", "/e", "/l"]
        assert list(await files(drive)) == ["/old"]
    assert list(await files(drive)) == ["/a", "/e", "/l"]
    assert db.appends == [1, 1, 4]
    with pytest.raises(LocalError):
        await fail(drive)
    assert not await drive.exists("/never")


async def test_versions() -> None:
    drive = new_drive()
    for number in range(20):
        await drive.put(f"/{number % 7}", b"%d" % number)
    old = drive.checkout(11)
    assert old.version == 11
    assert await files(old) == {f"/{n % 7}": b"%d" % n for n in range(3, 10)} | {"/0": b"7", "/1": b"8", "/2": b"9"}
    changed = [(change.key, change.left, change.right) async for change in drive.diff(18)]
    assert [key for key, _, _ in changed] == ["/3", "/4", "/5"]
    assert [left and right and DriveView.compare(left, right) for _, left, right in changed] == [1, 1, 1]
    assert [c.key async for c in drive.diff(1, "/3")] == []
    entry = await drive.entry("/3")
    assert entry is not None
    assert DriveView.compare(entry, entry) == 0


async def test_truncate() -> None:
    db, blobs = logs()
    drive = Hyperdrive(db, blobs)
    for number in range(5):
        await drive.put(f"/{number}", content(number, 100_000))
    assert await drive.blobs_length() == 10
    await drive.truncate(3)
    assert (db.length, blobs.length) == (3, 4)
    assert await files(drive) == {f"/{n}": content(n, 100_000) for n in range(2)}
    await drive.put("/again", b"x")
    assert await drive.get("/again") == b"x"
    await drive.truncate(2, blobs=5)
    for version, length in ((9, None), (1, 9)):
        with pytest.raises(LocalError):
            await drive.truncate(version, blobs=length)


async def test_clear_has_and_download() -> None:
    db, blobs = logs()
    drive = Hyperdrive(db, blobs)
    await drive.put("/a/1", content(1, 100_000))
    await drive.put("/a/2", content(2, 10))
    await drive.put("/b", content(3, 10))
    await drive.symlink("/a/l", "1")
    far, _, far_blobs = replica(db, blobs)
    assert not far.content_key
    assert not far.writable
    assert not await far.has("/a")
    assert not await far.has("/nothing")
    with pytest.raises(BlockMissing):
        await far.get("/b", wait=False)
    await far.download("/a")
    assert await far.has("/a")
    assert await far.has("/a/1")
    assert not await far.has()
    assert sorted(far_blobs.blocks) == [0, 1, 2]
    assert await far.clear("/a/1")
    assert not await far.clear("/a/l")
    assert not await far.clear("/nothing")
    assert not await far.has("/a/1")
    await far.download_diff(3)
    assert await far.has("/b")
    await far.download("/b")
    await far.download("/nothing")
    await far.clear_all()
    assert far_blobs.blocks == {}
    assert await files(far) == await files(drive)
    assert far.content_key == blobs.key
    with pytest.raises(Exception, match="cannot be written"):
        await far.delete("/b")


async def test_which_core_holds_the_content() -> None:
    db, blobs = logs()
    other = MemoryLog(Manifest.single(PAIR.public_key))
    with pytest.raises(ConfigError, match=blobs.key.hex()):
        Hyperdrive(db, other)
    with pytest.raises(ConfigError, match="without its content"):
        await Hyperdrive(db).put("/a", b"")

    async def open_other(_: bytes) -> MemoryLog:
        return other

    with pytest.raises(LocalError, match="another core"):
        await Hyperdrive(db, open_blobs=open_other).put("/a", b"")


async def test_a_database_without_manifest_names_the_core() -> None:
    db, blobs = MemoryLog(None, key=PAIR.public_key), MemoryLog(Manifest.single(PAIR.public_key))
    drive = Hyperdrive(db, blobs)
    far, _, _ = replica(db, blobs)
    await drive.put("/a", b"x")
    assert await far.get("/a") == b"x"
    other = MemoryLog(Manifest.single(b"\x01" * 32))
    with pytest.raises(ConfigError, match="names another core"):
        await Hyperdrive(db, other).get("/a")
    nameless = MemoryLog(None, key=PAIR.public_key)
    with pytest.raises(RemoteError, match="does not say"):
        await replica(nameless, blobs)[0].blobs()
    assert content_manifest(None, PAIR.public_key) is None


async def test_concurrent_puts() -> None:
    drive = new_drive()
    whole = {f"/{n}": content(n, 70_000 + n) for n in range(10)}
    await asyncio.gather(*(drive.put(path, data) for path, data in whole.items()))
    assert await files(drive) == whole


async def test_watch() -> None:
    drive = new_drive()
    seen: list[tuple[list[str], list[str]]] = []

    async def watch() -> None:
        async with aclosing(drive.watch("/a")) as changes:
            async for now, before in changes:
                seen.append((list(await files(now)), list(await files(before))))
                if len(seen) == 2:
                    return

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    await drive.put("/b", b"elsewhere")
    await drive.put("/a/1", b"here")
    while not seen:
        await asyncio.sleep(0)
    await drive.delete("/a/1")
    await watching
    assert [now for now, _ in seen] == [["/a/1", "/b"], ["/b"]]
    assert seen[1][1] == ["/a/1", "/b"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (FILES + b"/x", b"no JSON"),
        (FILES + b"/x", None),
        (FILES + b"/\xff", FileValue().encode()),
        (FILES + b"/x", b'{"blob":{"blockOffset":0}}'),
    ],
)
async def test_a_wrong_entry_is_the_peers_fault(key: bytes, value: bytes | None) -> None:
    drive = new_drive()
    await drive.put("/good", b"good")
    await drive._bee.put(key, value)
    assert await drive.get("/good") == b"good"
    with pytest.raises(RemoteError):
        await files(drive)


async def test_an_entry_of_content_that_is_not_there() -> None:
    drive = new_drive()
    await drive.put("/a", b"x")
    await drive.put_entry("/b", blob=BlobId(0, 0, 1, 2))
    with pytest.raises(RemoteError, match="early"):
        await drive.get("/b")


PATHS = st.lists(st.sampled_from(["a", "b", "ä", "0", "-"]), min_size=1, max_size=3).map("/".join)
METADATA: st.SearchStrategy[Json] = st.none() | st.integers(0, 3) | st.just({"k": [1]})


class DriveAgainstDict(RuleBasedStateMachine):
    """A writer, a replica that reads from it, and a dict; versions are remembered and stay as they were."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.db, self.blobs = logs()
        self.drive = Hyperdrive(self.db, self.blobs)
        self.model: dict[str, tuple[bytes | str, bool, Json]] = {}
        self.versions: dict[int, dict[str, tuple[bytes | str, bool, Json]]] = {1: {}}

    def run(self, coroutine: Any) -> Any:
        result = self.runner.run(coroutine)
        self.versions[self.drive.version] = dict(self.model)
        return result

    @rule(path=PATHS, data=st.binary(max_size=9), executable=st.booleans(), metadata=METADATA)
    def put(self, path: str, data: bytes, executable: bool, metadata: Json) -> None:
        self.model["/" + path] = data, executable, metadata
        self.run(self.drive.put(path, data, executable=executable, metadata=metadata))

    @rule(path=PATHS, to=PATHS)
    def link(self, path: str, to: str) -> None:
        self.model["/" + path] = to, False, None
        self.run(self.drive.symlink(path, to))

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        existed = self.model.pop("/" + path, None) is not None
        assert self.run(self.drive.delete(path)) == existed

    @rule(paths=st.lists(st.tuples(PATHS, st.none() | st.binary(max_size=3)), max_size=5))
    def batch(self, paths: list[tuple[str, bytes | None]]) -> None:
        async def write() -> None:
            async with self.drive.batch() as batch:
                for path, data in paths:
                    if data is None:
                        await batch.delete(path)
                        self.model.pop("/" + path, None)
                    else:
                        await batch.put(path, data)
                        self.model["/" + path] = data, False, None
                    assert await batch.exists(path) == (data is not None)

        self.run(write())

    @rule(folder=st.just("/") | PATHS)
    def folders(self, folder: str) -> None:
        prefix = "" if folder == "/" else "/" + folder
        below = sorted((key for key in self.model if key.startswith(prefix + "/")), key=str.encode)
        names = {key[len(prefix) + 1 :].partition("/")[0] for key in below}
        both = {name for name in names if f"{prefix}/{name}" in self.model}

        async def read() -> tuple[list[str], list[str]]:
            return [e.key async for e in self.drive.list(folder)], [name async for name in self.drive.readdir(folder)]

        keys, found = self.runner.run(read())
        assert keys == below
        assert set(found) == names
        assert all(found.count(name) == 1 or (name in both and found.count(name) == 2) for name in names)

    @rule(data=st.data())
    def diff(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.versions)))

        async def read() -> list[str]:
            return [change.key async for change in self.drive.diff(version)]

        changed = self.runner.run(read())
        old = self.versions[version]
        assert set(changed) >= {key for key in {*old, *self.model} if old.get(key) != self.model.get(key)}
        assert changed == sorted(changed, key=str.encode)

    @rule(data=st.data())
    def read_a_version_elsewhere(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.versions)))
        far = replica(self.db, self.blobs)[0]
        assert self.runner.run(self._seen(far.checkout(version))) == self.versions[version]

    @invariant()
    def everything_is_there(self) -> None:
        assert self.runner.run(self._seen(self.drive)) == self.model

    @staticmethod
    async def _seen(view: DriveView) -> dict[str, tuple[bytes | str | None, bool, Json]]:
        seen: dict[str, tuple[bytes | str | None, bool, Json]] = {}
        async for entry in view.list():
            value = entry.value
            what = await view.get(entry) if value.linkname is None else value.linkname
            seen[entry.key] = what, value.executable, value.metadata
        return seen

    def teardown(self) -> None:
        self.runner.close()


DriveAgainstDict.TestCase.settings = settings(deadline=None, max_examples=40, stateful_step_count=25)
TestDriveAgainstDict = DriveAgainstDict.TestCase


@given(st.binary(max_size=9))
def test_any_link_is_followed_or_refused(target: bytes) -> None:
    async def follow() -> None:
        drive = new_drive()
        await drive.symlink("/a/b", target.decode("latin-1"))
        with suppress(RemoteError):
            await drive.entry("/a/b", follow=True)

    asyncio.run(follow())
