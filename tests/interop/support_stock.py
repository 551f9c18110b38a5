"""A stock JavaScript peer in a process of its own, driven by JSON lines.

    async with StockPeer() as peer:
        core = await peer.open("a", name="first")
        await peer.append("a", count=100, seed=7)
        port = await peer.call("listen")

`peer.mjs` lists the operations. Bytes travel as base64 and come back as `bytes`. Whatever happens, the process has
ended when the block is left; what it wrote to stderr is part of every failure.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

HERE = Path(__file__).parent
DEFAULT_TIMEOUT_S = 30.0
STDERR_KEPT = 64 * 1024
LINE_BYTES_MAX = 256 * 1024 * 1024  # a whole range of a bee, or a large file, is one line

Version = Literal["current", "oldest"]


class StockError(Exception):
    """The peer answered with an error, ended, or did not answer in time."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class StockCore:
    """A core as the stock peer sees it."""

    key: bytes
    discovery_key: bytes
    length: int
    byte_length: int
    fork: int
    writable: bool
    contiguous: int
    tree_hash: bytes | None  # None: the core is empty
    manifest: dict[str, int] | None
    frozen: bool
    closed: bool


def generated(seed: int, index: int, size: int = 150, *, vary: bool = False) -> bytes:
    """Block `index` of the series `seed`, as `generated.mjs` makes it: of `size` bytes; `vary`: 0 to 2 × `size`."""
    digest = hashlib.blake2b(f"{seed}:{index}".encode()).digest()
    length = int.from_bytes(digest[:4], "little") % (2 * size + 1) if vary else size
    return (digest * (length // 64 + 1))[:length]


def series(seed: int, start: int, end: int, size: int = 150, *, vary: bool = False) -> list[bytes]:
    return [generated(seed, index, size, vary=vary) for index in range(start, end)]


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"b": base64.b64encode(value).decode()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _revive(value: dict[str, Any]) -> Any:
    if len(value) == 1 and isinstance(value.get("b"), str):
        return base64.b64decode(value["b"])
    return value


class StockPeer:
    """One `peer.mjs`. `store`: a folder to keep; without it the peer uses one of its own and removes it."""

    def __init__(
        self, version: Version = "current", store: Path | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self.version: Version = version
        self.events: list[dict[str, Any]] = []
        self._store = store
        self._timeout_s = timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._next_id = 0
        self._news = asyncio.Condition()
        self._stderr = bytearray()
        self._tasks: list[asyncio.Task[None]] = []
        self._silent = False  # its stdout ended: there will be no more answers

    async def __aenter__(self) -> Self:
        command = ["node", str(HERE / "peer.mjs"), self.version]
        if self._store is not None:
            command.append(str(self._store))
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, limit=LINE_BYTES_MAX
        )
        self._tasks = [asyncio.create_task(self._read_answers()), asyncio.create_task(self._read_stderr())]
        try:
            await self.call("hello")
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._running and kind is None:
                await self.call("close", timeout_s=10)
        finally:
            await self._end()

    # -- operations --

    async def call(self, op: str, timeout_s: float | None = None, **arguments: Any) -> Any:
        """One operation of `peer.mjs` and its answer. Raises StockError."""
        process = self._process
        if process is None or process.stdin is None or not self._running:
            raise StockError(f"{op}: the peer is not running\n{self.stderr}")
        self._next_id += 1
        number = self._next_id
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        line = json.dumps({"id": number, "op": op, **{k: _plain(v) for k, v in arguments.items()}})
        try:
            process.stdin.write(line.encode() + b"\n")
            await process.stdin.drain()
            async with asyncio.timeout(timeout_s or self._timeout_s):
                return await answer
        except TimeoutError:
            raise StockError(
                f"{op} {_short(arguments)}: no answer in {timeout_s or self._timeout_s:g} s\n{self.stderr}"
            ) from None
        except ConnectionError:
            raise StockError(f"{op}: the peer ended\n{self.stderr}") from None
        finally:
            self._waiting.pop(number, None)

    async def core(self, op: str, name: str, **arguments: Any) -> StockCore:
        """An operation that answers with a core's state: open, info, append, truncate, clear, until."""
        return StockCore(**await self.call(op, core=name, **arguments))

    async def open(self, name: str, **arguments: Any) -> StockCore:
        """Exactly one of `name_of_core`, key, seed, signers says which; see `open` in peer.mjs."""
        if "name_of_core" in arguments:
            arguments["name"] = arguments.pop("name_of_core")
        return StockCore(**await self.call("open", core=name, **arguments))

    async def info(self, name: str) -> StockCore:
        return await self.core("info", name)

    async def append(self, name: str, blocks: list[bytes] | None = None, **arguments: Any) -> StockCore:
        """`blocks`, or `count` blocks of the series `seed` (with size, vary, from, batch)."""
        return await self.core("append", name, **arguments, **({} if blocks is None else {"blocks": blocks}))

    async def until(self, name: str, **state: Any) -> StockCore:
        """Waits for `length`, `fork`, `contiguous` of a core, asking for nothing."""
        return await self.core("until", name, **state)

    async def listen(self) -> int:
        port: int = await self.call("listen")
        return port

    async def connect(self, port: int) -> int:
        connection: int = await self.call("connect", port=port)
        return connection

    async def event(self, kind: str, timeout_s: float | None = None, **fields: Any) -> dict[str, Any]:
        """The first event of this kind with these fields, past or to come; it is taken out of `events`."""

        def found() -> dict[str, Any] | None:
            for event in self.events:
                if event["event"] == kind and all(event.get(key) == value for key, value in fields.items()):
                    return event
            return None

        try:
            async with asyncio.timeout(timeout_s or self._timeout_s), self._news:
                while (event := found()) is None:
                    if not self._running:
                        raise StockError(f"the peer ended before {kind} {fields}\n{self.stderr}")
                    await self._news.wait()
                self.events.remove(event)
                return event
        except TimeoutError:
            raise StockError(f"no event {kind} {fields}; there were {self.events}\n{self.stderr}") from None

    def kill(self) -> None:
        """Ends the process as a power cut would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    @property
    def stderr(self) -> str:
        return "stderr of the peer:\n" + self._stderr.decode(errors="replace") if self._stderr else "(no stderr)"

    # -- the process --

    @property
    def _running(self) -> bool:
        return self._process is not None and self._process.returncode is None and not self._silent

    async def _read_answers(self) -> None:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                await self._take(json.loads(line, object_hook=_revive))
        finally:
            self._silent = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(StockError(f"the peer ended\n{self.stderr}"))
                    answer.exception()  # it may have no waiter any more
            async with self._news:
                self._news.notify_all()

    async def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            async with self._news:
                self.events.append(message)
                self._news.notify_all()
            return
        answer = self._waiting.pop(message["id"], None)
        if answer is None or answer.done():
            return  # its caller gave up
        if "error" in message:
            answer.set_exception(StockError(message["error"], message["code"]))
        else:
            answer.set_result(message["ok"])

    async def _read_stderr(self) -> None:
        process = self._process
        assert process is not None
        assert process.stderr is not None
        while some := await process.stderr.read(65536):
            self._stderr += some
            del self._stderr[:-STDERR_KEPT]

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        try:
            async with asyncio.timeout(5):
                if process.stdin is not None:
                    process.stdin.close()
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        finally:
            await asyncio.gather(*self._tasks, return_exceptions=True)


def _short(arguments: dict[str, Any]) -> str:
    text = repr(arguments)
    return text if len(text) < 200 else text[:200] + "…"
