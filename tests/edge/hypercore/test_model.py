"""The core beside a plain list: any run of appends, truncations, reopenings, kills and losses of derived files."""

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.crypto.keys import KeyPair
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.merkle import Tree

PAIR = KeyPair.from_seed(b"\x09" * 32)
step = st.one_of(
    st.lists(st.lists(st.binary(max_size=12), min_size=1, max_size=5), min_size=1, max_size=4),  # concurrent appends
    st.floats(0, 1),  # truncate to this share of the length
    st.sampled_from(["reopen", "lose derived", "old derived"]),
)


async def check(core: Hypercore, model: list[bytes], fork: int) -> None:
    assert (core.length, core.fork) == (len(model), fork)
    assert core.byte_length == sum(map(len, model))
    assert list(core.blocks()) == model
    assert [core.get(index, proven=True) for index in range(len(model))] == model
    if not any((model, fork)):
        assert core.signed is None
        return
    assert core.signed is not None
    assert (core.signed.length, core.signed.fork) == (len(model), fork)
    for length in {0, len(model) // 2, len(model) - 1} & set(range(len(model))):
        assert core.tree_hash(length) == Tree().append(_stored(core, model[:length], length))[0].hash()
    assert core.verifier is not None
    core.verifier.verify(core.signed.signature, core.tree_hash(), len(model), fork)


def _stored(core: Hypercore, blocks: list[bytes], length: int) -> list[bytes]:
    return blocks if not core.encrypted else [core._state.stored(index) for index in range(length)]


@pytest.mark.parametrize("encryption_key", [None, b"\x01" * 32], ids=["plain", "encrypted"])
@settings(deadline=None, max_examples=15)
@given(st.lists(step, max_size=12))
def test_log_and_list(encryption_key: bytes | None, steps: list[list[list[bytes]] | float | str]) -> None:
    played(encryption_key, steps)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("encryption_key", [None, b"\x01" * 32], ids=["plain", "encrypted"])
@settings(deadline=None, max_examples=1000)
@given(st.lists(step, max_size=30))
def test_log_and_list_often(encryption_key: bytes | None, steps: list[list[list[bytes]] | float | str]) -> None:
    played(encryption_key, steps)


def played(encryption_key: bytes | None, steps: list[list[list[bytes]] | float | str]) -> None:
    folder = Path(tempfile.mkdtemp())
    derived, old = folder / "core" / "derived", folder / "old"

    async def play() -> None:
        model: list[bytes] = []
        fork = 0

        async def reopen() -> Hypercore:
            return await Hypercore.open(folder / "core", create=True, key_pair=PAIR, encryption_key=encryption_key)

        core = await reopen()
        for each in steps:
            if isinstance(each, list):
                await asyncio.gather(*(core.append(blocks, urgent=True) for blocks in each))
                model += [block for blocks in each for block in blocks]
            elif isinstance(each, float):
                del model[int(each * len(model)) :]
                await core.truncate(len(model))
                fork += 1
            else:
                await core.close()
                if each == "old derived" and old.exists():
                    shutil.rmtree(derived)
                    shutil.copytree(old, derived)
                elif each == "old derived":
                    shutil.copytree(derived, old)
                elif each == "lose derived":
                    shutil.rmtree(derived)
                core = await reopen()
            await check(core, model, fork)
        assert await core.verify() == len(model)
        await core.close()

    try:
        asyncio.run(play())
    finally:
        shutil.rmtree(folder)
