"""One seed, one log, six crashes: at every write and sync boundary, what may a start find, and is it right?

Invariants, for every state: (1) what was acknowledged, or shown by an earlier recovery, is recovered unchanged;
(2) what is recovered beyond that is a prefix of one group that was submitted; (3) recovery never raises; (4) recovery
makes durable what it shows, and a second one changes nothing; (5) so no sequence that anybody has seen ever gets other
content. With `discarding`, records are also given up and segments compacted: (1) then holds for all other records, and
one that was given up may be found as it was, or be gone, and then for good.
"""

import errno
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from support_crash_disk import CrashDisk, Cut

from edge.errors import StorageError
from edge.storage import plan
from edge.storage.log import DISCARDED, RECORD_COST, SegmentLog

CRASHES = 6
STORE_ID = bytes(range(16))
POWER_CUTS = (Cut.PREFIX, Cut.REORDERED, Cut.TORN)

Entry = tuple[int, bytes]


class Violation(AssertionError):
    """An invariant does not hold. The message has the seed that repeats it."""


@dataclass(slots=True)
class World:
    """A disk and what is known about it: `seen` must survive; one of `attempts` may follow, from its start.

    `given_up`: sequences whose payloads may be gone.
    """

    disk: CrashDisk
    seen: list[Entry] = field(default_factory=list)
    attempts: list[list[Entry]] = field(default_factory=list)
    given_up: frozenset[int] = frozenset()


