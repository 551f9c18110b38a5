"""A till's side of the price book: takes what the broker shows, finds out what is missing, fetches it. Pure.

    receiver.up(session_present)          after each connection
    receiver.received(topic, payload, now)   every message on a shelf topic
    receiver.tick(now)                    now and then: a few times a second
    receiver.take_actions()               after each of these: what to subscribe to and to unsubscribe from

A broker that serves a slow subscriber drops what overflows its queue, thousands of retained prices among them. So a
book counts only when its number of items and its hash agree with the manifest. Where they do not, the page digests say
which pages differ; their index says which items lie there; those that are unknown are fetched first (by subscribing to
their own topics, few at a time, which makes the broker send what it retains), then, if the page still differs, all.

Invariants: `price` answers from verified books only; the present book stays in force until the next one is verified
and its day has come; at most `BATCH` topics are asked for at a time, and asked for again when nothing comes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Final

from edge.errors import RemoteError
from edge.limits import ITEMS_MAX
from edge.pos.book import (
    BookManifest,
    ShelfPrice,
    decode_manifest,
    decode_page,
    decode_price,
    digest_of,
    page_digests,
    page_of,
)
from edge.pos.topics import Topics

BATCH: Final = 64  # topics asked for at a time: some 12 kB of answers, below any broker's queue
QUIET_S: Final = 0.5  # no price for so long: the broker has sent what it will send by itself
PATIENCE_S: Final = 5.0  # no answer for so long: ask again


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Ask for these topics."""

    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """No longer ask for these topics."""

    topics: tuple[str, ...]


Action = Subscribe | Unsubscribe


@dataclass(frozen=True, slots=True)
class _Book:
    manifest: BookManifest
    prices: dict[str, int]


