"""The errors of the box. Each class says whose fault it is, and so what the box does about it.

    PomonaError
    ├── LocalError        our own mistake: crash and let the supervisor restart the service
    ├── RemoteError       a peer, till or file broke the rules: drop it, count it, go on
    │   ├── SignatureError    a signature or proof does not verify
    │   └── RecordInvalid     a record's content is out of its documented range
    ├── StorageError      the disk: full, failing, corrupt, or in use by another process
    ├── BlockMissing      a block of a log is not held here; a peer may have it
    └── ConfigError       a flag, a configuration key or an item file; names the path of the offending key

Errors are raised as deep as the cause is known and are turned into one line on stderr by `edge.__main__` alone.
"""

from enum import StrEnum


class PomonaError(Exception):
    """Base of every error this package raises on purpose."""


class LocalError(PomonaError):
    """A broken invariant of our own. Never caught to go on; the supervisor restarts the process."""


class RemoteError(PomonaError):
    """Somebody else broke the rules. `reason` is a short stable word used as a metric label."""

    def __init__(self, message: str, *, reason: str = "malformed") -> None:
        super().__init__(message)
        self.reason = reason


class SignatureError(RemoteError):
    """A signature, capability or Merkle proof does not verify."""

    def __init__(self, message: str, *, reason: str = "signature") -> None:
        super().__init__(message, reason=reason)


class RecordInvalid(RemoteError):
    """A record is well-formed but a field is out of its documented range, or unknown."""

    def __init__(self, message: str, *, reason: str = "range") -> None:
        super().__init__(message, reason=reason)


class StorageFault(StrEnum):
    """What is wrong with the disk. Callers react to this, not to the message."""

    FULL = "full"  # no space: heals by itself once space is freed
    IO = "io"  # a write or sync failed: the segment is abandoned, the next append opens a new one
    CORRUPT = "corrupt"  # bytes at rest changed: refuse to serve them, name the block
    LOCKED = "locked"  # another process holds the folder
    READ_ONLY = "read_only"  # nothing may be written here any more
    DISCARDED = "discarded"  # given up on purpose, to free the disk; nothing is wrong with it


class StorageError(PomonaError):
    """The disk failed us. Nothing of the failed operation was acknowledged."""

    def __init__(self, message: str, *, fault: StorageFault) -> None:
        super().__init__(message)
        self.fault = fault

    @property
    def heals_by_itself(self) -> bool:
        """Whether retrying later can succeed without a person acting."""
        return self.fault in (StorageFault.FULL, StorageFault.IO)


class BlockMissing(PomonaError):
    """Block `index` is below the length of its log, but it is not held here: never downloaded, or cleared."""

    def __init__(self, index: int) -> None:
        super().__init__(f"block {index} is not held here")
        self.index = index


class ConfigError(PomonaError):
    """A flag, configuration key or item file cannot be used; `path` names the key, e.g. `pricing.guard.band`."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group that is none itself, however deep groups lie in groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
