"""What can be asked of a box: over its control socket while it runs, from its ledger while it does not. Read-only.

status                         everything a person or a dashboard wants to know at once; of a running box only
decisions {category?, sku?}    the newest round: `{"names": {sku: name}, "blocks": [base64 of a decision batch]}`
labels                         the shelf labels that change with the newest book
items {category?}              items with reference, price in force and cost
blocks {start}                 records of the ledger from `start` on, base64, a page of them: `{"length", "blocks"}`
metrics                        the Prometheus text exposition; of a running box only
peers                          the networks: how well connected, with whom; of a running box only
budget {weeks}                 what left this shop, and the privacy accounts of the last weeks; of a running box only
insights {after?}              what the networks say, a row a number, a page of it; of a running box only
"""

import base64
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from typing import Final

from prometheus_client import CollectorRegistry

from edge import __version__
from edge.agent.explain import Label
from edge.box.control import Handler
from edge.box.ledger import Ledger
from edge.box.pricing import Pricer
from edge.box.sharing import WEEKS_SHOWN_MAX, Sharing
from edge.box.views import Views
from edge.config import ShopConfig
from edge.errors import RecordInvalid
from edge.health.checks import HealthChecks
from edge.health.metrics import exposition, status_tree
from edge.pos.service import PosService
from edge.records.decision import DecisionBatch
from edge.records.history import week_of

_CATEGORIES_SHOWN: Final = 100  # of a status
_NETWORK_SHOWN: Final = ("name", "kind", "mode", "members", "told", "queued", "behind", "heard", "records")
PAGE_RECORDS_MAX: Final = 2000  # of the ledger in one answer: 10 ms of the loop
PAGE_BYTES: Final = 1 << 20  # an answer is closed once it holds so much


class Shelves:
    """Questions that the ledger and its views can answer."""

    def __init__(self, views: Views, ledger: Ledger, currency: str) -> None:
        self._views = views
        self._ledger = ledger
        self._currency = currency

    def handlers(self) -> dict[str, Handler]:
        """By command."""
        return {
            "decisions": lambda request: self.decisions(_text(request, "category"), _text(request, "sku")),
            "labels": lambda _request: self.labels(),
            "items": lambda request: self.items(_text(request, "category")),
            "blocks": lambda request: self.blocks(request.get("start")),
        }

    def decisions(self, category: str | None, sku: str | None) -> dict[str, object]:
        """Blocks of the newest round of one category, of the category of an item, or of all."""
        shelf = self._views.shelf
        if sku is not None:
            item = shelf.items.get(sku)
            if item is None:
                raise RecordInvalid(f"no item {sku!r} in the item file")
            category = item.category
        if category is not None and category not in shelf.categories():
            raise RecordInvalid(f"no category {category!r}; there are: {', '.join(shelf.categories()) or 'none'}")
        names = sorted(shelf.decisions) if category is None else [category]
        if category is not None and category not in shelf.decisions:
            mode = shelf.mode(category)
            raise RecordInvalid(f"no decision yet: category {category!r} is {mode}, and no week of it has begun")
        blocks = [self._ledger.get(index) for name in names for index in shelf.decisions[name]]
        return {
            "names": {item.sku: item.name for item in shelf.items.values() if category in (None, item.category)},
            "blocks": [base64.b64encode(block).decode() for block in blocks],
        }

    def labels(self) -> dict[str, object]:
        """What to print: labels that change with the newest book, by category and name."""
        shelf = self._views.shelf
        manifest = shelf.book.manifest
        found = []
        for sku, entries in shelf.book.entries.items():
            number, price = entries[0]
            item = shelf.items.get(sku)
            if manifest is not None and number == manifest.number and item is not None and price is not None:
                old = entries[1][1] if len(entries) > 1 else None
                found.append(Label(item.category, item.name, sku, old or 0, price, self._currency))
        found.sort(key=lambda label: (label.category, label.name, label.sku))
        return {
            "book": 0 if manifest is None else manifest.number,
            "valid_from": None if manifest is None else manifest.valid_from.isoformat(),
            "labels": [asdict(label) for label in found],
        }

    def items(self, category: str | None) -> list[dict[str, object]]:
        """Items of `category`, or all, sorted; prices in minor units, cost in 1/10,000 currency unit."""
        shelf = self._views.shelf
        found = shelf.categories()
        if category is not None and category not in found:
            raise RecordInvalid(f"no category {category!r}; there are: {', '.join(found) or 'none'}")
        rows: list[dict[str, object]] = []
        for name in found if category is None else [category]:
            for item in found[name]:
                price = shelf.prices.get(item.sku)
                rows.append(
                    {
                        "sku": item.sku,
                        "name": item.name,
                        "category": name,
                        "mode": shelf.mode(name),
                        "currency": self._currency,
                        "reference_minor": item.reference_minor,
                        "price_minor": None if price is None else price.price_minor,
                        "cost_e4": item.cost_e4,
                    }
                )
        return rows

    def blocks(self, start: object) -> dict[str, object]:
        """A page of the ledger's records from `start` on, none beyond the end."""
        length = self._ledger.length
        if type(start) is not int or not 0 <= start <= length:
            raise RecordInvalid(f"'start' must be a whole number in 0..{length}")
        found: list[str] = []
        size = 0
        for index in range(start, min(start + PAGE_RECORDS_MAX, length)):
            block = self._ledger.get(index)
            found.append(base64.b64encode(block).decode())
            size += len(block)
            if size >= PAGE_BYTES:
                break
        return {"length": length, "blocks": found}


