"""What receipts add up to for networks, beside the price memory: days for one's own company, windows for consortiums.

Fed by the price memory, which knows what counts and what is taken back (`P2PPriceMemory.anonymize`). Who joins, at the
start or later, first reads what the ledger got since its sums were saved (`catch_up`); sums and their place in the
ledger are one file, so nothing counts twice. Days are not saved: their newest receipts are read again at each start,
and a day of which receipts are missing is noticed by who tells it (`edge.box.publisher`).
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from edge.atomic import replace_file
from edge.box.ledger import Ledger
from edge.box.records import decode_day
from edge.box.views import CODEC, Views
from edge.errors import RemoteError
from edge.memory.daybook import DayBook
from edge.memory.price_memory import Accumulator
from edge.privacy.anonymiser import Anonymiser
from edge.records.ledger import Kind, ReceiptRecord, kind_of
from edge.records.receipt import Receipt, ReceiptKind

logger = logging.getLogger(__name__)
FILE_NAME: Final = "figures"
_SLICE: Final = 128  # records read before the loop gets a turn
_SETTLE_S: Final = 0.01
_DAYS_BACK: Final = 3  # closed days whose receipts are read again: a lane may still have been selling in the one before


@dataclass(frozen=True, slots=True)
class _Joining:
    """Somebody who wants the receipts from record `known` + 1 on; of those before it has what it needs."""

    accumulator: Accumulator
    known: int
    counted: bool  # whether it has counted those before, so that it must hear when one is taken back


class Figures:
    """The day book and the anonymisers of one box."""

    def __init__(self, ledger: Ledger, views: Views) -> None:
        self.daybook: Final = DayBook()
        self._ledger = ledger
        self._views = views
        self._anonymisers: dict[Path, Anonymiser] = {}  # by the file that their sums are saved in
        self._joining: list[_Joining] = []
        self._unfinished: list[Anonymiser] = []  # whose sums are those of no place in the ledger
        self._days_wanted = False

    def want_days(self) -> None:
        """Keep the day book from now on; `catch_up` fills it."""
        if not self._days_wanted:
            self._days_wanted = True
            self._joining.append(_Joining(self.daybook, self._days_begin() - 1, counted=False))

    def add(self, anonymiser: Anonymiser, folder: Path, *, fresh: bool = False) -> None:
        """Feed this one too, once `catch_up` has run. Its sums go on from `folder`, or begin with the next receipt.

        `fresh`: they begin in any case, because the rules have changed. One of the same folder is fed no longer.
        """
        path = folder / FILE_NAME
        before = self._anonymisers.get(path)
        if before is not None:
            self._drop(before)
        accumulator = anonymiser.accumulator
        restored = False
        if not fresh:
            try:
                restored = accumulator.restore(path.read_bytes())
            except FileNotFoundError:
                pass
            except (RemoteError, OSError) as error:
                logger.warning("%s: sums for the network begin again: %s", path, error)
        if not restored:
            accumulator.position = self._views.length - 1
        self._anonymisers[path] = anonymiser
        self._joining.append(_Joining(anonymiser, accumulator.position, counted=True))
        self._unfinished.append(anonymiser)

    async def catch_up(self) -> None:
        """Read what the ledger got since, for those who join; from then on the price memory feeds them."""
        views, memory, arrivals = self._views, self._views.memory, self._views.memory.arrivals
        joining, self._joining = self._joining, []
        if not joining:
            return
        start = index = min(each.known + 1 for each in joining)
        passed_over: set[int] = set()  # receipts that a post-void had named when they were read
        while index < views.length or not views.settled:
            if index >= views.length:  # a record behind this one is applied already: wait for the ones between
                await asyncio.sleep(_SETTLE_S)
                continue
            if index % _SLICE == 0:
                await asyncio.sleep(0)
            block = self._ledger.get(index)
            receipt = _receipt(block) if kind_of(block) == Kind.RECEIPT else None
            if receipt is not None and receipt.counts:
                if arrivals.is_voided(receipt.lane, receipt.position):
                    passed_over.add(index)
                elif receipt.currency == memory.currency and self._is_first(receipt, index):
                    for each in joining:
                        if index > each.known:
                            each.accumulator.add(index, receipt)
            elif receipt is not None and receipt.voids is not None and self._cancels(receipt):
                original = arrivals.ledger_index(receipt.lane, receipt.voids)
                if original is not None and original < index:
                    self._take_back(
                        index, original, [each for each in joining if index > each.known], start, passed_over
                    )
            index += 1
        for each in joining:
            if isinstance(each.accumulator, Anonymiser):  # what was passed over is behind it too, with what cancels it
                sums = each.accumulator.accumulator
                sums.position = max(sums.position, index - 1)
                self._unfinished = [other for other in self._unfinished if other is not each.accumulator]
        self._views.prices.accumulators.extend(each.accumulator for each in joining)
        await self.save()

    async def save(self) -> None:
        """Keep the sums and their place. What cannot be written costs reading the ledger at the next start."""
        for path, anonymiser in list(self._anonymisers.items()):
            if any(each is anonymiser for each in self._unfinished):
                continue
            state = anonymiser.accumulator.state()
            try:
                await asyncio.to_thread(replace_file, path, state)
            except OSError as error:
                logger.warning("%s is not written: %s", path, error.strerror)

    def _drop(self, accumulator: Accumulator) -> None:
        fed = self._views.prices.accumulators
        fed[:] = [each for each in fed if each is not accumulator]
        self._joining = [each for each in self._joining if each.accumulator is not accumulator]

    def _is_first(self, receipt: Receipt, index: int) -> bool:
        """Whether this is the record that the price memory counted; another one of the same receipt is none."""
        return self._views.memory.arrivals.ledger_index(receipt.lane, receipt.position) in (None, index)

    def _cancels(self, receipt: Receipt) -> bool:
        """Whether a post-void is one that the price memory follows: of a receipt before it."""
        real = receipt.kind is ReceiptKind.POST_VOID and not receipt.training
        return real and receipt.voids is not None and receipt.voids < receipt.position

    def _take_back(self, index: int, original: int, joining: list[_Joining], start: int, passed_over: set[int]) -> None:
        """A cancellation, for those who have counted its receipt: before they were saved, or in this reading."""
        receipt = _receipt(self._ledger.get(original))
        if receipt is None or receipt.currency != self._views.memory.currency:
            return
        read = original >= start and original not in passed_over
        for each in joining:
            if (original <= each.known and each.counted) or (original > each.known and read):
                each.accumulator.cancel(index, receipt, original)

    def _days_begin(self) -> int:
        """The record from which on the receipts of days lie that are still to be told."""
        closed: set[date] = set()
        for index in range(self._views.length - 1, -1, -1):
            block = self._ledger.get(index)
            if kind_of(block) == Kind.DAY:
                closed.add(decode_day(block).day)
                if len(closed) >= _DAYS_BACK:
                    return index
        return 0


def _receipt(block: bytes) -> Receipt | None:
    record = CODEC.decode(block)
    return record.receipt if isinstance(record, ReceiptRecord) else None
