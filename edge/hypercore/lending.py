"""A core that another process of this machine holds open, used through that process: append, read, clear, follow.

One process at a time may have a core open. `pomona feed serve` holds those that peers ask for, and a person at the same
machine still wants to append to them. So the serving process listens on a Unix socket in the store's folder (mode 0600:
whoever may write the folder), and `BorrowedCore` is a core to Hyperbee and Hyperdrive like any other.

Both directions carry frames: a length (4 bytes, little endian) and a CBOR array. Requests and answers alternate:

    ["open", key]               → ["ok", state, encrypted, manifest]     once, first; manifest: its bytes, or none
    ["append", [block…]]        → ["ok", state]                          after they are durable
    ["changed", length, fork]   → ["ok", state]                          as soon as they differ
    ["clear", start, end]       → ["ok", state]
    ["truncate", length]        → ["ok", state]
    ["get", index]              → ["ok", block]
    ["seek", offset]            → ["ok", index, place within the block]
    anything refused            → ["error", word, text]

where a state is [length, fork, writable, byte length].
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final, Self

from edge.encoding import cbor
from edge.errors import BlockMissing, ConfigError, PomonaError, RemoteError, StorageError, StorageFault
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest
from edge.limits import BLOCK_BYTES_MAX, GROUP_BYTES_MAX, GROUP_RECORDS_MAX, LENDING_CLIENTS_MAX

SOCKET_NAME: Final = "serve.sock"
_FRAME_BYTES_MAX: Final = GROUP_BYTES_MAX + 64 * 1024
_HEAD_BYTES: Final = 4

Borrow = Callable[[bytes], Awaitable[Hypercore]]


class LendingDesk:
    """Lends the cores of a store to other processes. `borrow` opens one by key, or raises."""

    def __init__(self, directory: Path, borrow: Borrow, give_back: Callable[[Hypercore], Awaitable[None]]) -> None:
        self._path = directory / SOCKET_NAME
        self._borrow, self._give_back = borrow, give_back
        self._clients: set[asyncio.Task[None]] = set()

    async def run(self, listening: asyncio.Event) -> None:
        """Serve until cancelled. The caller alone serves this folder, so a socket that a crash left may be removed."""
        self._path.unlink(missing_ok=True)
        # Not serving yet: cancelled while it begins to, the loop would keep the socket for ever.
        server = await asyncio.start_unix_server(self._met, path=str(self._path), start_serving=False)
        try:
            async with server:
                self._path.chmod(0o600)
                await server.start_serving()
                listening.set()
                await server.serve_forever()
        finally:
            self._path.unlink(missing_ok=True)
            for client in self._clients:
                client.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)

    def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= LENDING_CLIENTS_MAX:
            writer.close()
            return
        client = asyncio.create_task(self._serve(reader, writer))
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        core: Hypercore | None = None
        try:
            while True:
                request = await _read(reader)
                try:
                    if core is None:
                        core = await self._borrow(_key(request))
                        manifest = b"" if core.manifest is None else core.manifest.encode()
                        answer: list[Any] = ["ok", _state(core), core.encrypted, manifest]
                    else:
                        answer = await _answer(core, request)
                except (PomonaError, IndexError) as error:
                    answer = ["error", type(error).__name__, str(error)]
                _write(writer, answer)
                await writer.drain()
        except (RemoteError, EOFError, ConnectionError):
            pass  # a client that vanished or speaks nonsense; the next one is not affected
        finally:
            if core is not None:
                await self._give_back(core)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def _answer(core: Hypercore, request: list[Any]) -> list[Any]:
    match request:
        case ["append", list(blocks)] if len(blocks) <= GROUP_RECORDS_MAX and all(type(b) is bytes for b in blocks):
            await core.append(blocks, urgent=True, whole=True)
            return ["ok", _state(core)]
        case ["get", int(index)]:
            return ["ok", await core.fetch(index)]
        case ["changed", int(length), int(fork)]:
            await core.changed(length, fork)
            return ["ok", _state(core)]
        case ["clear", int(start), int(end)]:
            await core.clear(start, end)
            return ["ok", _state(core)]
        case ["truncate", int(length)]:
            await core.truncate(length)
            return ["ok", _state(core)]
        case ["seek", int(offset)]:
            return ["ok", *await core.seek(offset)]
    raise RemoteError("the request is none of append, get, changed, clear, truncate, seek")


def _state(core: Hypercore) -> list[Any]:
    return [core.length, core.fork, core.writable, core.byte_length]


class BorrowedCore:
    """A core in another process. `get` never finds a block here; `fetch` asks for it."""

    def __init__(self, key: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.key = key
        self.length = self.fork = self.byte_length = 0
        self.writable = self.encrypted = False
        self.manifest: Manifest | None = None
        self._reader, self._writer = reader, writer
        self._turn = asyncio.Lock()

    @classmethod
    async def borrow(cls, directory: Path, key: bytes) -> Self | None:
        """The core `key` of the store that a process serves from `directory`; None where none listens there."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(directory / SOCKET_NAME))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        core = cls(key, reader, writer)
        try:
            _, state, core.encrypted, manifest = await core._ask("open", key)
            core._take(state)
            core.manifest = Manifest.decode(manifest) if manifest else None
        except BaseException:
            await core.close()
            raise
        return core

    def get(self, index: int) -> bytes:
        """Raises `BlockMissing`: nothing is kept on this side."""
        raise BlockMissing(index)

    def has(self, index: int) -> bool:
        """Never: see `get`."""
        del index
        return False

    async def fetch(self, index: int) -> bytes:
        """One block."""
        (_, block) = await self._ask("get", index)
        return bytes(block)

    async def append(self, blocks: Iterable[bytes], *, urgent: bool = True, whole: bool = True) -> int:
        """Append all or none, as always `urgent` and `whole`; the length behind them once they are durable."""
        del urgent, whole
        _, state = await self._ask("append", list(blocks))
        self._take(state)
        return self.length

    async def changed(self, length: int, fork: int) -> None:
        """Return once length or fork are others."""
        _, state = await self._ask("changed", length, fork)
        self._take(state)

    async def clear(self, start: int, end: int) -> None:
        """Give up the content of blocks `start` to `end`."""
        _, state = await self._ask("clear", start, end)
        self._take(state)

    async def truncate(self, length: int) -> None:
        """Drop the blocks from `length` on."""
        _, state = await self._ask("truncate", length)
        self._take(state)

    async def seek(self, offset: int) -> tuple[int, int]:
        """The block that byte `offset` lies in, and where in it."""
        _, index, within = await self._ask("seek", offset)
        return index, within

    async def close(self) -> None:
        """Give it back."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def _take(self, state: list[Any]) -> None:
        self.length, self.fork, self.writable, self.byte_length = state

    async def _ask(self, *request: object) -> list[Any]:
        async with self._turn:
            try:
                _write(self._writer, list(request))
                await self._writer.drain()
                answer = await _read(self._reader)
            except (EOFError, ConnectionError) as error:
                text = "the process that serves this store has ended"
                raise StorageError(text, fault=StorageFault.READ_ONLY) from error
        if answer[0] == "ok":
            return answer
        word, text = answer[1:]
        raise (ConfigError(self.key.hex()[:8], text) if word == "ConfigError" else RemoteError(text, reason="refused"))


def _key(request: list[Any]) -> bytes:
    match request:
        case ["open", bytes(key)]:
            return key
    raise RemoteError("the first request is not open")


def _write(writer: asyncio.StreamWriter, value: list[Any]) -> None:
    body = cbor.encode(value)
    writer.write(len(body).to_bytes(_HEAD_BYTES, "little") + body)


async def _read(reader: asyncio.StreamReader) -> list[Any]:
    head = await reader.readexactly(_HEAD_BYTES)
    size = int.from_bytes(head, "little")
    if size > _FRAME_BYTES_MAX:
        raise RemoteError(f"a frame of {size} bytes", reason="too_large")
    value = cbor.decode(await reader.readexactly(size), bytes_max=_FRAME_BYTES_MAX)
    if not isinstance(value, list) or not value:
        raise RemoteError("not an array")
    return value


assert BLOCK_BYTES_MAX < _FRAME_BYTES_MAX
