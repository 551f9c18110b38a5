"""P2PPriceMemory: one sale's way through the shop: logged, remembered here, added up without names, told when due.

    log          the ledger; durable before anything else knows of it
    local        LocalPriceMemory: what prices are made from
    anonymize    into each network's accumulator; nothing leaves by this
    sync         networks are woken where something may be due; usually nothing is

Each step may fail and the steps before it stand. Without the ledger nothing has happened. What the privacy layers
refuse is counted, and the sale stands; what cannot be told now is told later.

What counts is known by the local memory alone: which receipts it has seen, and which are cancelled, whichever came
first. So `anonymize` is driven by it (`LocalPriceMemory.on_counted`) and nothing counts twice, in a crash's second
reading neither. Telling takes a disk and members: it is the networks' own task, which `sync` only wakes.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Final, Protocol

from edge.errors import LocalError, RemoteError
from edge.memory.local import LocalPriceMemory
from edge.privacy.rules import PrivacyRefused
from edge.records.receipt import Receipt

logger = logging.getLogger(__name__)

AppendReceipt = Callable[[Receipt], Awaitable[int]]


class Accumulator(Protocol):
    """Where a network's figures are added up: `edge.privacy.anonymiser.Anonymiser`, `edge.memory.daybook.DayBook`."""

    def add(self, position: int, receipt: Receipt) -> bool:
        """Count the receipt at `position` of the ledger; False where it changes nothing."""
        ...

    def cancel(self, position: int, receipt: Receipt, original: int) -> bool:
        """The record at `position` cancels `receipt`, which stands at `original`."""
        ...


class Exchange(Protocol):
    """What tells a network, in a task of its own; `edge.box.share.Share`."""

    def wake(self) -> None:
        """Something may have become due."""
        ...


class P2PPriceMemory:
    """The price memory of a shop that may have networks. Not thread-safe; lives on the event loop.

    `append(receipt)` makes a receipt durable in the ledger and gives its index. None where somebody else writes the
    ledger, in groups: then `take` begins where `update` would go on, and `sync` follows each group.
    """

    def __init__(
        self,
        local: LocalPriceMemory,
        *,
        append: AppendReceipt | None = None,
        accumulators: Sequence[Accumulator] = (),
        exchanges: Sequence[Exchange] = (),
    ) -> None:
        self.local: Final = local
        self.refusals: Final[Counter[str]] = Counter()  # of the privacy layers, by reason
        self.accumulators: Final[list[Accumulator]] = list(accumulators)
        self.exchanges: Final[list[Exchange]] = list(exchanges)
        self._append = append
        self._newest = date.min  # business day
        self._news = False  # a day has begun or was closed since the networks were last woken
        local.on_counted = self.anonymize

    async def update(self, price_data: Receipt) -> int:
        """Take in one receipt; its index in the ledger. Raises what the ledger raises: then nothing has happened."""
        if self._append is None:
            raise LocalError("the ledger is somebody else's to write")
        index = await self._append(price_data)
        self.take(price_data, index)
        self.sync()
        return index

    def take(self, price_data: Receipt, index: int) -> None:
        """The same for what is record `index` of the ledger already: of a group that is durable, or read at a start."""
        self.local.apply_receipt(price_data, index)
        if price_data.business_day > self._newest:
            self._newest, self._news = price_data.business_day, True

    def anonymize(self, position: int, price_data: Receipt, original: int | None) -> None:
        """Add what may be shared of a receipt to every network's figures; nothing is noised or released by this.

        `original`: where the receipt stands that the record at `position` cancels; None: the receipt at `position`
        counts. The local memory calls it.
        """
        for accumulator in self.accumulators:
            try:
                if original is None:
                    accumulator.add(position, price_data)
                else:
                    accumulator.cancel(position, price_data, original)
            except (RemoteError, PrivacyRefused) as error:  # a refusal is of this record, in this network
                self.refusals[error.reason] += 1
                logger.warning("record %d is not shared: %s", position, error)

    def day_closed(self) -> None:
        """A business day is over: what there is to say of it is due."""
        self._news = True
        self.sync()

    def sync(self) -> None:
        """Wake every network, if something may have become due since the last time. Returns at once."""
        if self._news:
            self._news = False
            for exchange in self.exchanges:
                exchange.wake()
