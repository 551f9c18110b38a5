"""The one writer of a core: takes groups from the queue, waits for each to be durable, then says what happened."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol

from edge.errors import LocalError, RemoteError, StorageError, StorageFault
from edge.hypercore.events import Event, Forgotten, Grown, Stored
from edge.hypercore.intake import Intake
from edge.hypercore.records import BLOCK, PART, RecordKind
from edge.hypercore.signing import Signing
from edge.hypercore.state import CoreState
from edge.hypercore.write_queue import Append, Edit, Received, Records, Write, WriteQueue, closing, settle

SIGNATURE_EVERY_BLOCKS: Final = 64  # how far the newest signature on disk may lag; more often only costs flash

Prepared = tuple[Records, Callable[[int], list[Event]], list[int]]
"""Records, what to do once they are durable, and what each write of the group is told."""


class Commit(Protocol):
    """Makes records durable as one group; returns the first one's sequence."""

    def __call__(self, records: Records, *, urgent: bool) -> Awaitable[int]:
        """Raises `StorageError`; then none of them is in the log."""


class Writing:
    """Writes what one core's queue holds."""

    def __init__(
        self,
        state: CoreState,
        signing: Signing,
        intake: Intake,
        queue: WriteQueue,
        *,
        commit: Commit,
        publish: Callable[[list[Event]], None],
    ) -> None:
        self._state = state
        self._signing = signing
        self._intake = intake
        self._queue = queue
        self._commit = commit
        self._publish = publish

    async def run(self) -> None:
        """Until the queue is closed and empty."""
        try:
            while group := await self._queue.next_group():
                await self._write(group)
                if self._state.checkpoint_due:
                    self._state.save_checkpoint()
            await self._persist_signature()
        except BaseException as error:
            self._queue.fail(error if isinstance(error, Exception) else closing())
            raise

    async def _write(self, group: list[Write]) -> None:
        try:
            records, durable, answers = self._prepare(group)
            sequence = await self._commit(records, urgent=True) if records else 0
        except (StorageError, RemoteError, LocalError) as error:
            self._refuse(group, error)
            return
        except BaseException:
            for write in group:
                settle(write, closing())
            raise
        try:
            events = durable(sequence)
            self._signing.sign_own()
            self._publish(events)
        except BaseException:  # our own mistake: the writer ends, and nobody waits for ever
            for write in group:
                settle(write, closing())
            raise
        gives_way = isinstance(group[0], Append) and self._signing.behind
        for write, answer in zip(group, answers, strict=True):
            settle(write, self._signing.refusal() if gives_way else answer)  # a peer's history takes their place

    def _refuse(self, group: list[Write], error: StorageError | RemoteError | LocalError) -> None:
        for write in group:
            settle(write, error)
        if isinstance(group[0], Received):
            if not isinstance(error, StorageError):
                raise error  # it was checked when it was accepted
            self._intake.forget(error)
            self._publish([Forgotten(error)])

    def _prepare(self, group: list[Write]) -> Prepared:
        first = group[0]
        if isinstance(first, Edit):
            return *first.prepare(), [0]
        if isinstance(first, Received):
            if self._state.oplog.conflict is not None:
                raise StorageError("the core is frozen", fault=StorageFault.READ_ONLY)
            return *self._intake.prepare(first, behind=self._signing.behind), [0]
        return self._prepare_blocks([write for write in group if isinstance(write, Append)])

    def _prepare_blocks(self, writes: list[Append]) -> Prepared:
        signing, state = self._signing, self._state
        signing.check_writable()
        start, fork, cipher = state.length, state.oplog.fork, signing.cipher
        stored = [block for write in writes for block in write.blocks]
        if signing.encrypted and cipher is not None:
            stored = [cipher.encrypt(start + offset, fork, block) for offset, block in enumerate(stored)]
        records: Records = []
        signed = signing.due(SIGNATURE_EVERY_BLOCKS)
        if signed is not None:
            records.append((RecordKind.SIGNATURE, signed.encode()))
        if any(write.whole for write in writes):
            records += zip(_kinds(writes), stored, strict=True)
        else:
            records += [(BLOCK, block) for block in stored]
        tree, born = state.tree.append(stored)
        lengths = []
        length = start
        for write in writes:
            length += len(write.blocks)
            lengths.append(length)

        def durable(sequence: int) -> list[Event]:
            if signed is not None:
                state.apply(sequence, RecordKind.SIGNATURE, signed.encode())
                sequence += 1
            state.appended(sequence, tree, born)
            return [Grown(), Stored(start, tree.length)]

        return records, durable, lengths

    async def _persist_signature(self) -> None:
        signed = self._signing.due(0)
        if signed is None or self._state.oplog.conflict is not None:
            return
        payload = signed.encode()
        with contextlib.suppress(StorageError):  # it can be made again
            sequence = await self._commit([(RecordKind.SIGNATURE, payload)], urgent=True)
            self._state.apply(sequence, RecordKind.SIGNATURE, payload)


def _kinds(writes: list[Append]) -> Iterator[int]:
    for write in writes:
        yield from [PART if write.whole else BLOCK] * (len(write.blocks) - 1)
        yield BLOCK
