"""The owner's item file on disk: read when it changed. Its format is `edge.pos.item_file`."""

from collections.abc import Sequence
from pathlib import Path

from edge.errors import ConfigError, RecordInvalid
from edge.pos.item_file import parse_items
from edge.records.item import Item


class ItemFile:
    """Watches one file by its identity, size and time of change."""

    def __init__(self, path: Path | None, currency: str) -> None:
        """`path` None: the shop has no item file."""
        self._path = path
        self._currency = currency
        self._seen: tuple[int, int, int] | None = None

    def changed(self) -> Sequence[Item] | None:
        """The items, if the file changed since this was last asked, else None; `ConfigError` names file and line.

        A file that is refused is not read again until it changes.
        """
        if self._path is None:
            return None
        try:
            found = self._path.stat()
            mark = (found.st_ino, found.st_size, found.st_mtime_ns)
            if mark == self._seen:
                return None
            self._seen = mark
            return parse_items(self._path.read_text(encoding="utf-8"), self._currency)
        except OSError as error:
            self._seen = None  # once it can be read again it counts as changed, be it the same file
            raise ConfigError("shop.items", f"{self._path}: {error.strerror}") from None
        except (UnicodeDecodeError, RecordInvalid) as error:
            raise ConfigError("shop.items", f"{self._path}: {error}") from None
