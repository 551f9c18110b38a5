"""A writer and its replica beside lists of optional blocks: growth, forks, proofs in any order, clearing, reopening."""

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_replica import take, upgrade

from edge.crypto.keys import KeyPair
from edge.errors import BlockMissing, RemoteError, StorageError
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.messages import BlockRef, Request

PAIR = KeyPair.from_seed(b"\x09" * 32)
KEY = b"\x01" * 32
share = st.floats(0, 1)
step = st.one_of(
    st.tuples(st.just("append"), st.lists(st.binary(max_size=12), min_size=1, max_size=9)),
    st.tuples(st.just("truncate"), share),
    st.tuples(st.just("upgrade"), st.none()),
    st.tuples(st.just("take"), st.lists(share, min_size=1, max_size=9)),
    st.tuples(st.just("clear"), st.tuples(st.booleans(), share, share)),
    st.tuples(st.just("reopen"), st.tuples(st.booleans(), st.booleans())),
    st.tuples(st.just("flush"), st.none()),
)


class Player:
    """One core in a folder, and what it must hold."""

    def __init__(self, folder: Path, encryption_key: bytes | None, key: bytes | None) -> None:
        self.folder = folder
        self._options = {"encryption_key": encryption_key, **({"key_pair": PAIR} if key is None else {"key": key})}
        self.model: list[bytes | None] = []
        self.fork = 0

    async def open(self) -> None:
        self.core = await Hypercore.open(self.folder, create=True, **self._options)  # type: ignore[arg-type]

    async def reopen(self, *, lose: bool) -> None:
        await self.core.close()
        if lose:
            shutil.rmtree(self.folder / "derived")
        await self.open()

    async def clear(self, start: int, end: int) -> None:
        await self.core.clear(start, end)
        self.model[start:end] = [None] * len(self.model[start:end])

    async def check(self) -> None:
        core = self.core
        assert (core.length, core.fork) == (len(self.model), self.fork)
        assert [i for a, b in core.held(0, core.length) for i in range(a, b)] == [
            i for i, block in enumerate(self.model) if block is not None
        ]
        for index, block in enumerate(self.model):
            if block is not None:
                assert core.get(index, proven=True) == block
                with contextlib.suppress(RemoteError):  # past the root it is refused; on the way nothing may be missing
                    for levels in range(9):
                        core.prove(Request(1, core.fork, block=BlockRef(index, levels)))
                continue
            with pytest.raises(BlockMissing):
                core.get(index)


@pytest.mark.parametrize("encryption_key", [None, KEY], ids=["plain", "encrypted"])
@settings(deadline=None, max_examples=40)
@given(st.lists(step, max_size=25))
def test_writer_replica_and_lists(encryption_key: bytes | None, steps: list[tuple[str, object]]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        asyncio.run(_play(folder, encryption_key, steps))
    finally:
        shutil.rmtree(folder)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("encryption_key", [None, KEY], ids=["plain", "encrypted"])
@settings(deadline=None, max_examples=1000)
@given(st.lists(step, max_size=25))
def test_writer_replica_and_lists_often(encryption_key: bytes | None, steps: list[tuple[str, object]]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        asyncio.run(_play(folder, encryption_key, steps))
    finally:
        shutil.rmtree(folder)


async def _play(folder: Path, encryption_key: bytes | None, steps: list[tuple[str, object]]) -> None:
    writer = Player(folder / "writer", encryption_key, None)
    await writer.open()
    replica = Player(folder / "replica", encryption_key, writer.core.key)
    await replica.open()
    content: list[bytes] = []  # of the writer, cleared or not
    seen: list[bytes] = []  # what the replica has accepted as the log's content
    ahead: list[bytes | None] = []  # and which of it, durable or not
    for name, what in steps:
        if isinstance(what, list) and name == "append":
            await writer.core.append(what, urgent=True)
            writer.model += what
            content += what
        elif isinstance(what, float):
            length = int(what * len(content))
            try:
                await writer.core.truncate(length)
            except StorageError:
                assert None in writer.model[:length]  # the roots there were cleared, and the derived nodes lost
                continue
            del writer.model[length:], content[length:]
            writer.fork += 1
        elif name == "upgrade" and content:  # there is no proof of nothing
            forked = writer.core.fork != replica.core._intake.fork
            upgrade(writer.core, replica.core)
            await replica.core.flushed()
            if forked:
                kept = next((i for i, (a, b) in enumerate(zip(seen, content, strict=False)) if a != b), len(content))
                held = [replica.core.has(i) for i in range(len(content))]
                assert not any(held[kept:])
                ahead = [b if held[i] else None for i, b in enumerate(content)]
            else:
                ahead += [None] * (len(content) - len(ahead))
            seen = list(content)
            replica.model, replica.fork = list(ahead), writer.fork
        elif isinstance(what, list) and writer.fork == replica.core._intake.fork:
            for index in {int(each * len(seen)) for each in what if seen and each < 1}:
                if writer.model[index] is None:
                    with pytest.raises(BlockMissing):
                        take(writer.core, replica.core, [index])
                else:
                    take(writer.core, replica.core, [index])
                    ahead[index] = content[index]
        elif name == "clear" and isinstance(what, tuple):
            ours, one, other = what
            player = writer if ours else replica
            await replica.core.flushed()
            replica.model = list(ahead)
            start, end = sorted(int(each * len(player.model)) for each in (one, other))
            await player.clear(start, end)
            ahead = list(replica.model)
        elif name == "reopen" and isinstance(what, tuple):
            await (writer if what[0] else replica).reopen(lose=what[1])
            replica.model = list(ahead)
            if what[0]:
                await replica.core.flushed()
        else:
            await replica.core.flushed()
            replica.model = list(ahead)
        await writer.check()
        if replica.core.backlog == 0:
            replica.model = list(ahead)
            await replica.check()
    for player in (writer, replica):
        await player.core.close()
        await player.open()
        if player is replica:
            player.model = list(ahead)
        await player.check()
        assert await player.core.verify() == len(player.model)
        await player.core.close()
