"""What a box keeps of one network, in STATE/networks/NAME/: which network it is, its secrets, how far its roster was
accepted.

    network.json         identity of the network, its kind and name; written once
    roster-root          what the roster is encrypted with, and what invitations carry; 0600; none in an open network
    epochs/NUMBER        the secret of one key epoch, 0600
    accepted.json        the newest version of the roster that was accepted here; never lowered
    store/               a Corestore of its own: primary key, roster and feeds

Invariants: nothing here is shared with another network, so a box is a stranger to itself across networks; every file
appears whole and durable or not at all; an epoch's secret that was destroyed is gone from this folder before
`destroy_epoch` returns (a flash card may keep old pages for a while; `docs/networks.md` says so).
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from edge.atomic import replace_file, sync_directory
from edge.crypto.hashing import HASH_BYTES, hash256
from edge.crypto.keys import KeyPair, new_secret, parse_key, read_secret, write_secret
from edge.errors import ConfigError, LocalError, RecordInvalid, StorageError, StorageFault
from edge.hypercore.store import FeedStore, named_key_pair
from edge.limits import LABEL_CHARS_MAX
from edge.networks.access import FeedKind
from edge.networks.epochs import SECRET_BYTES, Epoch
from edge.records.message import Network
from edge.storage.disk import storage_error
from edge.storage.files import OsDisk

ROOT_BYTES: Final = 16  # of entropy; invitations are typed by people
VERSION: Final = 1
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ROOT: Final = b"pomona/roster/root/1"
_SECRET: Final = b"pomona/roster/secret/1"


def roster_secret(root: bytes) -> bytes:
    """What the blocks of a roster are encrypted with: 32 bytes, from the 16 that an invitation carries."""
    if len(root) != ROOT_BYTES:
        raise LocalError(f"a roster's root has {ROOT_BYTES} bytes, not {len(root)}")
    return hash256(_SECRET, root)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A version of a roster that was accepted: its number, and the log that said so."""

    version: int
    length: int  # blocks of the roster's log
    tree_hash: bytes  # of these blocks: a later log must begin with them