class BookReceiver:
    """The price books of one till. `on_book` is called with each manifest that has become trustworthy."""

    def __init__(self, topics: Topics, on_book: Callable[[BookManifest], None] = lambda _manifest: None) -> None:
        self._topics = topics
        self._on_book = on_book
        self._items: dict[str, ShelfPrice] = {}
        self._index: dict[int, tuple[str, ...]] = {}  # pages fetched for the book that is being completed
        self._refreshed: set[int] = set()  # pages all of whose items were fetched for it
        self._sought: set[str] = set()  # topics of index pages and unknown items that were asked for
        self._plan: list[str] = []  # topics to ask for after the batch in progress
        self._wanted: BookManifest | None = None
        self._books: list[_Book] = []  # verified, oldest first, two at most
        self._asked: set[str] = set()  # topics of the batch in progress that have not answered
        self._batch: tuple[str, ...] = ()
        self._last_price = self._last_answer = float("-inf")
        self._actions: list[Action] = []
        self.fetched = 0  # topics asked for one by one, ever

    @property
    def manifest(self) -> BookManifest | None:
        """Of the newest verified book."""
        return self._books[-1].manifest if self._books else None

    @property
    def complete(self) -> bool:
        """Whether the newest book that was announced is verified."""
        return self._wanted is None and bool(self._books)

    def number_on(self, day: date) -> int:
        """The number of the book in force on business day `day`; 0: none known."""
        for book in reversed(self._books):
            if book.manifest.valid_from <= day:
                return book.manifest.number
        return max(0, self._books[0].manifest.number - 1) if self._books else 0

    def price(self, sku: str, day: date) -> int | None:
        """The shelf price of `sku` on business day `day` in minor units; None where no verified book says."""
        for book in reversed(self._books):
            if book.manifest.valid_from <= day:
                return book.prices.get(sku)
        if self._books and sku in self._items:  # the first book ever seen is not in force yet: its items say what was
            return self._items[sku].in_book(self._books[0].manifest.number - 1)
        return None

    def prices_on(self, day: date) -> dict[str, int]:
        """All shelf prices in force on business day `day`."""
        for book in reversed(self._books):
            if book.manifest.valid_from <= day:
                return dict(book.prices)
        return {sku: price for sku in self._items if (price := self.price(sku, day)) is not None}

    def up(self, session_present: bool) -> None:
        """A connection was made. A session that the broker kept still holds the live subscription to prices."""
        self._actions = []
        self._batch, self._asked, self._plan = (), set(), []
        topics = [self._topics.book]
        if not (session_present and self._books):
            topics.append(self._topics.price("+"))
        self._actions.append(Subscribe(tuple(topics)))

    def received(self, topic: str, payload: bytes, now: float) -> None:
        """A message on a shelf topic; raises `RemoteError` where it is not what that topic holds."""
        sku, page = self._topics.sku_of(topic), self._topics.page_of(topic)
        if sku is not None:
            self._last_price = now
            last = self._answered(topic, now)
            self._price(sku, payload)
            if last:
                self._advance(now)
        elif page is not None:
            last = self._answered(topic, now)
            self._index[page] = decode_page(payload, page)
            if last:
                self._advance(now)
        elif topic == self._topics.book:
            self._announced(decode_manifest(payload), now)

    def tick(self, now: float) -> None:
        """Time has passed: verify what came, ask for what did not."""
        if self._wanted is None:
            return
        if self._batch:
            if not self._asked or now - self._last_answer >= PATIENCE_S:
                self._advance(now)
        elif now - self._last_price >= QUIET_S:
            self._advance(now)

    def take_actions(self) -> list[Action]:
        """What to do now, in order; each action is handed out once."""
        actions, self._actions = self._actions, []
        return actions

    def _price(self, sku: str, payload: bytes) -> None:
        if not payload:  # the topic was cleared
            self._items.pop(sku, None)
            return
        price = decode_price(payload, sku)
        known = self._items.get(sku)
        if known is None and len(self._items) >= ITEMS_MAX:
            raise RemoteError("more items than a shop can have", reason="too_large")
        if known is None or price.entries[0][0] >= known.entries[0][0]:  # a delayed older message changes nothing
            self._items[sku] = price

    def _announced(self, manifest: BookManifest, now: float) -> None:
        present = self.manifest
        if present is not None and (manifest.number, manifest.digest) == (present.number, present.digest):
            self._books[-1] = _Book(manifest, self._books[-1].prices)
            self._wanted = None
            if manifest != present:
                self._on_book(manifest)
            return
        if present is not None and manifest.number < present.number:
            return  # delayed; books only get newer
        if self._wanted is None or manifest.number != self._wanted.number:
            self._forget_progress()
        self._wanted = manifest
        if not self._verify(manifest):
            self._last_price = max(self._last_price, now)  # prices of this book may be on their way

    def _prices_of(self, number: int) -> dict[str, int]:
        found = ((sku, item.in_book(number)) for sku, item in self._items.items())
        return {sku: price for sku, price in found if price is not None}

    def _verify(self, manifest: BookManifest) -> bool:
        prices = self._prices_of(manifest.number)
        if len(prices) != manifest.count or digest_of(prices) != manifest.digest:
            return False
        self._books = [*self._books, _Book(manifest, prices)][-2:]
        self._wanted = None
        self._forget_progress()
        self._on_book(manifest)
        return True

    def _advance(self, now: float) -> None:
        """End the batch in progress; begin the next one, of the plan or of a new plan if the book still differs."""
        if self._batch:
            self._actions.append(Unsubscribe(self._batch))
            self._batch, self._asked = (), set()
        if self._wanted is None:
            self._plan = []
            return
        if not self._plan and not self._verify(self._wanted):
            self._plan = self._missing(self._wanted)
            self._last_price = now  # an empty plan: look again after a quiet moment
        if self._plan:
            self._batch, self._plan = tuple(self._plan[:BATCH]), self._plan[BATCH:]
            self._asked, self._last_answer = set(self._batch), now
            self.fetched += len(self._batch)
            self._actions.append(Subscribe(self._batch))

    def _missing(self, manifest: BookManifest) -> list[str]:
        """The topics to fetch next, going by the manifest's page digests: indexes, unknown items, then whole pages."""
        digests = page_digests(self._prices_of(manifest.number), len(manifest.pages))
        differing = [page for page, digest in enumerate(manifest.pages) if digests[page] != digest]
        unread = [page for page in differing if page not in self._index]
        if unread and not self._sought.issuperset(map(self._topics.index, unread)):
            self._sought.update(map(self._topics.index, unread))
            return [self._topics.index(page) for page in unread]
        known = [page for page in differing if page in self._index]
        unknown = [self._topics.price(sku) for page in known for sku in self._index[page] if sku not in self._items]
        if unknown and not self._sought.issuperset(unknown):
            self._sought.update(unknown)
            return unknown
        stale = {page for page in known if page not in self._refreshed}
        if not stale:  # everything was fetched and it still differs: the box is publishing, or lost; from the start
            self._forget_progress()
            return []
        self._refreshed.update(stale)
        listed = {sku for page in stale for sku in self._index[page]}
        for sku in [s for s in self._items if s not in listed and page_of(s, len(manifest.pages)) in stale]:
            del self._items[sku]  # no longer sold, and the message that said so was dropped
        return [self._topics.price(sku) for sku in sorted(listed)]

    def _forget_progress(self) -> None:
        self._index, self._refreshed, self._sought, self._plan = {}, set(), set(), []

    def _answered(self, topic: str, now: float) -> bool:
        """Whether this was the last answer of the batch in progress."""
        if topic in self._asked:
            self._asked.remove(topic)
            self._last_answer = now
            return not self._asked
        return False
