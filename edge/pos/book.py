"""The price book: every item's price, numbered, hashed, valid from a business day. Pure: no I/O, no clock.

The box publishes, all retained:

    shelf/v1/{gln}/price/{sku}     {"ItemID": sku, "CurrencyCode": "EUR", "Prices": [[book, price], ...]}
    shelf/v1/{gln}/book/index/{n}  {"Page": n, "Items": [sku, ...]}
    shelf/v1/{gln}/book            {"Number", "Count", "Hash", "ValidFrom", "DecidedThrough", "CurrencyCode", "Pages"}

`Prices` lists the item's last changes, newest first, at most `ENTRIES_MAX`: the price in book N is the first entry
whose book is at most N; `null` means not sold. So a till that connects while book N + 1 is being published still reads
book N in full. `Hash` is SHA-256 over the lines `sku TAB price LF` of all items sold, in ascending order of SKU bytes;
`Pages` holds, per page, the first 16 hex digits of the same hash over the page's own items. An item lies on page
CRC-32(sku) mod number of pages, so that a page says which of 20,000 items a till has missed without sending them all.

Order of publication: prices and index pages first, all acknowledged by the broker, then the manifest. `DecidedThrough`
rises with every decision even where no price changed (the manifest is then sent again with the same number): it is the
last business day that the box has looked at.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from edge.clock import WallTime
from edge.errors import LocalError, RecordInvalid, RemoteError
from edge.limits import INTEGER_MAX, ITEMS_MAX, PRICE_MINOR_MAX
from edge.records.item import check_sku
from edge.records.ledger import PRICES_PER_RECORD, BookRecord

ITEMS_PER_PAGE: Final = 256  # about 4 kB of SKUs: one message, and a till refetches few items that it already has
PAGES_MAX: Final = 256
ENTRIES_MAX: Final = 3  # the newest book, the one in force until its day comes, and one in between
BOOK_BYTES_MAX: Final = 16 * 1024  # of a manifest or index page

Entry = tuple[int, int | None]  # (book in which it changed, price in minor units; None: not sold from then on)


@dataclass(frozen=True, slots=True)
class BookManifest:
    """What a till needs to know that it holds the whole book. `pages` are 8-byte digests."""

    number: int
    count: int
    digest: bytes
    valid_from: date
    decided_through: date
    currency: str
    pages: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.number <= INTEGER_MAX or not 0 <= self.count <= ITEMS_MAX or len(self.digest) != 32:
            raise RecordInvalid(f"book {self.number} of {self.count} items")
        if not 1 <= len(self.pages) <= PAGES_MAX or any(len(page) != 8 for page in self.pages):
            raise RecordInvalid(f"book {self.number}: {len(self.pages)} pages")


@dataclass(frozen=True, slots=True)
class ShelfPrice:
    """One item's last changes, newest first."""

    sku: str
    currency: str
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        check_sku(self.sku)
        if not 1 <= len(self.entries) <= ENTRIES_MAX:
            raise RecordInvalid(f"price of {self.sku}: {len(self.entries)} entries")
        for book, price in self.entries:
            if not 1 <= book <= INTEGER_MAX or not (price is None or 0 <= price <= PRICE_MINOR_MAX):
                raise RecordInvalid(f"price of {self.sku}: {price} in book {book}")
        if any(a[0] <= b[0] for a, b in zip(self.entries, self.entries[1:], strict=False)):
            raise RecordInvalid(f"price of {self.sku}: entries are not newest first")

    def in_book(self, number: int) -> int | None:
        """The item's price in book `number`; None where it is not sold, or not known that far back."""
        return next((price for book, price in self.entries if book <= number), None)


def page_of(sku: str, pages: int) -> int:
    """The page on which `sku` lies, of `pages`."""
    return zlib.crc32(sku.encode()) % pages