class NetworkFolder:
    """One network's folder. Made by `open` or `create`; holds nothing open."""

    def __init__(self, directory: Path, network_id: bytes, network: Network, root: bytes | None) -> None:
        self.directory: Final = directory
        self.network_id: Final = network_id
        self.network: Final = network
        self.root: Final = root  # 16 bytes; None: the network is open, its roster not encrypted
        self._identity: KeyPair | None = None

    # --- making and finding ------------------------------------------------------------------------------------------

    @staticmethod
    def names(state: Path) -> list[str]:
        """Networks of the box whose state folder this is, by name."""
        return sorted(path.parent.name for path in (state / "networks").glob("*/network.json"))

    @staticmethod
    def directory_of(state: Path, name: str) -> Path:
        """Where a network of that name lies, or would; `ConfigError` for what can be no name."""
        return _directory(state, name)

    @staticmethod
    def store_of(state: Path, name: str) -> FeedStore:
        """The store of a network that may not be known yet: whoever joins has keys before it has a roster."""
        return FeedStore(_directory(state, name) / "store")

    @classmethod
    def open(cls, state: Path, name: str) -> Self:
        """Raises `ConfigError` where there is no such network, `StorageError` where it cannot be read."""
        directory = _directory(state, name)
        path = directory / "network.json"
        try:
            text = path.read_text()
        except FileNotFoundError:
            raise ConfigError(name, f"no such network in {state}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"cannot read {path}: {error}", fault=StorageFault.IO) from error
        try:
            match json.loads(text):
                case {"version": int(version), "id": str(key), "kind": str(kind), "open": bool(is_open)}:
                    if version != VERSION:
                        raise ConfigError(str(path), f"version {version}; this software knows {VERSION}")
                    network_id, network = parse_key(key, what=str(path)), Network(kind)
                case _:
                    raise ValueError("fields are missing")
        except ValueError as error:
            raise StorageError(f"{path} is damaged: {error}", fault=StorageFault.CORRUPT) from error
        root = None if is_open else cls.read_root(directory)
        if root is None and not is_open:
            raise ConfigError(str(directory / "roster-root"), "missing; put it back, the roster cannot be read without")
        return cls(directory, network_id, network, root)

    @classmethod
    def create(cls, state: Path, name: str, network_id: bytes, network: Network, root: bytes | None) -> Self:
        """Begin to hold a network; the same one again changes nothing. `ConfigError` if NAME is another one here."""
        directory = _directory(state, name)
        if (directory / "network.json").exists():
            found = cls.open(state, name)
            if (found.network_id, found.network, found.root) != (network_id, network, root):
                raise ConfigError(name, f"there is another network of this name in {state}; choose another name")
            return found
        if len(network_id) != HASH_BYTES:
            raise LocalError("a network is named by a key of 32 bytes")
        _make(directory / "epochs")
        if root is not None and cls.read_root(directory) is None:
            write_secret(directory / "roster-root", root + _check(root))
        content = {"version": VERSION, "id": network_id.hex(), "kind": network.value, "open": root is None}
        with _reporting(f"writing {directory / 'network.json'}"):
            replace_file(directory / "network.json", json.dumps(content, indent=1).encode() + b"\n")
        return cls(directory, network_id, network, root)

    @staticmethod
    def read_root(directory: Path) -> bytes | None:
        """The root that a folder holds; `ConfigError` if it is damaged."""
        path = directory / "roster-root"
        data = read_secret(path)
        if data is None:
            return None
        root = data[:ROOT_BYTES]
        if data[ROOT_BYTES:] != _check(root):
            raise ConfigError(str(path), "damaged; put it back from a backup or from an invitation")
        return root

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What this box calls the network; the folder's name."""
        return self.directory.name

    @property
    def roster_secret(self) -> bytes | None:
        """Encryption key of the roster's core, 32 bytes; None: the network is open."""
        return None if self.root is None else roster_secret(self.root)

    @property
    def store_directory(self) -> Path:
        """For `Corestore.open`: the cores of this network and nothing else."""
        return self.directory / "store"

    @property
    def identity(self) -> KeyPair:
        """The connection key pair; its public key is the member's id. Read once: the store must not be busy then."""
        if self._identity is None:
            self._identity = FeedStore(self.store_directory).identity()
        return self._identity

    @staticmethod
    def signer_name(kind: FeedKind) -> str:
        """The name in the store whose key pair signs the member's feeds of `kind`, in every epoch."""
        return f"signer-{kind.name.lower()}"

    def signer(self, kind: FeedKind) -> KeyPair:
        """That key pair."""
        return signer_of(self.store_directory, kind)

    # --- key epochs --------------------------------------------------------------------------------------------------

    def epochs(self) -> dict[int, Epoch]:
        """Every epoch whose secret is here, by number, ascending."""
        directory = self.directory / "epochs"
        found = {}
        for number in sorted(int(path.name) for path in directory.glob("*") if path.name.isdecimal()):
            secret = read_secret(directory / str(number))
            if secret is not None and any(secret):  # zeros: its destruction was interrupted
                found[number] = Epoch(number, secret)
        return found

    def add_epoch(self, epoch: Epoch) -> None:
        """Keep an epoch's secret, durably; again: nothing. Raises `RecordInvalid` if another one is here."""
        path = self.directory / "epochs" / str(epoch.number)
        there = read_secret(path)
        if there is None:
            write_secret(path, epoch.secret)
        elif there != epoch.secret:
            raise RecordInvalid(f"epoch {epoch.number} has another secret here", reason="epoch")

    def destroy_epoch(self, number: int) -> None:
        """Overwrite and remove an epoch's secret, durably; where there is none: nothing.

        The feeds of that epoch keep their encryption keys in the store: who destroys an epoch removes these too.
        """
        path = self.directory / "epochs" / str(number)
        with _reporting(f"destroying {path}"):
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return
            try:
                os.pwrite(descriptor, bytes(SECRET_BYTES).hex().encode(), 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            path.unlink()
            sync_directory(path.parent)

    # --- the roster's version ----------------------------------------------------------------------------------------

    def accepted(self) -> Accepted | None:
        """The newest version of the roster that was accepted; None: none yet."""
        path = self.directory / "accepted.json"
        try:
            match json.loads(path.read_text()):
                case {"version": int(version), "length": int(length), "tree_hash": str(digest)}:
                    return Accepted(version, length, parse_key(digest, what=str(path)))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}", fault=StorageFault.IO) from error
        except ValueError:
            pass
        raise StorageError(f"{path} is damaged", fault=StorageFault.CORRUPT)

    def accept(self, accepted: Accepted) -> None:
        """Remember, durably, that this version was accepted. Raises `RecordInvalid` (reason `rollback`) for less."""
        before = self.accepted()
        if accepted == before:
            return
        if before is not None and (accepted.version < before.version or accepted.length < before.length):
            raise RecordInvalid(
                f"roster version {accepted.version} of {accepted.length} blocks; version {before.version} of "
                f"{before.length} was accepted already",
                reason="rollback",
            )
        content = {"version": accepted.version, "length": accepted.length, "tree_hash": accepted.tree_hash.hex()}
        with _reporting(f"writing {self.directory / 'accepted.json'}"):
            replace_file(self.directory / "accepted.json", json.dumps(content, indent=1).encode() + b"\n")

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the right to change the roster. Raises `StorageError` LOCKED while another process has it."""
        disk = OsDisk(self.directory / "changing", create=True)
        disk.lock()
        try:
            yield
        finally:
            disk.unlock()


def signer_of(store_directory: Path, kind: FeedKind) -> KeyPair:
    """The key pair that signs a member's feeds of `kind`; the store must have a primary key (`FeedStore.identity`)."""
    primary = read_secret(store_directory / "primary-key")
    if primary is None:
        raise ConfigError(str(store_directory / "primary-key"), "missing")
    return named_key_pair(primary, NetworkFolder.signer_name(kind))


def new_root() -> bytes:
    """A root for a new network."""
    return new_secret()[:ROOT_BYTES]


def _check(root: bytes) -> bytes:
    return hash256(_ROOT, root)[: HASH_BYTES - ROOT_BYTES]


def _directory(state: Path, name: str) -> Path:
    if len(name) > LABEL_CHARS_MAX or not _NAME.fullmatch(name):
        raise ConfigError(name, f"a network's name has 1 to {LABEL_CHARS_MAX} letters, digits, '.', '_' and '-'")
    return state / "networks" / name


def _make(directory: Path) -> None:
    with _reporting(f"creating {directory}"):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(directory.parent)
        sync_directory(directory.parent.parent)


@contextmanager
def _reporting(action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, action) from error
