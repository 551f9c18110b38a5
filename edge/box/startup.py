"""Reading the views of a box's ledger: snapshot first, then the tail. For the service, and while there is none."""

import asyncio
import logging

from edge.box import snapshot
from edge.box.ledger import Ledger
from edge.box.views import Views
from edge.config import Config
from edge.errors import RemoteError

logger = logging.getLogger(__name__)
REPLAY_SLICE = 512  # records applied before the loop gets a turn


async def read_views(config: Config, ledger: Ledger) -> tuple[Views, int]:
    """The views after the whole ledger, and the length at which their snapshot was (0: there was none to use)."""

    def empty() -> Views:
        return Views(config.memory, currency=config.shop.currency, read_block=ledger.get)

    views = empty()
    path = config.state / snapshot.FILE_NAME
    try:
        views.thaw(
            await asyncio.to_thread(lambda: snapshot.thaw(path.read_bytes(), key=ledger.key, length_max=ledger.length))
        )
    except FileNotFoundError:
        pass
    except (RemoteError, OSError) as error:
        logger.warning("the views are rebuilt from the ledger: %s", error)
        views = empty()
    begun = views.length
    for index, block in enumerate(ledger.core.blocks(begun), begun):
        views.replay(index, block)
        if index % REPLAY_SLICE == 0:
            await asyncio.sleep(0)
    return views, begun
