"""The real disk does what the protocol says."""

import os
from pathlib import Path

import pytest

from edge.errors import StorageError, StorageFault
from edge.storage.disk import storage_error
from edge.storage.files import OsDisk


def test_files(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path / "new" / "folder", create=True)
    assert (tmp_path / "new" / "folder").stat().st_mode & 0o777 == 0o700
    file = disk.open("a", create=True)
    file.pwrite(b"hello", 3)
    file.datasync()
    assert file.size() == 8
    assert file.pread(100, 0) == b"\0\0\0hello"
    assert file.pread(2, 4) == b"el"
    assert (tmp_path / "new" / "folder" / "a").stat().st_mode & 0o777 == 0o600
    file.close()
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.pread(1, 0)
    disk.rename("a", "b")
    disk.sync_directory()
    disk.lock()
    assert disk.list() == ["b"]
    disk.open("b", create=True).close()
    assert (tmp_path / "new" / "folder" / "b").stat().st_size == 0
    disk.unlink("b")
    disk.unlock()
    disk.unlock()
    assert disk.list() == []
    with pytest.raises(FileNotFoundError):
        disk.open("b")


def test_descriptors_do_not_leak_into_children(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    disk.lock()
    file = disk.open("a", create=True)
    for descriptor in (file._descriptor, disk._lock):
        assert descriptor is not None
        assert not os.get_inheritable(descriptor)
    file.close()
    disk.unlock()


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = OsDisk(tmp_path), OsDisk(tmp_path)
    first.lock()
    for disk in (first, second):
        with pytest.raises(StorageError) as caught:
            disk.lock()
        assert caught.value.fault is StorageFault.LOCKED
    assert f"pid {os.getpid()}" in str(caught.value)
    first.unlock()
    second.lock()
    second.unlock()


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("ENOSPC", "full"),
        ("EDQUOT", "full"),
        ("EFBIG", "full"),
        ("EIO", "io"),
        ("EROFS", "read_only"),
        ("EMFILE", "io"),
    ],
)
def test_errors_in_our_words(code: str, fault: str) -> None:
    number = getattr(__import__("errno"), code)
    error = storage_error(OSError(number, os.strerror(number)), "writing")
    assert error.fault == StorageFault(fault)
    assert str(error) == f"writing: {os.strerror(number)}"
