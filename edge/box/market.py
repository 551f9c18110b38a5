"""The tree of what a network's members say together, kept by this box in its own store: one a key epoch.

Members replicate it like any feed, and a stock Hyperbee reads it (`edge.memory.market_bee`). It is encrypted as the
feeds of its epoch are; with a new epoch a new tree begins and holds all that is known then.
"""

import asyncio
import logging

from edge.errors import ConfigError, StorageError
from edge.memory.market_bee import MarketBee
from edge.memory.network import NetworkPriceMemory
from edge.networks.feeds import encryption_key
from edge.networks.folder import NetworkFolder
from edge.networks.node import NetworkNode

logger = logging.getLogger(__name__)


class MarketTree:
    """For one network. `update` after each round in which somebody was heard."""

    def __init__(self, folder: NetworkFolder, node: NetworkNode, memory: NetworkPriceMemory) -> None:
        self._folder = folder
        self._node = node
        self._memory = memory
        self._epoch = 0
        self._bee: MarketBee | None = None
        self._turn = asyncio.Lock()  # a tree has one writer at a time; who was heard, told and added up all call

    @property
    def key(self) -> bytes | None:
        """Of the tree of the present epoch; None: there is none yet."""
        return None if self._bee is None else self._bee.bee.key

    async def update(self) -> None:
        """Write what has changed. What the disk does not take now is written the next time."""
        try:
            async with self._turn:
                bee = await self._present()
                if bee is not None:
                    await bee.update()
        except (StorageError, ConfigError) as error:
            logger.warning("network %s: what members say together is not written: %s", self._folder.name, error)

    async def _present(self) -> MarketBee | None:
        roster = self._node.roster
        if roster is None or (roster.epoch == self._epoch and self._bee is not None):
            return self._bee
        epoch = self._folder.epochs().get(roster.epoch)
        if epoch is None:  # its secret has not come: the tree of the epoch before goes on
            return self._bee
        core = await self._node.store.get(f"epoch-{roster.epoch}/market", encryption_key=encryption_key(roster, epoch))
        old, self._bee, self._epoch = self._bee, MarketBee(self._memory, core), roster.epoch
        if old is not None:
            await self._node.store.release(old.bee.log)  # type: ignore[arg-type]  # it came from this store
        return self._bee
