"""Puts the price book on the shelf topics: changed prices and index pages first, paced; the manifest last.

What the broker holds is read back from its retained manifest after each connection: equal means nothing to do, an older
book means that only what changed since is sent, anything else (a broker that lost its memory) means everything.
At most `IN_FLIGHT` publishes of the book are unanswered, so that acknowledgements to tills pass in between, and the
manifest is sent only after the broker has answered all of the rest: a till that sees it can fetch all it names.
"""

import asyncio
import logging
from typing import Final

from edge.errors import RemoteError
from edge.pos.book import BookManifest, PriceBook, decode_manifest, encode_manifest, encode_page, encode_price
from edge.pos.mqtt import LinkDown, MqttLink, MqttMessage
from edge.pos.topics import Topics

logger = logging.getLogger(__name__)
IN_FLIGHT: Final = 64
READ_BACK_S: Final = 1.0  # how long the broker may take to show its retained manifest after a connection


class BookPublisher:
    """Publishes the newest book of `book` over `link` whenever either changes."""

    def __init__(self, link: MqttLink, topics: Topics, book: PriceBook) -> None:
        self._link, self._topics, self._book = link, topics, book
        self._wake = asyncio.Event()
        self._shown: BookManifest | None = None  # what the broker is known to retain
        self._shown_pages: list[tuple[str, ...]] = []
        self._read_back: asyncio.Event | None = None
        self.published = 0  # number of the newest book that is out in full on this connection's broker

    def up(self) -> None:
        """A connection was made: ask what the broker retains, then publish what it lacks."""
        self._shown, self._shown_pages, self._read_back = None, [], asyncio.Event()
        self._link.subscribe([self._topics.book])
        self._wake.set()

    def changed(self) -> None:
        """A new book is durable."""
        self._wake.set()

    def received(self, message: MqttMessage) -> None:
        """A message on one of our own topics: the retained manifest, read back."""
        if message.topic != self._topics.book or not message.retained or self._read_back is None:
            return
        try:
            self._shown = decode_manifest(message.payload)
        except RemoteError as error:
            logger.warning("the broker retains something else than our price book: %s", error)
        self._read_back.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._publish()
            except LinkDown:
                continue  # `up` wakes us when there is a connection again

    async def _publish(self) -> None:
        manifest = self._book.manifest
        if manifest is None or not self._link.connected:
            return
        if self._read_back is not None and not self._read_back.is_set():
            try:
                async with asyncio.timeout(READ_BACK_S):
                    await self._read_back.wait()
            except TimeoutError:
                self._read_back.set()
        shown = self._shown
        if shown == manifest:
            self.published = manifest.number
            return
        since = shown.number if shown is not None and self._is_ours(shown) else 0
        messages = [
            (self._topics.price(sku), encode_price(self._book.shelf(sku))) for sku in self._book.changed_since(since)
        ]
        pages = self._book.page_items()
        if pages != self._shown_pages:
            messages += [
                (self._topics.index(page), encode_page(page, items))
                for page, items in enumerate(pages)
                if page >= len(self._shown_pages)
                or len(pages) != len(self._shown_pages)
                or items != self._shown_pages[page]
            ]
        await self._send(messages)
        await (await self._link.publish(self._topics.book, encode_manifest(manifest), retain=True))
        self._shown, self._shown_pages, self.published = manifest, pages, manifest.number
        if messages:
            logger.info("price book %d: %d items, %d messages sent", manifest.number, manifest.count, len(messages))

    def _is_ours(self, shown: BookManifest) -> bool:
        """Whether `shown` is a book of this log, so that sending what changed since is enough."""
        present = self._book.manifest
        if present is None or shown.number > present.number:
            return False
        known = (present, self._book.before)
        return any(m is not None and (m.number, m.digest) == (shown.number, shown.digest) for m in known)

    async def _send(self, messages: list[tuple[str, bytes]]) -> None:
        pending: set[asyncio.Future[None]] = set()
        for topic, payload in messages:
            pending.add(await self._link.publish(topic, payload, retain=True))
            if len(pending) >= IN_FLIGHT:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for future in done:
                    future.result()
        for future in pending:
            await future
