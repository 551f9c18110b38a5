"""What a box keeps of a network: made once, never lowered, destroyed when it says so."""

import stat
from pathlib import Path

import pytest

from edge.crypto.hashing import hash256
from edge.errors import ConfigError, RecordInvalid, StorageError, StorageFault
from edge.networks.access import FeedKind
from edge.networks.epochs import Epoch
from edge.networks.folder import Accepted, NetworkFolder, new_root, roster_secret
from edge.records.message import Network

ID = hash256(b"network")
ROOT = b"0123456789abcdef"


def made(state: Path, name: str = "shops") -> NetworkFolder:
    return NetworkFolder.create(state, name, ID, Network.PRIVATE, ROOT)


def test_a_folder_is_found_again_with_all_that_it_is(tmp_path: Path) -> None:
    made(tmp_path)
    folder = NetworkFolder.open(tmp_path, "shops")
    assert (folder.network_id, folder.network, folder.root, folder.name) == (ID, Network.PRIVATE, ROOT, "shops")
    assert folder.roster_secret == roster_secret(ROOT)
    assert NetworkFolder.names(tmp_path) == ["shops"]
    assert made(tmp_path).identity.public_key == folder.identity.public_key


def test_networks_of_one_box_have_nothing_in_common(tmp_path: Path) -> None:
    one = made(tmp_path)
    two = NetworkFolder.create(tmp_path, "trade", hash256(b"other"), Network.CONSORTIUM, new_root())
    keys = {folder.identity.public_key for folder in (one, two)}
    keys |= {folder.signer(kind).public_key for folder in (one, two) for kind in FeedKind}
    assert len(keys) == 2 * (1 + len(FeedKind))
    assert NetworkFolder.names(tmp_path) == ["shops", "trade"]


def test_a_name_stands_for_one_network(tmp_path: Path) -> None:
    made(tmp_path)
    for network_id, network, root in (
        (hash256(b"other"), Network.PRIVATE, ROOT),
        (ID, Network.CONSORTIUM, ROOT),
        (ID, Network.PRIVATE, new_root()),
    ):
        with pytest.raises(ConfigError, match="another network of this name"):
            NetworkFolder.create(tmp_path, "shops", network_id, network, root)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "-x", "x" * 65, "a b", "é"])
def test_what_can_be_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="network's name"):
        made(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_an_open_network_has_no_secret(tmp_path: Path) -> None:
    folder = NetworkFolder.create(tmp_path, "signals", ID, Network.PUBLIC, None)
    assert folder.roster_secret is None
    assert NetworkFolder.open(tmp_path, "signals").root is None


def test_secrets_are_for_the_owner_alone_and_out_of_sight(tmp_path: Path) -> None:
    folder = made(tmp_path)
    folder.add_epoch(Epoch(1, hash256(b"1")))
    for path in (folder.directory / "roster-root", folder.directory / "epochs" / "1"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert hash256(b"1").hex() not in repr(folder.epochs())


def test_epochs_are_kept_and_destroyed(tmp_path: Path) -> None:
    folder = made(tmp_path)
    for number in (1, 2, 10):
        folder.add_epoch(Epoch(number, hash256(bytes((number,)))))
        folder.add_epoch(Epoch(number, hash256(bytes((number,)))))
    with pytest.raises(RecordInvalid, match="another secret"):
        folder.add_epoch(Epoch(2, hash256(b"else")))
    assert list(folder.epochs()) == [1, 2, 10]
    kept = (folder.directory / "epochs" / "2").open("rb")  # whoever still has the file open sees it overwritten
    with kept:
        folder.destroy_epoch(2)
        assert kept.read().strip() == b"0" * 64
    folder.destroy_epoch(2)
    assert list(folder.epochs()) == [1, 10]
    everything = b"".join(path.read_bytes() for path in folder.directory.rglob("*") if path.is_file())
    assert hash256(b"\x02").hex().encode() not in everything


def test_a_destruction_that_was_cut_off_has_destroyed(tmp_path: Path) -> None:
    folder = made(tmp_path)
    folder.add_epoch(Epoch(1, hash256(b"1")))
    (folder.directory / "epochs" / "1").write_text("00" * 32 + "\n")  # overwritten, and then the power went
    assert folder.epochs() == {}
    folder.destroy_epoch(1)
    assert not list((folder.directory / "epochs").iterdir())


def test_the_accepted_version_never_falls(tmp_path: Path) -> None:
    folder = made(tmp_path)
    assert folder.accepted() is None
    folder.accept(Accepted(3, 20, ID))
    folder.accept(Accepted(3, 20, ID))
    for version, length in ((2, 30), (4, 19), (2, 19)):
        with pytest.raises(RecordInvalid) as caught:
            folder.accept(Accepted(version, length, ID))
        assert caught.value.reason == "rollback"
    folder.accept(Accepted(4, 21, ROOT * 2))
    assert NetworkFolder.open(tmp_path, "shops").accepted() == Accepted(4, 21, ROOT * 2)


def test_damage_is_named_not_forgotten(tmp_path: Path) -> None:
    folder = made(tmp_path)
    folder.accept(Accepted(3, 20, ID))
    (folder.directory / "accepted.json").write_text("{}")
    with pytest.raises(StorageError, match=r"accepted\.json is damaged") as caught:
        folder.accepted()
    assert caught.value.fault is StorageFault.CORRUPT
    (folder.directory / "roster-root").write_text("ab" * 32)
    with pytest.raises(ConfigError, match="damaged"):
        NetworkFolder.open(tmp_path, "shops")
    (folder.directory / "roster-root").unlink()
    with pytest.raises(ConfigError, match="missing"):
        NetworkFolder.open(tmp_path, "shops")
    for text in ("", "[]", '{"version": 1}', '{"version": 1, "id": "x", "kind": "private", "open": false}'):
        (folder.directory / "network.json").write_text(text)
        with pytest.raises((StorageError, ConfigError)):
            NetworkFolder.open(tmp_path, "shops")


def test_one_process_changes_the_roster_at_a_time(tmp_path: Path) -> None:
    folder = made(tmp_path)
    with folder.changing(), pytest.raises(StorageError) as caught, folder.changing():
        pass
    assert caught.value.fault is StorageFault.LOCKED
    with folder.changing():
        pass


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such network"):
        NetworkFolder.open(tmp_path, "shops")
    assert NetworkFolder.names(tmp_path) == []
