"""Commands run on uvloop, with a collector that looks less often, and leave the process as they found it."""

import asyncio
import gc
import os
import signal

import pytest

from edge.cli.loop import run


def test_a_command_runs_on_uvloop_with_a_tuned_collector_and_its_code_comes_back() -> None:
    before = gc.get_threshold()
    seen: list[tuple[str, tuple[int, ...], int]] = []

    async def main() -> int:
        seen.append((type(asyncio.get_running_loop()).__module__, gc.get_threshold(), gc.get_freeze_count()))
        return 3

    assert run(main()) == 3
    ((loop, threshold, frozen),) = seen
    assert loop.startswith("uvloop")
    assert threshold > before
    assert frozen
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_an_interrupt_cancels_the_command_which_can_still_tidy_up() -> None:
    before = gc.get_threshold()
    tidied = []

    async def main() -> int:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
        finally:
            tidied.append(True)
        return 0

    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert tidied == [True]
    assert gc.get_threshold() == before
