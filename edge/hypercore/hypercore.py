"""One signed log on this disk, our own or somebody else's: the asyncio shell around state, intake and signing.

    core = await Hypercore.open(folder, create=True, key_pair=KeyPair.generate())
    length = await core.append([b"..."], urgent=True)    # durable when this returns, and signed after that
    core.get(length - 1)

    copy = await Hypercore.open(folder, create=True, key=key)    # filled by peers, wholly or in parts
    await copy.fetch(7)

Invariants
- A block is durable before it is hashed into `length`, signed, readable or told of; a failed group leaves no trace.
- An index is never used for other content at the same fork: a truncation raises the fork, durably, before it shows.
- `shown` is all that may be told to others. With one signer it follows each group; with several, once a quorum has
  signed (`sign` here, `add_signature` for the others').
- Signatures of our own can be made again, so they cost no sync: they are written along with a later group.
- What a peer sent is checked against a signature before it is remembered at all (`intake.py`).

Folder: `log/` (the truth; see `records.py`) and `derived/` (tree nodes, checkpoint; may be deleted at any time).
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from edge.crypto.hashing import discovery_key
from edge.crypto.keys import KeyPair
from edge.errors import BlockMissing, ConfigError, LocalError
from edge.hypercore import edits
from edge.hypercore.announcing import Announcing
from edge.hypercore.checking import Proven
from edge.hypercore.conflict import Conflict
from edge.hypercore.demand import Demand, Download
from edge.hypercore.encryption import HEADER_BYTES
from edge.hypercore.events import Demanded, Grown, Listener
from edge.hypercore.intake import Intake
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Node, Tree
from edge.hypercore.messages import Data, Request
from edge.hypercore.opening import Options, new_header, open_state
from edge.hypercore.records import CoreHeader, Partial, Signed
from edge.hypercore.seeking import seek
from edge.hypercore.serving import Serving, Shown
from edge.hypercore.signing import Signing, Standing
from edge.hypercore.state import CoreState
from edge.hypercore.verifier import Verifier
from edge.hypercore.write_queue import Append, Edit, Room, WriteQueue, closing, frozen
from edge.hypercore.writing import Writing
from edge.limits import BLOCK_BYTES_MAX, COMMIT_WINDOW_IDLE_S, GROUP_RECORDS_MAX, INTEGER_MAX, SIGNATURE_BYTES_MAX
from edge.storage.committer import GroupCommitter
from edge.storage.disk import Disk
from edge.storage.files import OsDisk
from edge.storage.log import RECORD_COST
from edge.storage.metrics import StorageMetrics

_SCAN_SLICE: Final = 256  # records that a long read takes before the loop gets its turn


class Hypercore:
    """A core on this disk. Made by `open`, ended by `close`."""

    def __init__(self, state: CoreState, options: Options) -> None:
        """A recovered core; nothing runs yet. Use `open` or `open_on`."""
        header = state.header
        if options.encryption_key is not None and not header.encrypted and header.verifier is not None:
            raise ConfigError("encryption key", "this core is not encrypted")
        self.encrypted: Final = header.encrypted or options.encryption_key is not None
        self._state = state
        self._signing = Signing(state, options, encrypted=self.encrypted)
        self._serving = Serving(state, self._signing)
        self._committer = GroupCommitter(state.log, metrics=options.metrics)
        self._room = Room(GROUP_RECORDS_MAX - 1, state.log.group_bytes - RECORD_COST - SIGNATURE_BYTES_MAX)
        self._queue = WriteQueue(self._room, window_s=options.window_s, monotonic=time.monotonic)
        self.demand: Final = Demand(self.held, lambda: self._announcing.publish([Demanded()]))
        self._announcing = Announcing(self.demand, self._serving.changed)
        self._intake = Intake(state, self._queue, self.demand, room=self._room, foreign=self._signing.foreign)
        self._writing = Writing(
            state,
            self._signing,
            self._intake,
            self._queue,
            commit=self._committer.append,
            publish=self._announcing.publish,
        )
        self._tasks: list[asyncio.Task[None]] = []
        # For peers, once or more for each block: the methods themselves, without one call more.
        self.accept: Final[Callable[[Data], None]] = self._intake.accept
        self.known: Final[Callable[[int], Node | None]] = self._intake.known
        self.pending: Final[Callable[[int], bool]] = self._intake.pending
        self.prove: Final[Callable[[Request], Data]] = self._serving.prove

    # --- opening and closing -----------------------------------------------------------------------------------------

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        create: bool = False,
        key_pair: KeyPair | None = None,
        manifest: Manifest | None = None,
        compat: bool = False,
        encryption_key: bytes | None = None,
        encrypted: bool = False,
        key: bytes | None = None,
        held: bool = False,
        metrics: StorageMetrics | None = None,
        window_s: float = COMMIT_WINDOW_IDLE_S,
        segment_bytes: int | None = None,
    ) -> "Hypercore":
        """Open the core in `directory`; with `create`, make it first where there is none.

        A new core is defined by `manifest`, by `key_pair` alone (one signer; `compat`: its public key is the key), or
        is somebody else's of which only `key` is known. It is encrypted if it gets an `encryption_key` (32 bytes), or
        if `encrypted` says so of somebody else's that is only to be kept. An existing core must agree with what is
        given, and can be read without its key pair. `held`: not written until `release`. Raises `ConfigError` where it
        disagrees, `StorageError` for the disk.
        """

        if not create and not (directory / "log").is_dir():
            raise ConfigError("feed", f"no core in {directory}")
        header = None
        if create:
            secret = encrypted or encryption_key is not None
            header = new_header(key_pair, manifest, key, compat=compat, encrypted=secret)
        options = Options(key_pair, encryption_key, held, metrics, window_s, segment_bytes)

        def at_work() -> "Hypercore":
            log = OsDisk(directory / "log", create=create)
            return cls._recovered(log, OsDisk(directory / "derived", create=True), header, options)

        opening = asyncio.ensure_future(asyncio.to_thread(at_work))
        try:
            core = await asyncio.shield(opening)
        except asyncio.CancelledError:  # the thread goes on: let go of what it has opened
            await asyncio.wait([opening])
            if opening.exception() is None:
                opening.result()._state.close()
            raise
        return await core._start(key)

    @classmethod
    async def open_on(
        cls,
        log: Disk,
        derived: Disk,
        *,
        header: CoreHeader | None = None,
        key_pair: KeyPair | None = None,
        encryption_key: bytes | None = None,
        held: bool = False,
        window_s: float = COMMIT_WINDOW_IDLE_S,
    ) -> "Hypercore":
        """The same on given disks; with `header`, make a core with this header where there is none."""
        options = Options(key_pair, encryption_key, held, None, window_s)
        return await cls._recovered(log, derived, header, options)._start(None)

    @classmethod
    def _recovered(cls, log: Disk, derived: Disk, header: CoreHeader | None, options: Options) -> "Hypercore":
        state = open_state(log, derived, header, options.segment_bytes)
        try:
            return cls(state, options)
        except BaseException:
            state.close()
            raise

    async def _start(self, key: bytes | None) -> "Hypercore":
        if key is not None and key != self.key:
            self._state.close()
            raise ConfigError("key", f"the core here has the key {self.key.hex()}")
        self._tasks = [asyncio.create_task(self._committer.run()), asyncio.create_task(self._writing.run())]
        self._committer.discard(self._state.oplog.discarded)
        return self

    async def watch(self) -> None:
        """Return once the core is closed; raise what ended its writer otherwise. For the owner's task group."""
        await asyncio.gather(*(asyncio.shield(task) for task in self._tasks))

    async def close(self) -> None:
        """Write what waits, leave signature and checkpoint behind, let go of the folder. Again: does nothing."""
        if not self._tasks:
            return
        tasks, self._tasks = self._tasks, []
        self._queue.close()
        try:
            await tasks[1]
        finally:
            self._announcing.close()
            await self._committer.close()
            await asyncio.gather(tasks[0], return_exceptions=True)
            self._state.close()

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def key(self) -> bytes:
        """Who knows it can find and verify the core, and read it where it is not encrypted."""
        return self._state.header.key

    @property
    def discovery_key(self) -> bytes:
        """May be said in public."""
        return discovery_key(self.key)

    @property
    def verifier(self) -> Verifier | None:
        """Whether signatures hold; None until a peer has told the manifest of somebody else's core."""
        return self._intake.verifier

    @property
    def manifest(self) -> Manifest | None:
        """Who signs; None like `verifier`."""
        verifier = self._intake.verifier
        return None if verifier is None else verifier.manifest

    @property
    def compat(self) -> bool:
        """Whether the core is known to be from before manifests."""
        verifier = self._intake.verifier
        return verifier is not None and verifier.compat

    @property
    def length(self) -> int:
        """Durable length. Not all blocks need be signed yet where several must sign, or be here where we do not."""
        return self._state.tree.length

    @property
    def byte_length(self) -> int:
        """Bytes of the blocks below the length, without what encryption adds."""
        return self._state.tree.byte_length - self._padding * self.length

    @property
    def fork(self) -> int:
        """How often the log was truncated, or more."""
        return self._state.oplog.fork

    @property
    def standing(self) -> Standing:
        """What this disk may do with the core."""
        return self._signing.standing

    @property
    def writable(self) -> bool:
        """Whether blocks can be appended: the standing is WRITER, and an encryption key is here if there must be."""
        return self._signing.writable

    @property
    def signed(self) -> Signed | None:
        """The newest complete signature and the state it covers; None: nothing may be shown to others yet."""
        return self._signing.signed

    @property
    def queue_depth(self) -> int:
        """Blocks that wait to be written."""
        return self._queue.depth

    @property
    def frozen(self) -> Conflict | None:
        """The proof that two histories were signed."""
        return self._state.oplog.conflict

    def tree_hash(self, length: int | None = None) -> bytes:
        """The tree hash now, or as it was at a smaller `length`."""
        return self._state.tree_at(self.length if length is None else length).hash()

    def signable(self, length: int | None = None) -> bytes:
        """What a signer signs for `length` at the current fork (default: now)."""
        length = self.length if length is None else length
        verifier = self.verifier
        if verifier is None:
            raise LocalError("nobody knows yet who signs this core")
        return verifier.signable(self.tree_hash(length), length, self.fork, self._signing.signer or 0)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def append(self, blocks: Iterable[bytes], *, urgent: bool = False, whole: bool = False) -> int:
        """Append blocks in one group and return the length behind them once they are durable.

        Either all of them follow each other in the log or, after an error, none; after a power cut that came before
        the answer, a beginning of them may be found, unless they are to be `whole`: then it is cut off at the next
        opening, which raises the fork. `urgent`: somebody waits, so flush at once; otherwise they are gathered. Raises
        `StorageError` (FULL and IO may pass, so trying again makes sense; READ_ONLY says why this disk may not write)
        and `LocalError` for blocks too large.
        """
        blocks = list(blocks)
        self._signing.check_writable()
        if not blocks:
            return self.length
        extra = RECORD_COST + self._padding
        cost = sum(map(len, blocks)) + extra * len(blocks)
        if not self._queue.fits(len(blocks), cost) or max(map(len, blocks)) > BLOCK_BYTES_MAX:
            raise LocalError(
                f"{len(blocks)} blocks of {cost} bytes in all are too much for one group: it takes "
                f"{self._room.records} blocks and {self._room.cost} bytes in all, {BLOCK_BYTES_MAX} in one block"
            )
        await self._queue.room_for(len(blocks), cost)
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.put(Append(blocks, cost, urgent, time.monotonic(), done, whole))
        return await done

    async def truncate(self, length: int, fork: int | None = None) -> None:
        """Drop the blocks from `length` on and raise the fork, by one or to `fork`; durable when this returns.

        Signatures for the old fork count no more. Raises `LocalError` for a length or fork that is none.
        """
        self._signing.check_writable()

        def prepare() -> edits.Prepared:
            self._signing.check_writable()
            return edits.truncation(self._state, length, fork)

        await self._edit(prepare)

    async def sign(self, length: int | None = None) -> Partial:
        """Our own part of the signature over `length` (default: now), of a core with several signers; durable."""
        part = self._signing.part(self.length if length is None else length)
        await self.add_signature(part)
        return part

    async def add_signature(self, part: Partial) -> bool:
        """Take one signer's part; returns whether a quorum has now signed that length.

        Raises `SignatureError` if it does not hold, `RemoteError` if it speaks of another state than ours.
        """
        await self._edit(lambda: edits.signature_part(self._state, self._signing, part))
        signed = self._signing.signed
        return signed is not None and signed.length >= part.length

    async def clear(self, start: int, end: int | None = None) -> None:
        """Give up held blocks `start` to `end` (exclusive; default: the next one only); durable when this returns.

        Length, tree and signatures stay, and so do the proofs of all other blocks. The room comes back by and by. A
        cleared block can be fetched again where a peer has it.
        """
        end = min(start + 1 if end is None else end, self.length)
        await self._edit(lambda: edits.clearing(self._state, self.signed, max(start, 0), end))
        self._committer.discard(self._state.oplog.discarded)

    def release(self) -> None:
        """Say of a core opened as `held` that it is the newest copy and the only one that is written."""
        self._signing.release()
        self._announcing.publish([Grown()])

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, index: int, *, proven: bool = False) -> bytes:
        """One block, decrypted. Its checksum is always checked; `proven`: also its path to the Merkle root.

        Raises `IndexError` out of range, `BlockMissing`, and `StorageError` CORRUPT naming the block.
        """
        stored = self._state.stored(index)
        if proven:
            self._state.prove(index, stored)
        return self._opened(index, stored)

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Blocks `start` to `end` (exclusive; default: the length now) in order, read ahead; quicker than `get`."""
        end = self.length if end is None else min(end, self.length)
        for index, stored in self._state.stored_blocks(start, end):
            yield self._opened(index, stored)

    async def verify(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Read every record back and check blocks, tree and signatures; returns the length.

        Raises `BlockCorrupt` (edge.hypercore.audit) naming the first bad block, `StorageError` for other damage.
        `progress` is called with records done and in all. Appends go on meanwhile; what they add is not looked at.
        """
        audit = self._state.audit(self.signed)
        for count, done in enumerate(audit.steps()):
            if count % _SCAN_SLICE == 0:
                if progress is not None:
                    progress(done, audit.stop)
                await asyncio.sleep(0)
        return audit.tree.length

    async def fetch(self, index: int, timeout_s: float | None = None) -> bytes:
        """One block, from peers if it is not here; waits for one that is not written yet.

        Raises `BlockMissing` where nobody has brought it in time, `IndexError` for what can be no index.
        """
        if not self.has(index):
            if not 0 <= index <= INTEGER_MAX:
                raise IndexError(f"{index} is no index of a block")
            self._check_open()
            wish = self.demand.block(index)
            try:
                async with asyncio.timeout(timeout_s):
                    await wish
            except TimeoutError as error:
                raise BlockMissing(index) from error
        return self.get(index)

    def download(self, start: int = 0, end: int | None = None) -> Download:
        """Have peers bring blocks `start` to `end`; without an end, also all that come later. `done` is its future."""
        self._check_open()
        return self.demand.range(start, end)

    async def update(self) -> bool:
        """Ask the peers at hand for a longer log; returns whether there was one."""
        self._check_open()
        return False if self.writable else await self.demand.upgrade()

    async def changed(self, length: int, fork: int) -> None:
        """Return once length or fork is another than these. Raises `StorageError` once that can never be."""
        while (self.length, self.fork) == (length, fork):
            self._check_open()
            await self._announcing.growth()

    async def seek(self, offset: int) -> tuple[int, int]:
        """The block that byte `offset` of the log lies in, and where in it; past the last block for the very end.

        Raises `IndexError` out of range. Tree nodes that are missing come from peers.
        """
        while True:
            found = seek(self._intake.ahead, offset, self._padding, self.known)
            if found is not None:
                return found
            self._check_open()
            await self.demand.seek(offset, self._padding)

    # --- for peers ---------------------------------------------------------------------------------------------------

    @property
    def shown(self) -> Shown | None:
        """The newest state that has a signature."""
        return self._serving.shown

    @property
    def ahead(self) -> Tree:
        """The durable tree, or what accepted upgrades will make of it."""
        return self._intake.ahead

    @property
    def backlog(self) -> int:
        """Bytes accepted from peers and not yet durable."""
        return self._intake.backlog

    @property
    def contiguous(self) -> int:
        """Blocks held from 0 on without a hole."""
        return self._state.oplog.runs.contiguous

    def has(self, index: int) -> bool:
        """Whether block `index` is held."""
        return self._state.oplog.runs.has(index)

    def held(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Stretches of held blocks between `start` and `end`, ascending."""
        return self._state.oplog.runs.held(start, end)

    def accept_reorg(self, whole: Proven, shared: int) -> None:
        """Follow a longer fork, of which up to `shared` leading blocks are ours: as many as the nodes prove."""
        self._intake.accept_reorg(whole, shared)

    async def conflict(self, proof: Conflict) -> None:
        """Keep the proof that two histories were signed, durably, and freeze. Raises `SignatureError` if it is none."""
        await self._edit(lambda: edits.freezing(self._state, proof))

    async def flushed(self) -> None:
        """Return once all that was accepted up to now is durable; `StorageError` if it is forgotten instead."""
        last = self._intake.last()
        if last is None:
            return
        if last.done is None:
            last.done = asyncio.get_running_loop().create_future()
        self._queue.hurry(last)
        await asyncio.shield(last.done)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Hear events (`events.py`) until the returned function is called."""
        return self._announcing.subscribe(listener)

    # --- within ------------------------------------------------------------------------------------------------------

    @property
    def _padding(self) -> int:
        return HEADER_BYTES if self.encrypted else 0

    def _check_open(self) -> None:
        if self._announcing.closed:
            raise closing()
        if self.frozen is not None:
            raise frozen()

    def _opened(self, index: int, stored: bytes) -> bytes:
        if not self.encrypted:
            return stored
        cipher = self._signing.cipher
        if cipher is None:
            raise ConfigError("encryption key", "this core is encrypted; its blocks need the key")
        return cipher.decrypt(index, stored)

    async def _edit(self, prepare: Callable[[], edits.Prepared]) -> None:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.put(Edit(prepare, time.monotonic(), done))
        await done
