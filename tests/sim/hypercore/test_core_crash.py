"""Power cuts and kills in the middle of a core's commits, with derived files that survive in any state.

For every crash state: the core opens; what was acknowledged is there unchanged; beyond it at most a beginning of the
one group in flight; and every signature that could have been shown before still fits what is recovered, so the next
content can never contradict it (no index gets other content at a fork that somebody saw signed).
"""

import asyncio
from dataclasses import dataclass, field
from random import Random

import pytest
from support_crash_disk import CrashDisk, Cut

from edge.crypto.keys import KeyPair
from edge.hypercore import state as state_module
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest
from edge.hypercore.records import CoreHeader, RecordKind, Signed
from edge.hypercore.verifier import Verifier
from edge.storage.log import SegmentLog

PAIR = KeyPair.from_seed(b"\x03" * 32)
HEADER = CoreHeader(Verifier.of(Manifest.single(PAIR.public_key)), encrypted=True)
ENCRYPTION_KEY = b"\x04" * 32
SEGMENT_BYTES = 64 * 1024
LIVES = 4  # crashes in a row, each judged many times
STEPS = 12


@dataclass
class Life:
    """What is known at a moment: acknowledged content, the append in flight, signatures that were there to be shown."""

    blocks: list[bytes] = field(default_factory=list)
    fork: int = 0
    flight: list[bytes] = field(default_factory=list)
    whole: bool = False  # what is in flight is to be there completely or not at all
    truncating_to: int | None = None
    shown: list[Signed] = field(default_factory=list)


@dataclass
class State:
    """A crash state: both disks as the next start may find them."""

    log: CrashDisk
    derived: CrashDisk
    life: Life


async def open_core(log: CrashDisk, derived: CrashDisk) -> Hypercore:
    return await Hypercore.open_on(log, derived, header=HEADER, key_pair=PAIR, encryption_key=ENCRYPTION_KEY)


async def judge(state: State) -> tuple[list[bytes], int]:
    """Open a crash state, check it, and say what it holds."""
    life = state.life
    core = await open_core(state.log, state.derived)
    blocks, fork = list(core.blocks()), core.fork
    if life.truncating_to is not None and fork == life.fork + 1:
        assert blocks == life.blocks[: life.truncating_to]
    elif life.whole and fork == life.fork + 1:
        assert blocks == life.blocks  # the beginning of an append was found and cut off
    else:
        assert fork == life.fork
        assert blocks[: len(life.blocks)] == life.blocks
        assert not life.whole or len(blocks) in (len(life.blocks), len(life.blocks) + len(life.flight))
        assert blocks[len(life.blocks) :] == life.flight[: len(blocks) - len(life.blocks)]
    for signed in life.shown:
        if signed.fork == fork:
            assert signed.length <= len(blocks)
            assert core.verifier is not None
            core.verifier.verify(signed.signature, core.tree_hash(signed.length), signed.length, fork)
    assert await core.verify() == len(blocks)
    await core.close()
    return blocks, fork


async def live(start: State, rng: Random) -> list[State]:
    """Append and truncate for a while; returns crash states from the middle of commits."""
    log, derived, life = start.log, start.derived, start.life
    states: list[State] = []

    def quiet_derived() -> CrashDisk:
        return derived.after(rng.choice(list(Cut)), rng)

    found = quiet_derived()

    def boundary() -> None:  # on the committing thread; the loop does nothing but wait for it
        if rng.random() < 0.3:
            shown = [*life.shown, *([core.signed] if core.signed is not None else [])]  # a peer may ask at any moment
            seen = Life(list(life.blocks), life.fork, list(life.flight), life.whole, life.truncating_to, shown)
            states.append(State(log.after(rng.choice(list(Cut)), rng), found.after(Cut.KILLED, rng), seen))

    core = await open_core(log, derived)
    if core.signed is not None:
        life.shown.append(core.signed)
    for _ in range(STEPS):
        found = quiet_derived()
        log.hook = boundary
        if rng.random() < 0.2:
            life.truncating_to = rng.randint(0, len(life.blocks))
            await core.truncate(life.truncating_to)
            del life.blocks[life.truncating_to :]
            life.truncating_to, life.fork = None, life.fork + 1
        else:
            life.flight = [rng.randbytes(rng.randint(0, 300)) for _ in range(rng.randint(1, 20))]
            life.whole = rng.random() < 0.5
            length = await core.append(life.flight, urgent=True, whole=life.whole)
            assert length == len(life.blocks) + len(life.flight)
            life.blocks += life.flight
            life.flight, life.whole = [], False
        log.hook = None
        assert core.signed is not None
        life.shown.append(core.signed)
    log.hook = boundary
    await core.close()
    log.hook = None
    return states


@pytest.mark.parametrize("seed", range(6))
async def test_no_crash_state_contradicts_what_was_acknowledged_or_signed(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "CHECKPOINT_EVERY_RECORDS", 16)
    rng = Random(seed)
    log = CrashDisk(rng)
    made = SegmentLog.open(log, create=True, segment_bytes=SEGMENT_BYTES)
    made.stage(RecordKind.HEADER, HEADER.encode())
    made.commit()
    made.close()
    state = State(log, CrashDisk(rng), Life())
    judged = 0
    for _ in range(LIVES):
        states = await live(state, rng)
        assert states
        for each in states:
            blocks, fork = await judge(each)
            judged += 1
        state = states[-1]  # judged, so its log holds what was found; the next life starts there
        state.life = Life(blocks, fork, shown=state.life.shown)
        await asyncio.sleep(0)
    assert judged > 40
