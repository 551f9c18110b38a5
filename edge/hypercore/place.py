"""Where a store is at home: tells a folder that was copied, restored from a backup or moved to another card.

A writer that continues from an old copy signs other content under indexes that it has used before, and every peer that
sees both freezes the feed for good. What tells a copy from the original is what a copy cannot take along: the machine's
identity, and the number that the file system gave to the file of the primary key. Copying tools, archives and restored
backups give it another one; so does a new card. What this cannot see is an image of the whole card written back to the
same card: then only peers know better (see `Standing.BEHIND`).

The fingerprint is a hash; it leaves the folder only together with the folder.
"""

from pathlib import Path
from typing import Final

from edge.crypto.hashing import hash256

# What is there on a Pi, on a PC, or nowhere (a container without systemd): then the file alone decides.
_MACHINE_FILES: Final = ("/proc/device-tree/serial-number", "/etc/machine-id")


def fingerprint(anchor: Path, machine_files: tuple[str, ...] = _MACHINE_FILES) -> str | None:
    """Hexadecimal fingerprint of the machine and of `anchor`, a file that is never replaced; None without that file.

    Raises `OSError` where the file cannot be asked.
    """
    try:
        number = anchor.stat().st_ino
    except FileNotFoundError:
        return None
    return hash256(b"pomona place\0", _machine(machine_files), b"\0", str(number).encode()).hex()


def _machine(files: tuple[str, ...]) -> bytes:
    parts = []
    for name in files:
        try:
            parts.append(Path(name).read_bytes().strip(b"\0\n "))
        except OSError:
            parts.append(b"")
    return b"\0".join(parts)
