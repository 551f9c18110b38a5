"""Every test's surroundings: the `support_*.py` beside it can be imported, and what a test starts, it ends.

A test fails if a thread, a child process or an asyncio task that it started is still there after it. Nothing here
skips, retries or silences anything. Coroutine tests run in asyncio's debug mode.
"""

import asyncio
import inspect
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

for _folder in sorted({str(path.parent) for path in Path(__file__).parent.rglob("support_*.py")}):
    if _folder not in sys.path:
        sys.path.append(_folder)

GRACE_S = 2.0  # a thread that was told to end, or a child that was killed, may need a moment to be gone
# Pools that a library keeps for the life of the process, on purpose, once used.
_LIBRARY_THREADS = ("pytest_timeout", "ThreadPoolExecutor-uvloop", "execnet", "pydevd")


def _children() -> set[int]:
    """Process ids of our children, zombies left out. Linux only; elsewhere nothing is seen."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            pids = path.read_text().split()
        except OSError:  # that thread has just ended
            continue
        found.update(int(pid) for pid in pids if _alive(int(pid)))
    return found


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return str(pid)


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.name.startswith(_LIBRARY_THREADS)}


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    threads, children = _threads(), _children()
    yield
    deadline = time.monotonic() + GRACE_S
    while True:
        new_threads = {thread for thread in _threads() - threads if thread.is_alive()}
        new_children = _children() - children
        if not (new_threads or new_children) or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    if new_threads:
        pytest.fail(f"threads left running: {', '.join(sorted(thread.name for thread in new_threads))}")
    if new_children:
        pytest.fail(f"child processes left running: {'; '.join(_command(pid) for pid in sorted(new_children))}")


@pytest.fixture
async def _ends_its_tasks() -> AsyncIterator[None]:
    asyncio.get_running_loop().set_debug(True)
    before = asyncio.all_tasks()  # fixtures' own tasks among them: those fixtures end them later
    yield
    for _ in range(10):  # tasks that were just cancelled need a turn or two
        left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
        if not left:
            return
        await asyncio.sleep(0)
    pytest.fail(f"tasks left running: {', '.join(sorted(str(task.get_coro()) for task in left))}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let coroutine tests, and only them, be watched for tasks; last, so that it looks before other fixtures end."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.fixturenames.append("_ends_its_tasks")
