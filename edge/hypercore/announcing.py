"""Telling everybody on this box what has become durable of a core: demand, listeners, and those who wait for growth."""

import asyncio
import contextlib
from collections.abc import Callable

from edge.hypercore.demand import Demand
from edge.hypercore.events import Closed, Event, Frozen, Grown, Listener, Stored, Truncated
from edge.hypercore.write_queue import closing, frozen


class Announcing:
    """The listeners of one core."""

    def __init__(self, demand: Demand, changed: Callable[[], None]) -> None:
        """`changed` is called before anybody hears of anything."""
        self.closed = False
        self._demand = demand
        self._changed = changed
        self._listeners: list[Listener] = []
        self._waiting: list[asyncio.Future[None]] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Hear events until the returned function is called."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return unsubscribe

    async def growth(self) -> None:
        """Return once length or fork may have changed. Raises `StorageError` once the core is closed."""
        if not self.closed:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting
        if self.closed:
            raise closing()

    def publish(self, events: list[Event]) -> None:
        """Tell everybody, in this order."""
        self._changed()
        for event in events:
            if isinstance(event, Stored):
                self._demand.arrived(event.start, event.end)
            elif isinstance(event, Truncated):
                self._demand.truncated(event.length)
            elif isinstance(event, Frozen):
                self._demand.close(frozen())
                self._wake()
            elif isinstance(event, Grown):
                self._demand.grown()
                self._wake()
            for listener in list(self._listeners):
                listener(event)

    def close(self) -> None:
        """Say that nothing comes any more."""
        self.closed = True
        self._demand.close(closing())
        self.publish([Closed()])
        self._wake()
        self._listeners.clear()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
