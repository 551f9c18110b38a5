"""Finds the fuzz entry points, makes inputs for them, and judges what they do.

A module `support_fuzz_<name>.py` under tests/edge holds functions `fuzz_<target>(data: bytes)` and may hold
`CORPUS: dict[str, list[bytes]]`, examples by function name. The contract: any bytes make the function return or raise
`RemoteError`, and meanwhile at most `PEAK_PER_BYTE` times the input, and `PEAK_BYTES`, are allocated. Where a format
gives Python objects for single bytes and is bounded otherwise, `BOUNDS: dict[str, tuple[int, int]]` states its own two.
`COSTLY`, like `CORPUS`, has what needs most memory; it is run, but not mutated, because it needs most time, too.

Input `number` of a target under a seed is always the same, so what is reported can be run again.
"""

import contextlib
import importlib.util
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import ModuleType

from edge.errors import RemoteError

ROOT = Path(__file__).parent.parent
PEAK_PER_BYTE = 4
PEAK_BYTES = 128 * 1024  # what a target may need whatever its input: a state machine, an event loop, caches
TRACED_EVERY = 16  # runs of TRACED_RUN executions; tracing costs several times the execution ...
TRACED_RUN = 128  # ... and each start of it 10 KB that Python never gives back
INPUT_BYTES_MAX = 64 * 1024
EDGES = (0, 1, 2, 31, 32, 33, 63, 64, 127, 128, 252, 253, 254, 255, 256, 65_535, 65_536, 2**24, 2**31 - 1, 2**32 - 1)
EDGES_WIDE = (2**32, 2**40, 2**48, 2**53 - 1, 2**53, 2**63, 2**64 - 1)

Fuzz = Callable[[bytes], object]


class Broken(AssertionError):
    """A target broke the contract. The message has what repeats it."""


@dataclass(frozen=True, slots=True)
class Target:
    """One entry point."""

    name: str  # module and function, without their prefixes
    call: Fuzz
    corpus: tuple[bytes, ...]
    bounds: tuple[int, int] = (PEAK_PER_BYTE, PEAK_BYTES)
    costly: tuple[bytes, ...] = ()

    @property
    def examples(self) -> tuple[bytes, ...]:
        """The first inputs."""
        return self.corpus + self.costly


def targets() -> list[Target]:
    """Every entry point of every module, by name."""
    found = []
    for path in sorted((ROOT / "edge").rglob("support_fuzz_*.py")):
        module = _loaded(path)
        corpus: dict[str, list[bytes]] = getattr(module, "CORPUS", {})
        bounds: dict[str, tuple[int, int]] = getattr(module, "BOUNDS", {})
        functions = {name: call for name, call in vars(module).items() if name.startswith("fuzz_") and callable(call)}
        costly: dict[str, list[bytes]] = getattr(module, "COSTLY", {})
        unknown = (set(corpus) | set(bounds) | set(costly)) - set(functions)
        if unknown:
            raise LookupError(f"{path}: something for {sorted(unknown)}, which are no functions there")
        prefix = path.stem.removeprefix("support_fuzz_")
        found += [
            Target(
                f"{prefix}.{name.removeprefix('fuzz_')}",
                call,
                tuple(corpus.get(name, ())),
                bounds.get(name, (PEAK_PER_BYTE, PEAK_BYTES)),
                tuple(costly.get(name, ())),
            )
            for name, call in functions.items()
        ]
    return sorted(found, key=lambda target: target.name)


def _loaded(path: Path) -> ModuleType:
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    if path.stem in sys.modules:
        return sys.modules[path.stem]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- inputs -----------------------------------------------------------------------------------------------------------


def make_input(target: Target, seed: int, number: int) -> bytes:
    """The corpus first, as it is; then noise, structures and mutations of the corpus."""
    if number < len(target.examples):
        return target.examples[number]
    rng = Random(f"{seed} {target.name} {number}")
    pool = target.corpus or (_structure(rng),)
    way = rng.random()
    if way < 0.15:
        return rng.randbytes(_size(rng))
    if way < 0.45:
        return _structure(rng)
    data = bytearray(rng.choice(pool))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        _mutate(data, rng, pool)
    return bytes(data[:INPUT_BYTES_MAX])


def _size(rng: Random) -> int:
    return rng.choice((rng.randrange(8), rng.randrange(64), rng.randrange(600), rng.randrange(20_000)))


def _uint(rng: Random) -> bytes:
    """A compact-encoding integer: sometimes cut off, sometimes in more bytes than it needs."""
    value = rng.choice((*EDGES[:8], rng.randrange(256), rng.choice(EDGES), rng.choice(EDGES_WIDE), rng.getrandbits(64)))
    if value < 253 and rng.random() < 0.9:
        return bytes((value,))
    tag, size = next(((tag, size) for tag, size in ((253, 2), (254, 4), (255, 8)) if value < 1 << 8 * size))
    if rng.random() < 0.1:
        tag, size = 255, 8
    return (bytes((tag,)) + value.to_bytes(8, "little")[:size])[: rng.choice((99, 99, 99, 99, 2))]


