"""How a demonstration ended: of each shop, and of the network between them."""

from dataclasses import dataclass, field
from typing import Any

from edge.demo.beginning import Beginning
from edge.demo.consortium import Shown
from edge.demo.exchange import Exchange
from edge.demo.stage import BoxPlan
from edge.demo.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one shop's part ended. `published` and `acknowledged` are the tills' own counts."""

    plan: BoxPlan
    published: int
    acknowledged: int
    verdict: Verdict
    end: dict[str, Any]  # the last words of shoppers or till
    status: dict[str, Any]  # the box's last

    @property
    def counts_agree(self) -> bool:
        """Receipts published = acknowledged = in the log."""
        in_log = self.verdict.receipts + self.verdict.refused
        return self.published == self.acknowledged == in_log and self.verdict.refused == 0

    @property
    def good(self) -> bool:
        """Whether the demonstration proved what it has to."""
        return self.counts_agree and not self.verdict.outside and self.verdict.decisions > 0


@dataclass(slots=True)
class CutOff:
    """What one shop did while nobody could reach it."""

    store: int
    first_week: int  # from 0, of the demonstration
    weeks: int
    mode: str = ""  # what the box said of itself at the end of it
    books: int = 0  # price books that it made meanwhile
    waiting: int = 0  # its blocks that nobody had fetched, at the end of it
    missed: int = 0  # blocks that the others told meanwhile

    @property
    def good(self) -> bool:
        """It knew, it went on pricing, and what it had to say waited."""
        return self.mode == "local_only" and self.books > 0 and self.waiting > 0


@dataclass(slots=True)
class Together:
    """What there is to say of several shops together."""

    exchange: Exchange
    refused: dict[str, int] = field(default_factory=dict)  # records that boxes refused, by reason
    cut: CutOff | None = None
    beginning: Beginning | None = None  # of the newest shop

    @property
    def good(self) -> bool:
        """Every shop heard the others completely, nothing was refused, and who was cut off went on."""
        return not self.exchange.faults and not self.refused and (self.cut is None or self.cut.good)


@dataclass(frozen=True, slots=True)
class Result:
    """All of it."""

    shops: tuple[Outcome, ...]
    together: Together | None = None
    consortium: Shown | None = None

    @property
    def good(self) -> bool:
        """Whether everything was proved that had to be."""
        others = (self.together, self.consortium)
        return all(shop.good for shop in self.shops) and all(other is None or other.good for other in others)