def pages_for(count: int) -> int:
    """Pages of a book of `count` items: a power of two, so that it rarely changes."""
    return min(PAGES_MAX, max(1, 1 << (max(0, count - 1) // ITEMS_PER_PAGE).bit_length()))


def digest_of(prices: Mapping[str, int]) -> bytes:
    """SHA-256 over `sku TAB price LF`, ascending by SKU."""
    return hashlib.sha256("".join([f"{sku}\t{prices[sku]}\n" for sku in sorted(prices)]).encode()).digest()


def page_digests(prices: Mapping[str, int], pages: int) -> tuple[bytes, ...]:
    """The 8-byte digests of all pages."""
    split: list[dict[str, int]] = [{} for _ in range(pages)]
    for sku, price in prices.items():
        split[page_of(sku, pages)][sku] = price
    return tuple(digest_of(page)[:8] for page in split)


class PriceBook:
    """The books of a shop as the box knows them: built by applying `BookRecord`s from the log, in order.

    `prices` is the newest complete book. `shelf(sku)` is what the item's topic must hold.
    """

    def __init__(self) -> None:
        self.manifest: BookManifest | None = None
        self.before: BookManifest | None = None  # of the book in force until `manifest.valid_from`
        self.prices: dict[str, int] = {}
        self._entries: dict[str, tuple[Entry, ...]] = {}
        self._pending: list[tuple[str, int | None]] = []

    @classmethod
    def restored(
        cls, manifest: BookManifest | None, before: BookManifest | None, entries: Mapping[str, tuple[Entry, ...]]
    ) -> "PriceBook":
        """The books as another instance held them: its `manifest`, `before` and every item's `entries`."""
        book = cls()
        book.manifest, book.before = manifest, before
        book._entries = dict(entries)
        book.prices = {sku: price for sku, ((_, price), *_rest) in entries.items() if price is not None}
        if manifest is not None and digest_of(book.prices) != manifest.digest:
            raise RecordInvalid(f"price book {manifest.number}: the entries do not add up to its digest")
        return book

    @property
    def entries(self) -> Mapping[str, tuple[Entry, ...]]:
        """Every item's last changes, newest first; also of items no longer sold."""
        return self._entries

    @property
    def number(self) -> int:
        """The newest complete book's number; 0: none yet."""
        return self.manifest.number if self.manifest else 0

    def propose(
        self, prices: Mapping[str, int], *, currency: str, valid_from: date, decided_through: date, recorded: WallTime
    ) -> list[BookRecord]:
        """The records of the next book, to be appended and then applied; it sells exactly `prices`.

        Where no price changes they re-state the present number with the new `decided_through`.
        """
        changed: list[tuple[str, int | None]] = [
            (sku, price) for sku, price in sorted(prices.items()) if self.prices.get(sku) != price
        ]
        changed += [(sku, None) for sku in sorted(self.prices.keys() - prices.keys())]
        number = self.number + 1 if changed or self.manifest is None else self.number
        if number == self.number and self.manifest is not None:
            valid_from = self.manifest.valid_from
        digest = digest_of(prices)
        cuts = range(0, max(1, len(changed)), PRICES_PER_RECORD)
        chunks = [tuple(changed[at : at + PRICES_PER_RECORD]) for at in cuts]
        head = (number, currency, valid_from, decided_through, len(prices), digest)
        return [BookRecord(*head, part, len(chunks), chunk, recorded) for part, chunk in enumerate(chunks)]

    def apply(self, record: BookRecord) -> bool:
        """Take in one part; whether a book is now complete. An unfinished book is forgotten when another begins."""
        if record.part == 0:
            self._pending = []
        self._pending += record.changes
        if record.part + 1 < record.parts:
            return False
        for sku, price in self._pending:
            self._entries[sku] = ((record.number, price), *self._entries.get(sku, ()))[:ENTRIES_MAX]
            if price is None:
                self.prices.pop(sku, None)
            else:
                self.prices[sku] = price
        self._pending = []
        if digest_of(self.prices) != record.digest or len(self.prices) != record.count:
            raise LocalError(f"price book {record.number} in the log does not add up to its own digest")
        pages = pages_for(len(self.prices))
        if self.manifest is not None and record.number != self.manifest.number:
            self.before = self.manifest
        self.manifest = BookManifest(
            record.number,
            record.count,
            record.digest,
            record.valid_from,
            record.decided_through,
            record.currency,
            page_digests(self.prices, pages),
        )
        return True

    def price_on(self, sku: str, day: date) -> int | None:
        """The price of `sku` in force on business day `day`, as far as the last two books tell."""
        if self.manifest is None or sku not in self._entries:
            return None
        in_force = self.manifest if day >= self.manifest.valid_from else self.before
        return None if in_force is None else self.shelf(sku).in_book(in_force.number)

    def shelf(self, sku: str) -> ShelfPrice:
        """What the item's topic must hold."""
        if self.manifest is None:
            raise LocalError("there is no price book yet")
        return ShelfPrice(sku, self.manifest.currency, self._entries[sku])

    def changed_since(self, number: int) -> list[str]:
        """Every item that changed in a book after `number`, sorted: also those no longer sold."""
        return sorted(sku for sku, entries in self._entries.items() if entries[0][0] > number)

    def page_items(self) -> list[tuple[str, ...]]:
        """The items sold, by page, sorted."""
        pages: list[list[str]] = [[] for _ in range(pages_for(len(self.prices)))]
        for sku in sorted(self.prices):
            pages[page_of(sku, len(pages))].append(sku)
        return [tuple(page) for page in pages]


def encode_manifest(manifest: BookManifest) -> bytes:
    """The JSON of the book topic."""
    return _dump(
        {
            "Number": manifest.number,
            "Count": manifest.count,
            "Hash": manifest.digest.hex(),
            "ValidFrom": manifest.valid_from.isoformat(),
            "DecidedThrough": manifest.decided_through.isoformat(),
            "CurrencyCode": manifest.currency,
            "Pages": [page.hex() for page in manifest.pages],
        }
    )


def decode_manifest(payload: bytes) -> BookManifest:
    """Inverse of `encode_manifest`; raises `RemoteError` for anything else."""
    document = _load(payload)
    try:
        return BookManifest(
            _integer(document["Number"]),
            _integer(document["Count"]),
            bytes.fromhex(document["Hash"]),
            date.fromisoformat(document["ValidFrom"]),
            date.fromisoformat(document["DecidedThrough"]),
            str(document["CurrencyCode"]),
            tuple(bytes.fromhex(page) for page in document["Pages"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RemoteError(f"not a book manifest: {error!r:.80}") from None


def encode_price(price: ShelfPrice) -> bytes:
    """The JSON of a price topic."""
    return _dump({"ItemID": price.sku, "CurrencyCode": price.currency, "Prices": [list(e) for e in price.entries]})


def decode_price(payload: bytes, sku: str) -> ShelfPrice:
    """Inverse of `encode_price` for the topic of `sku`; raises `RemoteError` for anything else."""
    document = _load(payload)
    try:
        if document["ItemID"] != sku:
            raise RemoteError("price of another item than its topic's")
        entries = tuple((_integer(book), None if p is None else _integer(p)) for book, p in document["Prices"])
        return ShelfPrice(sku, str(document["CurrencyCode"]), entries)
    except (KeyError, TypeError, ValueError) as error:
        raise RemoteError(f"not a shelf price: {error!r:.80}") from None


def encode_page(page: int, items: Iterable[str]) -> bytes:
    """The JSON of an index topic."""
    return _dump({"Page": page, "Items": list(items)})


def decode_page(payload: bytes, page: int) -> tuple[str, ...]:
    """The items of index page `page`; raises `RemoteError` for anything else."""
    document = _load(payload, ITEMS_MAX * 80)
    try:
        if document["Page"] != page:
            raise RemoteError("index of another page than its topic's")
        return tuple(check_sku(sku) for sku in document["Items"])
    except (KeyError, TypeError, ValueError) as error:
        raise RemoteError(f"not an index page: {error!r:.80}") from None


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _load(payload: bytes, bytes_max: int = BOOK_BYTES_MAX) -> dict[str, Any]:
    if len(payload) > bytes_max:
        raise RemoteError(f"{len(payload)} bytes; at most {bytes_max}", reason="too_large")
    try:
        document = json.loads(payload.decode())
    except (ValueError, RecursionError) as error:
        raise RemoteError(f"not JSON: {error!r:.80}") from None
    if type(document) is not dict:
        raise RemoteError("not a JSON object")
    return document


def _integer(value: object) -> int:
    if type(value) is not int or not 0 <= value <= INTEGER_MAX:
        raise ValueError(f"{value!r:.20} is not an integer from 0")
    return value
