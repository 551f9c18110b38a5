"""Small files that are replaced as a whole: after a crash the old one is there or the new one, never a mixture.

The data is written to a file beside the target, synced, renamed over it, and the folder is synced, so that the new name
survives a power cut too. The temporary file is created with its final mode: what is secret is never readable by others,
not even for a moment. `OSError` passes through: callers know what its failure means.
"""

import os
from pathlib import Path
from typing import Final

TEMPORARY_SUFFIX: Final = ".new"


def sync_directory(directory: Path) -> None:
    """Make renames, creations and removals in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_beside(path: Path, data: bytes, mode: int = 0o600) -> Path:
    """Write and sync `data` into the temporary file beside `path`; its path, for a rename by the caller."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def replace_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `data`, durably."""
    write_beside(path, data, mode).replace(path)
    sync_directory(path.parent)
