"""The derived node file: what was put comes back, what was not is said to be missing, a bad disk costs nothing."""

import errno
from pathlib import Path

import pytest
from support_faulty_disk import Faults, FaultyDisk

from edge.errors import StorageError, StorageFault
from edge.hypercore import nodes as nodes_module
from edge.hypercore.merkle import Node, Tree
from edge.hypercore.nodes import NodeFile


def some_nodes(blocks: int) -> list[Node]:
    return Tree().append([bytes([n & 0xFF]) * (n % 50) for n in range(blocks)])[1]


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def disk(tmp_path: Path, faults: Faults) -> FaultyDisk:
    return FaultyDisk(tmp_path, faults)


@pytest.mark.parametrize("blocks", [1, 2, 7, 100, 3000])
def test_nodes_come_back_before_and_after_reopening(disk: FaultyDisk, blocks: int) -> None:
    born = some_nodes(blocks)
    file = NodeFile(disk)
    file.put(born)
    assert [file.get(node.index) for node in born] == born
    file.close()
    file = NodeFile(disk)
    assert [file.get(node.index) for node in born] == born
    file.close()
    file = NodeFile(disk, fresh=True)
    with pytest.raises(StorageError, match="missing"):
        file.get(0)
    file.close()


def test_the_newer_node_of_an_index_counts(disk: FaultyDisk) -> None:
    file = NodeFile(disk)
    file.put(some_nodes(4))
    file.flush()
    newer = Node(2, 9, bytes(range(32)))
    file.put([newer])
    assert file.get(2) == newer
    file.close()
    file = NodeFile(disk)
    assert file.get(2) == newer
    file.close()


def test_a_missing_node_is_named_and_never_made_up(disk: FaultyDisk) -> None:
    file = NodeFile(disk)
    file.put(some_nodes(4)[:1])
    file.put([Node(20, 1, bytes(range(32)))])
    file.flush()
    for index in (2, 19, 21, 10**12):
        with pytest.raises(StorageError, match=f"node {index} is missing") as caught:
            file.get(index)
        assert caught.value.fault is StorageFault.CORRUPT
    file.clear()
    with pytest.raises(StorageError, match="missing"):
        file.get(0)
    file.close()


def test_a_disk_that_refuses_is_tried_again_later(disk: FaultyDisk, faults: Faults) -> None:
    born = some_nodes(1500)
    file = NodeFile(disk)
    faults.fail("pwrite", errno.ENOSPC)
    file.put(born)
    assert faults.hits == 1
    assert not file.flush()
    assert file.complete
    assert [file.get(node.index) for node in born] == born
    faults.heal()
    assert file.flush()
    file.close()
    file = NodeFile(disk)
    assert [file.get(node.index) for node in born] == born
    file.close()


def test_memory_is_bounded_while_the_disk_refuses(
    disk: FaultyDisk, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_module, "TREE_BUFFER_NODES_MAX", 5000)
    faults.fail("pwrite")
    file = NodeFile(disk)
    file.put(some_nodes(3000))
    vouched = [file.complete]  # False: no checkpoint will be written over it
    faults.heal()
    file.clear()
    vouched.append(file.complete)
    file.close()
    assert vouched == [False, True]


def test_faults_of_reading_and_opening_are_storage_errors(disk: FaultyDisk, faults: Faults) -> None:
    file = NodeFile(disk)
    file.put(some_nodes(2))
    file.flush()
    faults.fail("pread")
    with pytest.raises(StorageError) as caught:
        file.get(0)
    assert caught.value.fault is StorageFault.IO
    faults.fail("create")
    with pytest.raises(StorageError):
        file.clear()
    faults.fail("open")
    with pytest.raises(StorageError):
        NodeFile(disk)
