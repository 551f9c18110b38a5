"""The box's ledger: one Hypercore, appended in groups that fit, locked by one box."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.box.ledger import Ledger, chunks
from edge.errors import ConfigError, StorageError, StorageFault
from edge.limits import GROUP_BYTES_MAX, GROUP_RECORDS_MAX


async def test_what_was_appended_is_there_after_opening_again(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path)
    blocks = [bytes([n % 256]) * (n % 50 + 1) for n in range(3000)]
    assert await ledger.append_all([]) == []
    assert await ledger.append(blocks[:1], True) == 0
    assert await ledger.append_all(blocks[1:]) == list(range(1, 3000))
    key = ledger.key
    await ledger.core.close()
    again = await Ledger.open(tmp_path, create=False)
    assert (again.key, again.length) == (key, 3000)
    assert [again.get(index) for index in range(3000)] == blocks
    await again.core.close()


async def test_a_second_box_is_refused(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path)
    with pytest.raises(StorageError) as caught:
        await Ledger.open(tmp_path)
    assert caught.value.fault is StorageFault.LOCKED
    await ledger.core.close()


@pytest.mark.parametrize("name", ["", "never-made"])
async def test_a_folder_without_a_box_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"shop\.state_dir: no box has ever run on"):
        await Ledger.open(tmp_path / name, create=False)


@given(sizes=st.lists(st.integers(0, GROUP_BYTES_MAX // 3), max_size=12))
def test_groups_keep_the_order_and_fit(sizes: list[int]) -> None:
    blocks = [bytes(size) for size in sizes]
    found = chunks(blocks)
    assert [len(block) for chunk in found for block in chunk] == sizes
    assert all(chunk for chunk in found)
    assert all(len(chunk) <= GROUP_RECORDS_MAX for chunk in found)
    assert all(sum(map(len, chunk)) <= GROUP_BYTES_MAX for chunk in found)
