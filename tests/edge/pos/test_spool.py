import os
import random
from pathlib import Path

import pytest

from edge.errors import LocalError, StorageError, StorageFault
from edge.pos import spool as module
from edge.pos.spool import Spool


def held(spool: Spool) -> list[bytes]:
    return [spool.read(n) for n in range(spool.first_sequence, spool.next_sequence)]


def test_what_was_appended_is_there_after_a_restart(tmp_path: Path) -> None:
    assert Spool.open(tmp_path) is None
    spool = Spool.create(tmp_path, 7)
    assert spool.append([b"one", b"two"]) == 1
    assert spool.append([b"three"]) == 3
    spool.close()
    again = Spool.open(tmp_path)
    assert again is not None
    assert (again.epoch, again.next_sequence, held(again)) == (7, 4, [b"one", b"two", b"three"])
    again.close()


def test_one_till_at_a_time(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, 7)
    with pytest.raises(StorageError) as caught:
        Spool.open(tmp_path)
    assert caught.value.fault is StorageFault.LOCKED
    spool.close()


def test_any_torn_tail_leaves_a_prefix_and_no_ghost(tmp_path: Path) -> None:
    """Cut or garble the file anywhere: a prefix survives, and what is appended next is all that comes after it."""
    whole = [bytes([65 + n]) * (5 + n) for n in range(6)]
    rng = random.Random(1)
    for trial in range(120):
        folder = tmp_path / str(trial)
        spool = Spool.create(folder, 7)
        for payload in whole:
            spool.append([payload])
        spool.close()
        (file,) = folder.glob("spool-*.log")
        data = bytearray(file.read_bytes())
        at = rng.randrange(len(data))
        if trial % 2:
            file.write_bytes(data[:at])
        else:
            data[at] ^= 1 << rng.randrange(8)
            file.write_bytes(data)
        again = Spool.open(folder)
        assert again is not None
        kept = held(again)
        assert kept == whole[: len(kept)]
        again.append([b"new"])
        again.close()
        third = Spool.open(folder)
        assert third is not None
        assert held(third) == [*kept, b"new"]
        third.close()


def test_acknowledged_files_go_and_the_numbering_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 64)
    spool = Spool.create(tmp_path, 7)
    for n in range(1, 21):
        assert spool.append([b"x" * 20]) == n
    files = len(list(tmp_path.glob("*.log")))
    assert files > 3
    spool.forget(10)
    assert spool.first_sequence <= 11
    spool.forget(20)
    assert len(list(tmp_path.glob("*.log"))) == 1
    spool.close()
    again = Spool.open(tmp_path)
    assert again is not None
    assert again.next_sequence == 21
    assert again.append([b"y"]) == 21
    again.close()


def test_a_failed_sync_stores_nothing_and_the_number_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool.create(tmp_path, 7)
    spool.append([b"one"])

    def fail(_descriptor: int) -> None:
        raise OSError(5, "no luck")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(StorageError):
            spool.append([b"ghost", b"ghost"])
    assert spool.next_sequence == 2
    assert spool.append([b"two"]) == 2
    assert held(spool) == [b"one", b"two"]
    spool.close()
    again = Spool.open(tmp_path)
    assert again is not None
    assert held(again) == [b"one", b"two"]
    again.close()


def test_bytes_that_changed_at_rest_are_not_sent(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, 7)
    spool.append([b"one", b"two"])
    (file,) = tmp_path.glob("*.log")
    with file.open("r+b") as writable:
        writable.seek(9)
        writable.write(b"X")
    with pytest.raises(StorageError) as caught:
        spool.read(1)
    assert caught.value.fault is StorageFault.CORRUPT
    with pytest.raises(LocalError):
        spool.read(3)
    spool.close()
