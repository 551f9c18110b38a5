"""One append-only signed log on this disk: the asyncio shell around oplog, Merkle tree, signatures and encryption.

    core = await Hypercore.open(folder, create=True, key_pair=KeyPair.generate())
    length = await core.append([b"..."], urgent=True)    # durable when this returns, and signed after that
    core.get(length - 1)

Invariants
- A block is durable before it is hashed into `length`, signed or readable; a failed group leaves no trace of itself.
- An index is never used for other content at the same fork: a truncation raises the fork, durably, before it shows.
- `signed` is all that may be shown to others. With one signer it follows each group; with several, once a quorum has
  signed (`sign` here, `add_signature` for the others').
- Signatures of our own can be made again, so they cost no sync: they are written along with a later group.

Folder: `log/` (the truth; see `oplog.py`) and `derived/` (tree nodes, checkpoint; may be deleted at any time).
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from edge.crypto.hashing import discovery_key
from edge.crypto.keys import KeyPair
from edge.errors import ConfigError, LocalError, RemoteError, SignatureError, StorageError, StorageFault
from edge.hypercore.encryption import HEADER_BYTES, BlockCipher
from edge.hypercore.manifest import Manifest
from edge.hypercore.oplog import BLOCK, CoreHeader, Partial, RecordKind, Signed, encode_truncate
from edge.hypercore.state import CoreState
from edge.hypercore.verifier import Verifier
from edge.hypercore.write_queue import Append, Edit, Records, Write, WriteQueue, closing, settle
from edge.limits import BLOCK_BYTES_MAX, COMMIT_WINDOW_IDLE_S, GROUP_RECORDS_MAX, INTEGER_MAX, SIGNATURE_BYTES_MAX
from edge.storage.committer import GroupCommitter
from edge.storage.disk import Disk
from edge.storage.files import OsDisk
from edge.storage.log import RECORD_COST
from edge.storage.metrics import StorageMetrics

SIGNATURE_EVERY_BLOCKS: Final = 64  # how far the newest signature on disk may lag; more often only costs flash
_SCAN_SLICE: Final = 256  # records that a long read takes before the loop gets its turn


class Hypercore:
    """A core on this disk. Made by `open`, ended by `close`."""

    def __init__(
        self,
        state: CoreState,
        *,
        key_pair: KeyPair | None = None,
        encryption_key: bytes | None = None,
        metrics: StorageMetrics | None = None,
        window_s: float = COMMIT_WINDOW_IDLE_S,
    ) -> None:
        """A recovered core; nothing runs yet. Use `open` or `open_on`."""
        self._state = state
        header = state.header
        self.verifier: Final = header.verifier
        self.encrypted: Final = header.encrypted
        self._key_pair = key_pair
        self._signer = None if key_pair is None else self.manifest.signer_index(key_pair.public_key)
        if key_pair is not None and self._signer is None:
            raise ConfigError("key pair", "it is not a signer of this core")
        self._cipher: BlockCipher | None = None
        if encryption_key is not None:
            if not header.encrypted:
                raise ConfigError("encryption key", "this core is not encrypted")
            self._cipher = BlockCipher.of(self.key, encryption_key, compat=self.verifier.compat)
        self._signed = state.oplog.signed
        self._committer = GroupCommitter(state.log, metrics=metrics)
        self._queue = WriteQueue(
            records_max=GROUP_RECORDS_MAX - 1,
            cost_max=state.log.group_bytes - RECORD_COST - SIGNATURE_BYTES_MAX,  # a signature rides along
            window_s=window_s,
            monotonic=time.monotonic,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._sign_own()

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
        key: bytes | None = None,
        metrics: StorageMetrics | None = None,
        window_s: float = COMMIT_WINDOW_IDLE_S,
    ) -> "Hypercore":
        """Open the core in `directory`; with `create`, make it first where there is none.

        A new core is defined by `manifest`, or by `key_pair` alone (one signer; `compat`: its public key is the key),
        and is encrypted if it gets an `encryption_key` (32 bytes). An existing core must agree with what is given, and
        can be read without its key pair. Raises `ConfigError` where it disagrees, `StorageError` for the disk.
        """

        def at_work() -> "Hypercore":
            log = OsDisk(directory / "log", create=create)
            derived = OsDisk(directory / "derived", create=True)
            header = None
            if create:
                header = _new_header(key_pair, manifest, compat=compat, encrypted=encryption_key is not None)
            return cls._recovered(
                log,
                derived,
                header,
                key_pair=key_pair,
                encryption_key=encryption_key,
                metrics=metrics,
                window_s=window_s,
            )

        if not create and not (directory / "log").is_dir():
            raise ConfigError("feed", f"no core in {directory}")
        core = await asyncio.to_thread(at_work)
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
        window_s: float = COMMIT_WINDOW_IDLE_S,
    ) -> "Hypercore":
        """The same on given disks; with `header`, make a core with this header where there is none."""
        core = cls._recovered(
            log, derived, header, key_pair=key_pair, encryption_key=encryption_key, metrics=None, window_s=window_s
        )
        return await core._start(None)

    @classmethod
    def _recovered(
        cls,
        log_disk: Disk,
        derived: Disk,
        header: CoreHeader | None,
        *,
        key_pair: KeyPair | None,
        encryption_key: bytes | None,
        metrics: StorageMetrics | None,
        window_s: float,
    ) -> "Hypercore":
        state = CoreState.open(log_disk, derived, header)
        try:
            if header is not None and state.header != header:
                raise ConfigError("feed", f"{log_disk.describe()} holds another core")
            return cls(state, key_pair=key_pair, encryption_key=encryption_key, metrics=metrics, window_s=window_s)
        except BaseException:
            state.close()
            raise

    async def _start(self, key: bytes | None) -> "Hypercore":
        if key is not None and key != self.key:
            self._state.close()
            raise ConfigError("key", f"the core here has the key {self.key.hex()}")
        self._tasks = [asyncio.create_task(self._committer.run()), asyncio.create_task(self._write())]
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
            await self._committer.close()
            await asyncio.gather(tasks[0], return_exceptions=True)
            self._state.close()

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def key(self) -> bytes:
        """Who knows it can find and verify the core, and read it where it is not encrypted."""
        return self.verifier.key

    @property
    def discovery_key(self) -> bytes:
        """May be said in public."""
        return discovery_key(self.key)

    @property
    def manifest(self) -> Manifest:
        """Who signs."""
        return self.verifier.manifest

    @property
    def length(self) -> int:
        """Durable blocks. Not all of them may be signed yet where several must sign."""
        return self._state.length

    @property
    def byte_length(self) -> int:
        """Bytes of the durable blocks, without what encryption adds."""
        return self._state.tree.byte_length - (HEADER_BYTES * self.length if self.encrypted else 0)

    @property
    def fork(self) -> int:
        """How often the log was truncated, or more."""
        return self._state.oplog.fork

    @property
    def writable(self) -> bool:
        """Whether blocks can be appended: a signer's key pair is here, and the encryption key if there must be one."""
        return self._signer is not None and (self._cipher is not None or not self.encrypted)

    @property
    def signed(self) -> Signed | None:
        """The newest complete signature and the state it covers; None: nothing may be shown to others yet."""
        return self._signed

    @property
    def queue_depth(self) -> int:
        """Blocks that wait to be written."""
        return self._queue.depth

    def tree_hash(self, length: int | None = None) -> bytes:
        """The tree hash now, or as it was at a smaller `length`."""
        return self._state.tree_at(self.length if length is None else length).hash()

    def signable(self, length: int | None = None) -> bytes:
        """What a signer signs for `length` at the current fork (default: now)."""
        length = self.length if length is None else length
        return self.verifier.signable(self.tree_hash(length), length, self.fork, self._signer or 0)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def append(self, blocks: Iterable[bytes], *, urgent: bool = False) -> int:
        """Append blocks in one group and return the length behind them once they are durable.

        Either all of them follow each other in the log or, after an error, none; after a power cut that came before
        the answer, a beginning of them may be found. `urgent`: somebody waits, so flush at once; otherwise blocks are
        gathered for a moment. Raises `StorageError` (FULL and IO may pass, so trying again makes sense) and
        `LocalError` for blocks too large.
        """
        blocks = list(blocks)
        if not self.writable:
            raise StorageError("this core cannot be written here: a key is missing", fault=StorageFault.READ_ONLY)
        if not blocks:
            return self.length
        extra = RECORD_COST + (HEADER_BYTES if self.encrypted else 0)
        cost = sum(map(len, blocks)) + extra * len(blocks)
        if not self._queue.fits(len(blocks), cost) or max(map(len, blocks)) > BLOCK_BYTES_MAX:
            raise LocalError(f"{len(blocks)} blocks of {cost} bytes in all are too much for one group")
        await self._queue.room_for(len(blocks), cost)
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.put(Append(blocks, cost, urgent, time.monotonic(), done))
        return await done

    async def truncate(self, length: int, fork: int | None = None) -> None:
        """Drop the blocks from `length` on and raise the fork, by one or to `fork`; durable when this returns.

        Signatures for the old fork count no more. Raises `LocalError` for a length or fork that is none.
        """
        if not self.writable:
            raise StorageError("this core cannot be written here: a key is missing", fault=StorageFault.READ_ONLY)

        def prepare() -> tuple[Records, Callable[[int], None]]:
            new_fork = self.fork + 1 if fork is None else fork
            if not 0 <= length <= self.length:
                raise LocalError(f"cannot truncate {self.length} blocks to {length}")
            if not self.fork < new_fork <= INTEGER_MAX:
                raise LocalError(f"fork {new_fork} does not come after fork {self.fork}")
            tree, payload = self._state.tree_at(length), encode_truncate(length, new_fork)

            def durable(sequence: int) -> None:
                self._state.truncated(sequence, payload, tree)
                self._signed = None
                self._sign_own()

            return [(RecordKind.TRUNCATE, payload)], durable

        await self._edit(prepare)

    async def sign(self, length: int | None = None) -> Partial:
        """Our own part of the signature over `length` (default: now), of a core with several signers; durable."""
        if self._key_pair is None or self._signer is None:
            raise StorageError("this core cannot be signed here: the key is missing", fault=StorageFault.READ_ONLY)
        length = self.length if length is None else length
        part = Partial(self._signer, length, self.fork, self._key_pair.sign(self.signable(length)))
        await self.add_signature(part)
        return part

    async def add_signature(self, part: Partial) -> bool:
        """Take one signer's part; returns whether a quorum has now signed that length.

        Raises `SignatureError` if it does not hold, `RemoteError` if it speaks of another state than ours.
        """

        def prepare() -> tuple[Records, Callable[[int], None]]:
            if part.fork != self.fork or not 0 < part.length <= self.length:
                raise RemoteError(f"no length {part.length} at fork {part.fork} here", reason="state")
            if not 0 <= part.signer < len(self.manifest.signers):
                raise SignatureError(f"signer {part.signer} is unknown")
            self.verifier.verify_single(
                part.signer, part.signature, self.tree_hash(part.length), part.length, part.fork
            )
            records: Records = [(RecordKind.PARTIAL, part.encode())]
            parts = {signer: sig for (at, signer), sig in self._state.oplog.partials.items() if at == part.length}
            parts[part.signer] = part.signature
            newest = self._signed.length if self._signed else 0
            if len(parts) >= self.manifest.quorum and part.length > newest:
                signed = Signed(part.length, part.fork, self.verifier.assemble(parts))
                records.append((RecordKind.SIGNATURE, signed.encode()))

            def durable(sequence: int) -> None:
                for offset, (kind, payload) in enumerate(records):
                    self._state.oplog.apply(sequence + offset, kind, payload)
                self._signed = self._state.oplog.signed

            return records, durable

        await self._edit(prepare)
        return self._signed is not None and self._signed.length >= part.length

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, index: int, *, proven: bool = False) -> bytes:
        """One block, decrypted. Its checksum is always checked; `proven`: also its path to the Merkle root.

        Raises `IndexError` out of range, `StorageError` CORRUPT naming the block.
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
        """Read every record back and check blocks, tree and signatures; returns the number of blocks.

        Raises `BlockCorrupt` (edge.hypercore.audit) naming the first bad block, `StorageError` for other damage.
        `progress` is called with records done and in all. Appends go on meanwhile; what they add is not looked at.
        """
        audit = self._state.audit(self._signed)
        for done in audit.steps():
            if done % _SCAN_SLICE == 0:
                if progress is not None:
                    progress(done, audit.stop)
                await asyncio.sleep(0)
        return audit.tree.length

    # --- within ------------------------------------------------------------------------------------------------------

    async def _edit(self, prepare: Callable[[], tuple[Records, Callable[[int], None]]]) -> None:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.put(Edit(prepare, time.monotonic(), done))
        await done

    async def _write(self) -> None:
        """The one writer: forms groups, waits for each to be durable, then publishes it."""
        try:
            while group := await self._queue.next_group():
                await self._write_group(group)
                if self._state.checkpoint_due:
                    self._state.save_checkpoint()
            await self._persist_signature()
        except BaseException as error:
            self._queue.fail(error if isinstance(error, Exception) else closing())
            raise

    async def _write_group(self, group: list[Write]) -> None:
        first = group[0]
        try:
            if isinstance(first, Edit):
                records, durable = first.prepare()
                lengths = [0]
            else:
                records, durable, lengths = self._prepare_blocks(
                    [write for write in group if isinstance(write, Append)]
                )
            sequence = await self._committer.append(records, urgent=True)
        except (StorageError, RemoteError, LocalError) as error:
            for write in group:
                settle(write, error)
            return
        except BaseException:
            for write in group:
                settle(write, closing())
            raise
        try:
            durable(sequence)
        except BaseException:  # our own mistake: the writer ends, and nobody waits for ever
            for write in group:
                settle(write, closing())
            raise
        for write, length in zip(group, lengths, strict=True):
            settle(write, length)

    def _prepare_blocks(self, writes: list[Append]) -> tuple[Records, Callable[[int], None], list[int]]:
        start, fork, cipher = self.length, self.fork, self._cipher
        stored = [block for write in writes for block in write.blocks]
        if cipher is not None:
            stored = [cipher.encrypt(start + offset, fork, block) for offset, block in enumerate(stored)]
        records: Records = []
        signed = self._signed if self._signature_due(SIGNATURE_EVERY_BLOCKS) else None
        if signed is not None:
            records.append((RecordKind.SIGNATURE, signed.encode()))
        records += [(BLOCK, block) for block in stored]
        tree, born = self._state.tree.append(stored)

        def durable(sequence: int) -> None:
            if signed is not None:
                self._state.oplog.apply(sequence, RecordKind.SIGNATURE, signed.encode())
                sequence += 1
            self._state.appended(sequence, tree, born)
            self._sign_own()

        lengths = []
        for write in writes:
            start += len(write.blocks)
            lengths.append(start)
        return records, durable, lengths

    def _sign_own(self) -> None:
        """Sign the durable state where our signature alone is enough."""
        if self._key_pair is None or self.manifest.quorum != 1 or len(self.manifest.signers) != 1:
            return
        length, fork = self.length, self.fork
        prologue = self.manifest.prologue
        if (length == 0 and fork == 0) or (prologue is not None and length <= prologue.length):
            return
        self._signed = Signed(length, fork, self.verifier.sign(self._key_pair, self._state.tree.hash(), length, fork))

    def _signature_due(self, blocks: int) -> bool:
        """Whether the newest signature on disk is `blocks` behind the newest one, or of an earlier fork."""
        if self._signed is None or self._signed == self._state.oplog.signed:
            return False
        written = self._state.oplog.signed
        return written is None or self._signed.length - written.length >= blocks

    async def _persist_signature(self) -> None:
        signed = self._signed
        if signed is None or not self._signature_due(0):
            return
        payload = signed.encode()
        with contextlib.suppress(StorageError):  # it can be made again
            self._state.oplog.apply(
                await self._committer.append([(RecordKind.SIGNATURE, payload)], urgent=True),
                RecordKind.SIGNATURE,
                payload,
            )

    def _opened(self, index: int, stored: bytes) -> bytes:
        if not self.encrypted:
            return stored
        if self._cipher is None:
            raise ConfigError("encryption key", "this core is encrypted; its blocks need the key")
        return self._cipher.decrypt(index, stored)


def _new_header(key_pair: KeyPair | None, manifest: Manifest | None, *, compat: bool, encrypted: bool) -> CoreHeader:
    if manifest is None:
        if key_pair is None:
            raise LocalError("a new core needs a key pair or a manifest")
        if compat:
            return CoreHeader(Verifier.of_compat(key_pair.public_key), encrypted)
        manifest = Manifest.single(key_pair.public_key)
    return CoreHeader(Verifier.of(manifest), encrypted)
