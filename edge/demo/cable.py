"""A cable between two ends on this machine that can be pulled and plugged in again: TCP, byte for byte.

Who dials the cable's port reaches the target's. While it is pulled, what was connected is gone and nobody gets through;
neither end is told why, as with a router that lost its line.
"""

import asyncio
import contextlib
from typing import Self

_CHUNK_BYTES = 1 << 16


class Cable:
    """One cable. Made by `lay`, ended by `close`."""

    def __init__(self, target: tuple[str, int]) -> None:
        """Use `lay`."""
        self._target = target
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self.plugged = True

    @classmethod
    async def lay(cls, host: str, port: int) -> Self:
        """A cable to `host`, `port`, plugged in; dial `cable.port` on the same host. Raises `OSError`."""
        cable = cls((host, port))
        cable._server = await asyncio.start_server(cable._came, host, 0)
        return cable

    @property
    def port(self) -> int:
        """This end's."""
        assert self._server is not None
        number: int = self._server.sockets[0].getsockname()[1]
        return number

    def pull(self) -> None:
        """Nothing gets through from now on."""
        self.plugged = False
        for task in self._carrying:
            task.cancel()

    def plug(self) -> None:
        """Who dials from now on gets through."""
        self.plugged = True

    async def close(self) -> None:
        """Remove it."""
        self.pull()
        await asyncio.gather(*self._carrying, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both ways until either end or the cable is done with."""
        writers = [writer]
        ways: list[asyncio.Task[None]] = []
        try:
            if self.plugged:
                far_reader, far_writer = await asyncio.open_connection(*self._target)
                writers.append(far_writer)
                ways = [asyncio.create_task(_pump(*way)) for way in ((reader, far_writer), (far_reader, writer))]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # nobody listens there: the dialler finds a closed connection
        finally:
            for way in ways:
                way.cancel()
            for each in writers:
                each.transport.abort()
            await asyncio.gather(*ways, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