@dataclass(slots=True)
class Trial:
    """A chain of crashes from one seed. `states` counts the judged crash states by kind.

    `rewriting` counts those of them where a segment was being rewritten, `gone` the records found discarded.
    """

    seed: int
    faulty: bool = False
    discarding: bool = False
    states: Counter[str] = field(default_factory=Counter)
    rewriting: int = 0
    gone: int = 0
    rng: Random = field(init=False)
    segment_bytes: int = field(init=False)
    chosen: World = field(init=False)
    candidates: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.segment_bytes = self.rng.choice((1536, 2048, 4096))

    def run(self) -> None:
        """Six crashes, each somewhere in the life that followed the one before, recovery included."""
        world = World(CrashDisk(self.rng))
        for _ in range(CRASHES):
            self.chosen, self.candidates = world, 0
            self._live(world)
            world = self.chosen
        self._judge(world)

    # --- one life ----------------------------------------------------------------------------------------------------

    def _live(self, world: World) -> None:
        disk, rng = world.disk, self.rng
        disk.hook = lambda: self._boundary(world)
        if self.faulty:
            rate = rng.choice((0.0, 0.02, 0.1))
            disk.faults = lambda operation: self._fault(operation, rate)
        try:
            log = self._open(disk)
        except StorageError as error:
            if not self.faulty:
                raise self._violation(f"opening raised: {error}") from error
            disk.hook = None
            self._boundary(world)
            return
        self._adopt(world, log)
        for _ in range(rng.randint(1, 5)):
            self._step(world, log)
            if self.faulty and rng.random() < 0.1:
                break
        if rng.random() < 0.3:
            log.close()
        self._boundary(world)
        disk.hook = None

    def _adopt(self, world: World, log: SegmentLog) -> None:
        """What opening has shown may never change again."""
        records = [(record.kind, record.payload) for record in log.scan()]
        self._compare(world, records)
        world.seen = records
        world.attempts = []
        self._boundary(world)

    def _step(self, world: World, log: SegmentLog) -> None:
        """One group, sometimes with the background work that the committer does in between."""
        rng = self.rng
        group: list[Entry] = []
        left = log.group_bytes
        for _ in range(rng.choice((1, 1, 2, 3, 6))):
            payload = rng.randbytes(rng.choice((0, 3, 20, 20, 60, 200, 500, 900)))
            if rng.random() < 0.2:
                payload = bytes(len(payload))
            left -= len(payload) + RECORD_COST
            if left < 0:
                break
            group.append((rng.randrange(256), payload))
        world.attempts.append(group)
        if not group:
            return
        if rng.random() < 0.5:
            log.stage_all(group)
        else:
            for kind, payload in group:
                log.stage(kind, payload)
        try:
            log.commit()
        except StorageError:
            if not self.faulty:
                raise
        else:
            world.seen = world.seen + group
            world.attempts = []
            if log.durable_sequence != len(world.seen):
                raise self._violation("acknowledged another number of records than were committed")
        if self.discarding:
            self._discard(world, log)
        for _ in range(rng.choice((0, 0, 1, 3) if not self.discarding else (0, 1, 3, 12))):
            log.work()

    def _discard(self, world: World, log: SegmentLog) -> None:
        """Give up a stretch or two, or again what was given up in an earlier life."""
        rng = self.rng
        spans = []
        for _ in range(rng.choice((0, 1, 1, 2))):
            first = rng.randrange(log.durable_sequence + 1)
            spans.append((first, min(log.durable_sequence, first + rng.choice((1, 2, 8, 40)))))
        world.given_up |= {sequence for span in spans for sequence in range(*span)}
        if rng.random() < 0.3:
            spans += [(sequence, sequence + 1) for sequence in world.given_up]
        log.discard(spans)

    def _fault(self, operation: str, rate: float) -> OSError | None:
        if self.rng.random() >= rate:
            return None
        code = errno.ENOSPC if operation in ("pwrite", "create") and self.rng.random() < 0.5 else errno.EIO
        return OSError(code, "injected")

    # --- the judge ---------------------------------------------------------------------------------------------------

    def _boundary(self, world: World) -> None:
        """Judge what may be found if all ends here; one of these worlds, chosen evenly, is where the chain goes on."""
        for cut in POWER_CUTS:
            self._consider(world, cut)
        if self.rng.random() < 0.2:
            self._consider(world, Cut.KILLED)

    def _consider(self, world: World, cut: Cut) -> None:
        found = World(world.disk.after(cut, self.rng), world.seen, list(world.attempts), world.given_up)
        self.rewriting += plan.REWRITE_NAME in world.disk.live
        self.candidates += 1
        if self.rng.random() * self.candidates < 1:
            self.chosen = World(found.disk.after(Cut.KILLED, self.rng), found.seen, found.attempts, found.given_up)
        self.states[cut] += 1
        self._judge(found)

    def _judge(self, world: World) -> None:
        disk = world.disk
        try:
            log = self._open(disk)
            records = [(record.kind, record.payload) for record in log.scan()]
        except StorageError as error:
            raise self._violation(f"recovery raised: {error}") from error
        self._compare(world, records)
        if not disk.settled:  # only proofs may still be on their way: without them the same records must come back
            self._check_durable(disk, records)
        disk.unlock()
        before = disk.changes
        again = self._open(disk)
        if disk.changes != before or again.next_sequence != log.next_sequence or again.repaired:
            raise self._violation("a second recovery changed something")

    def _check_durable(self, disk: CrashDisk, records: list[Entry]) -> None:
        later = disk.after(self.rng.choice(POWER_CUTS), self.rng)
        try:
            same = [(record.kind, record.payload) for record in self._open(later).scan()] == records
        except StorageError:
            same = False
        if not same:
            raise self._violation("recovery returned before what it shows was durable")

    def _compare(self, world: World, records: list[Entry]) -> None:
        seen = list(world.seen)
        for sequence in world.given_up:
            kind = seen[sequence][0]
            if kind != DISCARDED and records[sequence : sequence + 1] == [(DISCARDED, bytes((kind,)))]:
                seen[sequence] = records[sequence]
                self.gone += 1
        if records[: len(seen)] != seen:
            raise self._violation(f"of {len(seen)} acknowledged records {len(records)} came back, or changed")
        rest = records[len(seen) :]
        if rest and not any(attempt[: len(rest)] == rest for attempt in world.attempts):
            raise self._violation(f"{len(rest)} records came back that nobody submitted here")

    def _open(self, disk: CrashDisk) -> SegmentLog:
        return SegmentLog.open(disk, create=True, store_id=STORE_ID, segment_bytes=self.segment_bytes)

    def _violation(self, what: str) -> Violation:
        return Violation(
            f"seed {self.seed}{' with faults' if self.faulty else ''}{' discarding' if self.discarding else ''}: {what}"
        )
