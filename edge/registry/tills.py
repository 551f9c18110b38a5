"""The small registry: which tills are enrolled, with the hash of each one's password, and labels of devices.

It is the one thing of the box that a person may edit by command and that is not in the log: a lost registry costs a
new enrolment of the tills and no sale.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinydb import TinyDB, where
from tinydb.table import Document

from edge.errors import ConfigError, RecordInvalid, StorageError, StorageFault
from edge.limits import LABEL_CHARS_MAX, LANES_MAX
from edge.pos.broker import BOX_USER, hash_password, new_password
from edge.pos.topics import check_lane
from edge.registry.storage import AtomicStorage

FILE_NAME = "registry.json"


@dataclass(frozen=True, slots=True)
class EnrolledTill:
    """A till that may connect. `credential` is its password's hash, as the broker keeps it."""

    lane: str
    label: str
    credential: str
    enrolled_ms: int  # wall time, for people

    def __post_init__(self) -> None:
        check_lane(self.lane)
        if len(self.label) > LABEL_CHARS_MAX or not self.label.isprintable():
            raise RecordInvalid(f"label of lane {self.lane}: at most {LABEL_CHARS_MAX} printable characters")


class Registry:
    """The registry in `directory`; a context manager. `read_only` takes no lock."""

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        self._db = TinyDB(directory / FILE_NAME, storage=AtomicStorage, read_only=read_only)
        self._tills = self._db.table("tills", cache_size=0)
        self._devices = self._db.table("devices", cache_size=0)

    def __enter__(self) -> "Registry":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def enrol(self, lane: str, *, label: str = "", wall_ms: int) -> str:
        """Enrol `lane`, or give it a new password; returns the password, which is stored nowhere."""
        if lane == BOX_USER:
            raise ConfigError("lane", f"{BOX_USER} is the box's own name")
        if self.till(lane) is None and len(self._tills) >= LANES_MAX:
            raise ConfigError("lane", f"{LANES_MAX} tills are enrolled already")
        password = new_password()
        till = EnrolledTill(lane, label, hash_password(password), wall_ms)
        self._tills.upsert(asdict(till), where("lane") == lane)
        return password

    def revoke(self, lane: str) -> None:
        """Let `lane` connect no longer; raises `ConfigError` where it is not enrolled."""
        if not self._tills.remove(where("lane") == lane):
            raise ConfigError("lane", f"{lane} is not enrolled")

    def till(self, lane: str) -> EnrolledTill | None:
        """The enrolment of `lane`, or None."""
        found = self._tills.get(where("lane") == lane)
        return _till(found) if isinstance(found, Document) else None

    def tills(self) -> list[EnrolledTill]:
        """Every enrolled till, by lane."""
        return sorted((_till(found) for found in self._tills.all()), key=lambda till: till.lane)

    def credentials(self) -> dict[str, str]:
        """Lane → password hash, as the broker's configuration wants it."""
        return {till.lane: till.credential for till in self.tills()}

    def label_device(self, device: str, label: str) -> None:
        """Name a device (a scale, a label printer) for people; an empty label removes it."""
        check_lane(device)
        if len(label) > LABEL_CHARS_MAX or not label.isprintable():
            raise RecordInvalid(f"label of device {device}: at most {LABEL_CHARS_MAX} printable characters")
        if label:
            self._devices.upsert({"device": device, "label": label}, where("device") == device)
        else:
            self._devices.remove(where("device") == device)

    def device_labels(self) -> dict[str, str]:
        """Device → label."""
        return {str(found["device"]): str(found["label"]) for found in self._devices.all()}


def _till(found: Any) -> EnrolledTill:
    try:
        lane, label, credential = (str(found[key]) for key in ("lane", "label", "credential"))
        return EnrolledTill(lane, label, credential, int(found["enrolled_ms"]))
    except (KeyError, TypeError, ValueError, RecordInvalid) as error:
        raise StorageError(f"registry: a till's entry is damaged ({error})", fault=StorageFault.CORRUPT) from None