class Inquiry(Shelves):
    """The same, and how the running box is doing."""

    def __init__(
        self,
        shop: ShopConfig,
        *,
        views: Views,
        ledger: Ledger,
        pricer: Pricer,
        service: PosService,
        health: HealthChecks,
        registry: CollectorRegistry,
        sharing: Sharing,
    ) -> None:
        super().__init__(views, ledger, shop.currency)
        self._shop = shop
        self._pricer = pricer
        self._service = service
        self._health = health
        self._registry = registry
        self._sharing = sharing
        self._started = time.monotonic()

    def handlers(self) -> dict[str, Handler]:
        """By command."""
        return {
            **super().handlers(),
            "status": lambda _request: self.status(),
            "metrics": lambda _request: exposition(self._registry).decode(),
            "peers": lambda _request: self._sharing.peers(),
            "budget": lambda request: self._sharing.budget(_weeks(request)),
            "insights": lambda request: self._sharing.insights(_text(request, "after") or ""),
        }

    def status(self) -> dict[str, object]:
        """The box at a glance, and every metric."""
        shop, core, policy = self._shop, self._ledger.core, self._pricer.policy
        self._health.poll()
        return {
            "version": __version__,
            "shop": {"gln": shop.gln, "currency": shop.currency, "state_dir": shop.state_dir},
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            "health": self._health.tree(),
            "network": self._sharing.mode.value,
            "networks": [{key: each[key] for key in _NETWORK_SHOWN} for each in self._sharing.peers()["networks"]],
            "broker_connected": self._service.connected,
            "ledger": {
                "key": core.key.hex(),
                "length": core.length,
                "bytes": core.byte_length,
                "signed": core.signed.length if core.signed else 0,
                "fork": core.fork,
            },
            "tills": self._tills(),
            "days": self._days(),
            "book": self._book(),
            "policy": None
            if policy is None
            else {"name": policy.facts.name, "sha256": policy.facts.sha256.hex(), "residual": policy.facts.residual},
            "categories": [
                self._category(name, len(items))
                for name, items in list(self._views.shelf.categories().items())[:_CATEGORIES_SHOWN]
            ],
            "metrics": status_tree(self._registry),
        }

    def _tills(self) -> list[dict[str, object]]:
        return [
            {
                "lane": found.lane,
                "epoch": found.epoch,
                "through": found.through,
                "highest": found.highest,
                "missing": [list(span) for span in found.missing],
                "tail_unknown": found.tail_unknown,
            }
            for found in self._views.intake.status()
        ]

    def _days(self) -> dict[str, object]:
        days = self._views.days
        return {
            "newest": _day(days.newest),
            "closed_through": _day(days.closed_through),
            "waiting_for": {lane: over.isoformat() for lane, over in days.waiting_for().items()},
        }

    def _book(self) -> dict[str, object] | None:
        book = self._views.shelf.book.manifest
        if book is None:
            return None
        return {
            "number": book.number,
            "published": self._service.publisher.published,
            "items": book.count,
            "hash": book.digest.hex(),
            "valid_from": book.valid_from.isoformat(),
            "decided_through": book.decided_through.isoformat(),
        }

    def _category(self, name: str, items: int) -> dict[str, object]:
        shelf = self._views.shelf
        batches: list[DecisionBatch] = [self._views.decisions(index) for index in shelf.decisions.get(name, [])]
        effect = self._pricer.effects.get(name)
        trend = self._views.memory.category_trend(name, week_of(self._views.days.newest or date(1970, 1, 5)))
        return {
            "name": name,
            "items": items,
            "mode": shelf.mode(name),
            "decided_for": _day(batches[0].business_day) if batches else None,
            "source": batches[0].source.value if batches else None,
            "arm": batches[0].arm.value if batches else None,
            "labels_changed": sum(int((batch.published != batch.previous).sum()) for batch in batches),
            "profit_change": round(sum(float(batch.profit_change.sum()) for batch in batches), 2),
            "profit_change_sd": round(sum(float((batch.profit_change_sd**2).sum()) for batch in batches) ** 0.5, 2),
            "effect": None if effect is None else {key: round(cell, 2) for key, cell in asdict(effect).items()},
            "trend": None if trend is None else asdict(trend),
        }


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _weeks(request: Mapping[str, object]) -> int:
    text = _text(request, "weeks") or "26"
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= WEEKS_SHOWN_MAX):
        raise RecordInvalid(f"'weeks' must be a whole number in 1..{WEEKS_SHOWN_MAX}, not {text!r}")
    return int(text)


def _text(request: Mapping[str, object], key: str) -> str | None:
    value = request.get(key)
    if value is not None and not isinstance(value, str):
        raise RecordInvalid(f"{key!r} must be text")
    return value
