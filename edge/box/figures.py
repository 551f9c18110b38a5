"""What receipts add up to for networks, beside the price memory: days for one's own company, windows for consortiums.

Fed by the price memory, which knows what counts and what is taken back. After a start the receipts that came since the
figures were last saved are read from the ledger again; sums and their place in the ledger are one file, so nothing
counts twice.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Final

from edge.atomic import replace_file
from edge.box.ledger import Ledger
from edge.box.records import decode_day
from edge.box.views import CODEC, Views
from edge.errors import RemoteError
from edge.memory.daybook import DayBook
from edge.privacy.anonymiser import Anonymiser
from edge.records.ledger import Kind, ReceiptRecord, kind_of
from edge.records.receipt import Receipt, ReceiptKind

logger = logging.getLogger(__name__)
FILE_NAME: Final = "figures"
_SLICE: Final = 512  # records read before the loop gets a turn
_DAYS_BACK: Final = 3  # closed days whose receipts are read again: a lane may still have been selling in the one before


class Figures:
    """The day book and the anonymisers of one box."""

    def __init__(self, ledger: Ledger, views: Views) -> None:
        self.daybook: Final = DayBook()
        self._ledger = ledger
        self._views = views
        self._anonymisers: dict[Path, Anonymiser] = {}  # by the file that their sums are saved in
        self._live = False

    def add(self, anonymiser: Anonymiser, folder: Path) -> None:
        """Feed this one too; before `catch_up`. Its sums go on from `folder`, or begin with the next receipt."""
        path = folder / FILE_NAME
        accumulator = anonymiser.accumulator
        try:
            restored = accumulator.restore(path.read_bytes())
        except FileNotFoundError:
            restored = False
        except (RemoteError, OSError) as error:
            logger.warning("%s: sums for the network begin again: %s", path, error)
            restored = False
        if not restored:
            accumulator.position = self._ledger.length - 1
        self._anonymisers[path] = anonymiser

    async def catch_up(self) -> None:
        """Read what the ledger got since; from then on `counted` is listened to."""
        views, arrivals = self._views, self._views.memory.arrivals
        known: Mapping[Path, int] = {path: each.accumulator.position for path, each in self._anonymisers.items()}
        start = min([self._days_begin(), *(position + 1 for position in known.values())])
        for index in range(start, self._ledger.length):
            if index % _SLICE == 0:
                await asyncio.sleep(0)
            block = self._ledger.get(index)
            if kind_of(block) != Kind.RECEIPT:
                continue
            record = CODEC.decode(block)
            assert isinstance(record, ReceiptRecord)
            receipt = record.receipt
            if receipt.counts and receipt.currency == views.memory.currency:
                if not arrivals.is_voided(receipt.lane, receipt.position):  # both sides of it are behind us
                    self._count(index, receipt, None)
            elif receipt.kind is ReceiptKind.POST_VOID and not receipt.training and receipt.voids is not None:
                original = arrivals.ledger_index(receipt.lane, receipt.voids)
                if original is not None and original < index:
                    self._take_back(index, original, known)
        self._live = True

    def counted(self, position: int, receipt: Receipt, original: int | None) -> None:
        """For the price memory: a receipt counts, or (with `original`) is taken back."""
        if self._live:
            self._count(position, receipt, original)

    async def save(self) -> None:
        """Keep the sums and their place. What cannot be written costs reading the ledger at the next start."""
        for path, anonymiser in self._anonymisers.items():
            state = anonymiser.accumulator.state()
            try:
                await asyncio.to_thread(replace_file, path, state)
            except OSError as error:
                logger.warning("%s is not written: %s", path, error.strerror)

    def _count(self, position: int, receipt: Receipt, original: int | None) -> None:
        self.daybook.add(receipt, 1 if original is None else -1)
        for anonymiser in self._anonymisers.values():
            if original is None:
                anonymiser.add(position, receipt)
            else:
                anonymiser.cancel(position, receipt, original)

    def _take_back(self, index: int, original: int, known: Mapping[Path, int]) -> None:
        """A cancellation of what had been counted before the sums were saved; of what came after it was not counted."""
        record = CODEC.decode(self._ledger.get(original))
        if isinstance(record, ReceiptRecord):
            for path, anonymiser in self._anonymisers.items():
                if original <= known[path]:
                    anonymiser.cancel(index, record.receipt, original)

    def _days_begin(self) -> int:
        """The record from which on the receipts of days lie that are still to be told."""
        closed: set[date] = set()
        for index in range(self._ledger.length - 1, -1, -1):
            block = self._ledger.get(index)
            if kind_of(block) == Kind.DAY:
                closed.add(decode_day(block).day)
                if len(closed) >= _DAYS_BACK:
                    return index
        return 0