def _varint(rng: Random) -> bytes:
    """A protocol-buffers integer, sometimes without an end."""
    value, out = rng.choice((*EDGES, *EDGES_WIDE)), bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out) if rng.random() < 0.95 else b"\xff" * rng.randrange(1, 30)


def _piece(rng: Random) -> bytes:
    """One field, as formats on the wire have them."""
    way = rng.randrange(8)
    if way < 3:
        return _uint(rng)
    if way == 3:
        body = rng.randbytes(rng.choice((0, 1, 8, 32, 64, 100)))
        length = len(body) if rng.random() < 0.8 else rng.choice(EDGES)
        return (bytes((length,)) if length < 253 else b"\xfe" + length.to_bytes(4, "little")) + body
    if way == 4:
        return rng.choice((bytes(32), rng.randbytes(32), rng.randbytes(64), rng.randbytes(8), bytes(8)))
    if way == 5:
        return _varint(rng)
    if way == 6:
        body = b"".join(_varint(rng) for _ in range(rng.randrange(6)))
        return bytes((rng.randrange(8) << 3 | 2, len(body))) + body
    return rng.choice((b"{}", b"[", b'"\\u0000"', b"null", b"\xff\xfe", b"../", b"\0", b"/", b"1e999"))


def _structure(rng: Random) -> bytes:
    pieces = [_piece(rng) for _ in range(rng.choice((1, 2, 4, 6, 10, 20)))]
    if rng.random() < 0.1:  # a list: one entry over and over, behind its count
        count = rng.choice((50, 253, 1000))
        entry = b"".join(pieces[-3:])
        pieces = [*pieces[:-3], b"\xfd" + count.to_bytes(2, "little"), entry * count]
    return b"".join(pieces)[:INPUT_BYTES_MAX]


def _mutate(data: bytearray, rng: Random, pool: tuple[bytes, ...]) -> None:
    way, at = rng.randrange(9), rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice((1, 1, 2, 4, 8, 32, 200)))
    if way == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif way == 1 and at < len(data):
        data[at] = rng.choice((0, 1, 127, 128, 252, 253, 254, 255, rng.randrange(256)))
    elif way == 2:
        del data[at:end]
    elif way == 3:
        data[at:at] = data[at:end] * rng.choice((1, 2, 50))
    elif way == 4:
        del data[at:]
    elif way == 5:
        other = rng.choice(pool)
        data[at:] = other[rng.randrange(len(other) + 1) :]
    elif way == 6:
        data[at:end] = _uint(rng)
    elif way == 7:
        data[at:at] = _piece(rng)
    else:
        data[at:end] = rng.randbytes(end - at)


# --- executions -------------------------------------------------------------------------------------------------------


def judge(target: Target, data: bytes, *, traced: bool) -> None:
    """Run one input; `traced` where allocations are being traced, so that they are judged too. Raises `Broken`."""
    if traced:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
    try:
        target.call(data)
    except RemoteError:
        pass
    except Exception as error:
        raise Broken(f"{target.name} raised {type(error).__name__}: {error}") from error
    finally:
        peak = tracemalloc.get_traced_memory()[1] - before if traced else 0
    per_byte, room = target.bounds
    if peak > per_byte * len(data) + room:
        raise Broken(f"{target.name} allocated {peak} bytes for an input of {len(data)}")


def run(target: Target, seed: int, *, executions: int, seconds: float = float("inf"), first: int = 0) -> int:
    """Execute inputs from `first` on up to a bound; returns how many. Raises `Broken`, saying what repeats it."""
    until = time.monotonic() + seconds
    done = 0
    if target.corpus:  # what it makes once and keeps is not for an input to answer for
        with contextlib.suppress(Exception):
            target.call(target.corpus[0])
    outer = tracemalloc.is_tracing()
    try:
        while done < executions and (done <= len(target.examples) or time.monotonic() < until):
            number = first + done
            data = make_input(target, seed, number)
            traced = number < len(target.examples) or number // TRACED_RUN % TRACED_EVERY == 0
            if traced is not tracemalloc.is_tracing() and not outer:
                (tracemalloc.start if traced else tracemalloc.stop)()
            try:
                judge(target, data, traced=traced)
            except Broken as error:
                how = f"--only {target.name} --seed {seed} --first {number} --executions 1"
                raise Broken(f"{error}\n  again: {how}\n  input: {data[:400].hex()} ({len(data)} bytes)") from error
            done += 1
    finally:
        if tracemalloc.is_tracing() and not outer:
            tracemalloc.stop()
    return done
