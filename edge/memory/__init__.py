"""The price memory: a bounded, incremental view of the ledger that answers what sold at which price, week by week."""

from edge.memory.image import MemoryImage
from edge.memory.local import DayTotals, LocalPriceMemory, MemoryConfig, MemoryCounts

__all__ = ["DayTotals", "LocalPriceMemory", "MemoryConfig", "MemoryCounts", "MemoryImage"]
