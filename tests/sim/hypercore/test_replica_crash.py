"""Power cuts and kills of a replica, while blocks and forks of a writer come in, and blocks are cleared.

For every crash state: the core opens; what an event had told of is there - blocks that were stored and not given up
since, a length and fork at least as new as the newest told; whatever is there, told or not, is the writer's, leads to a
signed root, and can be proven to others; and the replica goes on from there to hold everything.
"""

from dataclasses import dataclass, field
from random import Random

import pytest
from support_crash_disk import CrashDisk, Cut
from support_replica import take, upgrade

from edge.crypto.keys import KeyPair
from edge.hypercore import state as state_module
from edge.hypercore.events import Cleared, Event, Stored, Truncated
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest
from edge.hypercore.messages import BlockRef, Request
from edge.hypercore.records import CoreHeader, RecordKind
from edge.hypercore.verifier import Verifier
from edge.storage.log import SegmentLog

PAIR = KeyPair.from_seed(b"\x03" * 32)
VERIFIER = Verifier.of(Manifest.single(PAIR.public_key))
SEGMENT_BYTES = 64 * 1024
LIVES = 3  # crashes in a row
STEPS = 14


@dataclass
class Life:
    """What the replica has told, and what it may have given up since: a clear or a fork that was in flight."""

    length: int = 0
    fork: int = 0
    held: set[int] = field(default_factory=set)
    leaving: set[int] = field(default_factory=set)

    def hear(self, event: Event, core: Hypercore) -> None:
        if isinstance(event, Stored):
            self.held.update(range(event.start, event.end))
        elif isinstance(event, Cleared):
            self.held.difference_update(range(event.start, event.end))
        elif isinstance(event, Truncated):
            self.held = {index for index in self.held if index < event.length}
        self.length, self.fork = core.length, core.fork

    def copy(self) -> "Life":
        return Life(self.length, self.fork, set(self.held), set(self.leaving))


@dataclass
class Found:
    """A crash state: both disks as the next start may find them."""

    log: CrashDisk
    derived: CrashDisk
    life: Life


class History:
    """Every content that the writer ever signed, by fork."""

    def __init__(self, writer: Hypercore) -> None:
        self.writer = writer
        self.blocks: dict[int, list[bytes]] = {0: []}

    async def grow(self, rng: Random) -> None:
        fork = self.writer.fork
        if rng.random() < 0.25 and self.writer.length > 4:
            length = rng.randint(0, self.writer.length - 1)
            await self.writer.truncate(length)
            self.blocks[fork + 1] = self.blocks[fork][:length]
            fork += 1
        more = [rng.randbytes(rng.randint(0, 300)) for _ in range(rng.randint(1, 20))]
        await self.writer.append(more, urgent=True)
        self.blocks[fork] = self.blocks[fork] + more


async def judge(found: Found, history: History) -> None:
    """Open a crash state, check it, and let it go on to the end."""
    life = found.life
    core = await Hypercore.open_on(found.log, found.derived)
    assert (core.fork, core.length) >= (life.fork, life.length)
    held = {index for start, end in core.held(0, core.length) for index in range(start, end)}
    if core.fork == life.fork:
        assert life.held - life.leaving <= held
    content = history.blocks[core.fork]
    for index in held:
        assert core.get(index, proven=True) == content[index]
    if core.length:
        shown = core.shown
        assert shown is not None
        VERIFIER.verify_tree(shown[3], shown[2], shown[0])
        for index in sorted(held)[::7]:
            levels = (shown[1] - 1).bit_length() if shown[1].bit_count() == 1 else 0
            answer = core.prove(Request(1, core.fork, block=BlockRef(index, levels)))
            assert answer.block is not None
            assert answer.block.value == content[index]
    assert await core.verify() == core.length
    upgrade(history.writer, core)
    await core.flushed()
    take(history.writer, core, [index for index in range(core.length) if not core.has(index)])
    await core.flushed()
    assert list(core.blocks()) == history.blocks[history.writer.fork]
    assert await core.verify() == core.length
    await core.close()


async def live(start: Found, history: History, rng: Random) -> list[Found]:
    """Follow the writer for a while; returns crash states from the middle of commits."""
    log, derived, life = start.log, start.derived, start.life
    states: list[Found] = []
    core = await Hypercore.open_on(log, derived)
    life.length, life.fork = core.length, core.fork
    life.held = {index for begin, end in core.held(0, core.length) for index in range(begin, end)}
    core.subscribe(lambda event: life.hear(event, core))
    quiet = derived.after(rng.choice(list(Cut)), rng)

    def boundary() -> None:  # on the committing thread; the loop does nothing but wait for it
        if rng.random() < 0.3:
            states.append(Found(log.after(rng.choice(list(Cut)), rng), quiet.after(Cut.KILLED, rng), life.copy()))

    for _ in range(STEPS):
        quiet = derived.after(rng.choice(list(Cut)), rng)
        log.hook = boundary
        roll = rng.random()
        if roll < 0.3:
            await history.grow(rng)
            upgrade(history.writer, core)
        elif roll < 0.5 and core.length:
            first = rng.randrange(core.length)
            life.leaving = set(range(first, rng.randint(first, core.length)))
            await core.clear(first, first + len(life.leaving))
            life.leaving = set()
        if core.ahead.length and history.writer.fork == core._intake.fork:
            count = rng.randint(1, min(12, core.ahead.length))
            take(history.writer, core, rng.sample(range(core.ahead.length), count))
        await core.flushed()
        log.hook = None
    log.hook = boundary
    await core.close()
    log.hook = None
    return states


@pytest.mark.parametrize("seed", range(6))
async def test_what_a_replica_told_of_is_there_after_any_crash(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "CHECKPOINT_EVERY_RECORDS", 16)
    rng = Random(seed)
    source = CoreHeader(VERIFIER, encrypted=False)
    writer = await Hypercore.open_on(CrashDisk(rng), CrashDisk(rng), header=source, key_pair=PAIR)
    history = History(writer)
    log = CrashDisk(rng)
    made = SegmentLog.open(log, create=True, segment_bytes=SEGMENT_BYTES)
    made.stage(RecordKind.HEADER, CoreHeader(None, encrypted=False, key=VERIFIER.key).encode())
    made.commit()
    made.close()
    found = Found(log, CrashDisk(rng), Life())
    judged = 0
    for _ in range(LIVES):
        states = await live(found, history, rng)
        assert states
        for each in states:
            await judge(each, history)
            judged += 1
        found = states[-1]  # judged, so it holds everything up to here
    await writer.close()
    assert judged > 20
