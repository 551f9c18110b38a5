"""Drives of a store: its own by name, other people's by key; both cores are lent by the store and given back.

    async with open_drive(store, "files") as drive: ...             # ours: made on first use
    async with open_drive(store, key=key) as drive: ...             # somebody else's: filled by peers

Our own drive's database is the core of that name, and its content lies beside it, signed by the same key pair: a stock
drive over a Corestore with the same primary key has the same two keys (the name there is "db").
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from edge.hypercore.corestore import Corestore
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest
from edge.hyperdrive.content import content_manifest
from edge.hyperdrive.drive import DatabaseLog, Hyperdrive


@asynccontextmanager
async def open_drive(
    store: Corestore,
    name: str | None = None,
    *,
    key: bytes | None = None,
    encryption_key: bytes | None = None,
    create: bool = True,
) -> AsyncIterator[Hyperdrive]:
    """A drive, while the block lasts. Arguments are those of `Corestore.get`, and raise what it raises."""
    async with AsyncExitStack() as stack:

        def lent(core: Hypercore) -> Hypercore:
            stack.push_async_callback(store.release, core)
            return core

        async def open_blobs(blobs_key: bytes) -> Hypercore:
            return lent(await store.get(key=blobs_key, encryption_key=encryption_key))

        db = lent(await store.get(name, key=key, encryption_key=encryption_key, create=create))
        blobs = await open_own_blobs(store, db)
        yield Hyperdrive(db, None if blobs is None else lent(blobs), open_blobs=open_blobs)


async def open_own_blobs(store: Corestore, db: DatabaseLog) -> Hypercore | None:
    """The core beside our own database `db`, made where it is missing; None for a drive that cannot be written here."""
    if not db.writable:
        return None
    manifest = content_manifest(db.manifest, db.key)
    if manifest is None and not db.length:  # older than manifests: any core will do, as the header names it
        manifest = Manifest.single(db.key)
    if manifest is None:
        return None
    succeeds = db.manifest is not None and db.manifest.linked  # the epoch before has the plain name
    return await store.get_beside(db.key, f"blobs-{db.key.hex()[:8]}" if succeeds else "blobs", manifest)
