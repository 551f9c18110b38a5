"""The event loop of commands, and how their process collects garbage. Light: what it needs is imported when it runs."""

import gc
from collections.abc import Coroutine
from typing import Any, Final

_COLLECT_EVERY: Final = (5_000, 50, 100)  # objects, then passes of the generation before; a sixth less CPU


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run `main` to its end; returns its exit code. SIGINT cancels it and raises `KeyboardInterrupt`.

    Afterwards the collector is as it was: whoever calls a command as a function is no command.
    """
    import uvloop  # noqa: PLC0415 - help and usage errors start without it

    found = gc.get_threshold()
    tune_collector()
    try:
        code: int = uvloop.run(main)
    finally:
        gc.set_threshold(*found)
        gc.unfreeze()
    return code


def tune_collector() -> None:
    """Look for reference cycles less often: proofs and tree nodes come and go by the hundred thousand and have none."""
    gc.freeze()  # what was imported stays
    gc.set_threshold(*_COLLECT_EVERY)
