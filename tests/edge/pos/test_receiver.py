"""A till's book beside a broker that loses whatever it likes."""

import random
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.clock import ClockQuality, WallTime
from edge.errors import RemoteError
from edge.pos.book import (
    PriceBook,
    decode_manifest,
    decode_page,
    decode_price,
    encode_manifest,
    encode_page,
    encode_price,
    pages_for,
)
from edge.pos.receiver import BookReceiver, Subscribe
from edge.pos.topics import Topics, gln_of_store
from edge.records.ledger import BASE, LedgerCodec, encode

MONDAY = date(2026, 11, 23)
WALL = WallTime(1, ClockQuality.FREE)
TOPICS = Topics(gln_of_store(7))


class Broker:
    """What the box retained; gives a subscriber some of it, by chance."""

    def __init__(self, rng: random.Random, loss: float) -> None:
        self.retained: dict[str, bytes] = {}
        self._rng, self._loss = rng, loss

    def publish(self, book: PriceBook, since: int) -> list[tuple[str, bytes]]:
        assert book.manifest is not None
        sent = [(TOPICS.price(sku), encode_price(book.shelf(sku))) for sku in book.changed_since(since)]
        sent += [(TOPICS.index(n), encode_page(n, items)) for n, items in enumerate(book.page_items())]
        sent.append((TOPICS.book, encode_manifest(book.manifest)))
        self.retained.update(sent)
        return [(topic, payload) for topic, payload in sent if topic == TOPICS.book or not self._lost()]

    def answer(self, topics: tuple[str, ...]) -> list[tuple[str, bytes]]:
        found = []
        for topic in topics:
            if topic.endswith("+"):
                found += [(t, p) for t, p in self.retained.items() if t.startswith(topic[:-1]) and not self._lost()]
            elif topic in self.retained and (topic == TOPICS.book or self._rng.random() > 0.02):
                found.append((topic, self.retained[topic]))
        self._rng.shuffle(found)
        return found

    def _lost(self) -> bool:
        return self._rng.random() < self._loss


def settle(receiver: BookReceiver, broker: Broker, now: float, steps: int = 2000) -> float:
    for _ in range(steps):
        for action in receiver.take_actions():
            if isinstance(action, Subscribe):
                assert len(action.topics) <= 64
                for topic, payload in broker.answer(action.topics):
                    receiver.received(topic, payload, now)
        now += 2.6
        receiver.tick(now)
        if receiver.complete:
            break
    return now


def propose(book: PriceBook, prices: dict[str, int], day: date) -> None:
    records = book.propose(
        prices, currency="EUR", valid_from=day, decided_through=day - timedelta(days=1), recorded=WALL
    )
    codec = LedgerCodec(BASE)
    done = [book.apply(codec.decode(encode(record))) for record in records]
    assert done == [False] * (len(records) - 1) + [True]


@given(st.integers(0, 2**32), st.integers(0, 300), st.sampled_from((0.0, 0.3, 0.9, 1.0)))
@settings(max_examples=20, deadline=None)
def test_any_losses_end_with_the_right_book(seed: int, count: int, loss: float) -> None:
    rng = random.Random(seed)
    broker, book, seen = Broker(rng, loss), PriceBook(), list[int]()
    receiver = BookReceiver(TOPICS, lambda manifest: seen.append(manifest.number))
    prices = {f"sku-{n}": rng.randrange(1, 999) for n in range(count)}
    propose(book, prices, MONDAY)
    broker.publish(book, 0)
    receiver.up(session_present=False)
    now = settle(receiver, broker, 0.0)
    assert receiver.complete
    assert receiver.prices_on(MONDAY) == prices
    for week in (1, 2):
        before = dict(prices)
        for sku in [sku for sku in prices if rng.random() < 0.2]:
            prices[sku] += 1
        if prices:
            prices.pop(rng.choice(sorted(prices)))
        prices[f"new-{week}"] = 5
        day = MONDAY + timedelta(days=7 * week)
        propose(book, prices, day)
        for topic, payload in broker.publish(book, week):
            receiver.received(topic, payload, now)
        now = settle(receiver, broker, now)
        assert receiver.prices_on(day) == prices
        assert receiver.prices_on(day - timedelta(days=1)) == before
        assert receiver.number_on(day) == week + 1
    assert seen == [1, 2, 3]


def test_a_fresh_till_knows_the_price_before_the_book_begins() -> None:
    broker, book = Broker(random.Random(1), 0.0), PriceBook()
    propose(book, {"a": 100, "b": 200}, MONDAY)
    propose(book, {"a": 110, "c": 50}, MONDAY + timedelta(days=7))
    broker.publish(book, 0)
    receiver = BookReceiver(TOPICS)
    receiver.up(session_present=False)
    settle(receiver, broker, 0.0)
    assert receiver.prices_on(MONDAY) == {"a": 100, "b": 200}
    assert receiver.prices_on(MONDAY + timedelta(days=7)) == {"a": 110, "c": 50}
    assert book.price_on("a", MONDAY) == 100
    assert book.price_on("b", MONDAY + timedelta(days=7)) is None
    again = PriceBook.restored(book.manifest, book.before, book.entries)
    assert (again.prices, again.number, again.price_on("b", MONDAY)) == (book.prices, 2, 200)


def test_a_book_too_large_for_one_record_is_in_force_after_its_last_part() -> None:
    book = PriceBook()
    prices = {f"{n:014d}": n + 1 for n in range(12_000)}
    propose(book, prices, MONDAY)
    assert book.manifest is not None
    assert (book.number, book.prices, len(book.manifest.pages)) == (1, prices, pages_for(12_000))
    records = book.propose({}, currency="EUR", valid_from=MONDAY, decided_through=MONDAY, recorded=WALL)
    assert not book.apply(records[0])
    assert book.prices == prices


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{}", b"\xff", b'{"Number":1}', b"[" * 100, b'{"Page":1,"Items":["a/b"]}']
)
def test_anything_else_on_the_shelf_topics_is_refused(payload: bytes) -> None:
    with pytest.raises(RemoteError):
        decode_manifest(payload)
    with pytest.raises(RemoteError):
        decode_price(payload, "a")
    with pytest.raises(RemoteError):
        decode_page(payload, 1)
