import json
from pathlib import Path

import pytest

from edge.errors import ConfigError, RecordInvalid, StorageError, StorageFault
from edge.pos.broker import BOX_USER, BrokerConfig, check_password
from edge.registry.access import box_password, prepare_broker
from edge.registry.storage import AtomicStorage
from edge.registry.tills import FILE_NAME, Registry


def test_enrol_list_revoke(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        first = registry.enrol("1", label="front", wall_ms=5)
        registry.enrol("2", wall_ms=6)
        again = registry.enrol("1", label="front left", wall_ms=7)
        assert first != again
        registry.label_device("scale-1", "cheese counter")
    with Registry(tmp_path) as registry:
        assert [(till.lane, till.label) for till in registry.tills()] == [("1", "front left"), ("2", "")]
        assert check_password(again, registry.credentials()["1"])
        assert not check_password(first, registry.credentials()["1"])
        assert registry.device_labels() == {"scale-1": "cheese counter"}
        registry.revoke("1")
        assert registry.till("1") is None
        with pytest.raises(ConfigError):
            registry.revoke("1")
        with pytest.raises(ConfigError):
            registry.enrol(BOX_USER, wall_ms=1)
        with pytest.raises(RecordInvalid):
            registry.enrol("1/2", wall_ms=1)
    assert again not in (tmp_path / FILE_NAME).read_text()


def test_every_damage_falls_back_to_the_last_good_version(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    storage = AtomicStorage(path)
    storage.write({"t": {"1": {"a": 1}}})
    storage.write({"t": {"1": {"a": 2}}})
    good = path.read_bytes()
    for damaged in (b"", bytes(len(good)), good[:-20], good.replace(b'"a": 2', b'"a": 3')):
        path.write_bytes(damaged)
        assert storage.read() == {"t": {"1": {"a": 1}}}
    path.unlink()
    assert storage.read() == {"t": {"1": {"a": 1}}}
    path.write_bytes(b"{")
    storage.write({"t": {"1": {"a": 9}}})  # a damaged version must not push out the good backup
    assert json.loads(path.with_name("r.json.bak").read_text())["data"] == {"t": {"1": {"a": 1}}}
    path.write_bytes(b"{")
    path.with_name("r.json.bak").write_bytes(b"{")
    with pytest.raises(StorageError) as caught:
        storage.read()
    assert caught.value.fault is StorageFault.CORRUPT
    storage.close()


def test_one_writer_many_readers(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.enrol("1", wall_ms=1)
        with Registry(tmp_path, read_only=True) as reader:
            assert [till.lane for till in reader.tills()] == ["1"]
            with pytest.raises(StorageError, match="for reading"):
                reader.enrol("2", wall_ms=1)
        with pytest.raises(StorageError, match="in use"):
            Registry(tmp_path)


def test_the_brokers_files_follow_the_registry(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.enrol("1", wall_ms=1)
    directory = prepare_broker(tmp_path, BrokerConfig(kind="mosquitto"), "2900000000025")
    users = dict(line.split(":", 1) for line in (directory / "passwords").read_text().splitlines())
    assert set(users) == {"1", BOX_USER}
    assert check_password(box_password(directory), users[BOX_USER])
    assert (directory / "box.password").stat().st_mode & 0o077 == 0
    assert (directory / "passwords").stat().st_mode & 0o077 == 0
