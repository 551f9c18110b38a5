"""P2PPriceMemory: one sale's way through the shop: logged, remembered here, added up without names, told when due.

    log          the caller's ledger; durable before anything else knows of it
    local        LocalPriceMemory: what prices are made from
    anonymize    into each network's accumulator; nothing leaves by this
    sync         what is due goes into the feeds; usually nothing is

Each step may fail and the steps before it stand. Without the ledger nothing has happened. What the privacy layers
refuse is counted, and the sale stands; what cannot be told now is told later. After a crash the ledger is read again
(`replay`), and each step knows what it has seen, so that nothing counts twice. Local memory and accumulators begin from
the same record then: whether a receipt had been cancelled when it came is asked of the local memory.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from edge.errors import RemoteError
from edge.memory.local import LocalPriceMemory, ReadReceipt
from edge.records.history import week_of
from edge.records.receipt import Receipt, ReceiptKind

logger = logging.getLogger(__name__)

AppendReceipt = Callable[[Receipt], Awaitable[int]]


class Accumulator(Protocol):
    """Where a network's figures are added up; `edge.privacy.anonymiser.Anonymiser`."""

    def add(self, position: int, receipt: Receipt) -> bool:
        """Count the receipt at `position` of the ledger; False where it changes nothing."""
        ...

    def cancel(self, position: int, receipt: Receipt, original: int) -> bool:
        """The record at `position` cancels `receipt`, which stands at `original`."""
        ...


class Exchange(Protocol):
    """What tells a network; `edge.memory.sync.SyncManager`."""

    async def sync(self, week_now: int) -> int:
        """Tell what is due; how many records."""
        ...


class P2PPriceMemory:
    """The price memory of a shop that has networks.

    `append(receipt)` makes a receipt durable in the ledger and gives its index; `read_receipt(index)` reads one again.
    """

    def __init__(
        self,
        local: LocalPriceMemory,
        *,
        append: AppendReceipt,
        read_receipt: ReadReceipt,
        accumulators: Sequence[Accumulator] = (),
        exchanges: Sequence[Exchange] = (),
    ) -> None:
        self.local: Final = local
        self.refusals: Final[Counter[str]] = Counter()  # of the privacy layers, by reason
        self.week = 0  # the newest business week that was sold in
        self._append = append
        self._read_receipt = read_receipt
        self._accumulators = tuple(accumulators)
        self._exchanges = tuple(exchanges)

    async def update(self, price_data: Receipt) -> int:
        """Take in one receipt; its index in the ledger. Raises what the ledger raises: then nothing has happened."""
        index = await self._append(price_data)
        self.replay(price_data, index)
        await self.sync()
        return index

    def replay(self, price_data: Receipt, index: int) -> None:
        """The same for what is record `index` of the ledger already: at the start, or behind another writer."""
        self.local.apply_receipt(price_data, index)
        self.anonymize(price_data, index)
        self.week = max(self.week, week_of(price_data.business_day))

    def anonymize(self, price_data: Receipt, index: int) -> None:
        """Add what may be shared of a receipt to every network's figures. Nothing is noised or released by this."""
        arrivals, lane, position = self.local.arrivals, price_data.lane, price_data.position
        if arrivals.ledger_index(lane, position) not in (None, index):
            return  # the same receipt stands in the ledger before this
        counts = price_data.counts and not arrivals.is_voided(lane, position)
        cancelled = self._cancelled_by(price_data, index)
        for accumulator in self._accumulators:
            try:
                if counts:
                    accumulator.add(index, price_data)
                if cancelled is not None:
                    accumulator.cancel(index, *cancelled)
            except RemoteError as error:  # a refusal is of this record, in this network
                self.refusals[error.reason] += 1
                logger.warning("record %d is not shared: %s", index, error)

    async def sync(self) -> int:
        """Let every network be told what is due; how many records were told."""
        return sum([await exchange.sync(self.week) for exchange in self._exchanges])

    def _cancelled_by(self, price_data: Receipt, index: int) -> tuple[Receipt, int] | None:
        """The receipt before `index` that a post-void cancels, and where it stands; None where there is none."""
        if price_data.kind is not ReceiptKind.POST_VOID or price_data.training or price_data.voids is None:
            return None
        original = self.local.arrivals.ledger_index(price_data.lane, price_data.voids)
        if original is None or original >= index:
            return None
        receipt = self._read_receipt(original)
        return None if receipt is None else (receipt, original)
