"""A slow line: a TCP proxy that lets so many bytes a second through, with small buffers: the far end feels it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator


class SlowLine:
    """Listens on `port` and forwards to `target`, `bytes_s` towards the client; the other way is not held back."""

    def __init__(self, target: int, bytes_s: int) -> None:
        self._target, self._bytes_s = target, bytes_s
        self.port = 0
        self.passed = 0
        self._serving: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["SlowLine"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=4096)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._serving):
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        far.setblocking(False)
        await asyncio.get_running_loop().sock_connect(far, ("127.0.0.1", self._target))
        far_reader, far_writer = await asyncio.open_connection(sock=far, limit=4096)
        down = asyncio.create_task(self._down(far_reader, writer))
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                while data := await reader.read(4096):
                    far_writer.write(data)
                    await far_writer.drain()
        finally:
            down.cancel()
            for end in (far_writer, writer):
                end.close()
                with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                    await end.wait_closed()
            with contextlib.suppress(asyncio.CancelledError):
                await down
            self._serving.discard(task)

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(2048):
                self.passed += len(data)
                due = max(due, loop.time() - 0.05) + len(data) / self._bytes_s
                await asyncio.sleep(max(0.0, due - loop.time()))
                writer.write(data)
                await writer.drain()
