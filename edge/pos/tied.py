"""Run a program that ends when the process that started it does: `python -m edge.pos.tied PID PROGRAM ARGUMENT...`

A box that is killed would leave its broker behind, which holds the port and knows the old list of tills. The kernel is
asked to kill this process when its parent dies (prctl(2), PR_SET_PDEATHSIG; kept by execve), then it becomes the
program. Killed, not asked: nothing that a broker remembers is needed. Elsewhere than on Linux it only runs the program.
"""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main(arguments: list[str]) -> None:
    """Become `arguments[1:]`, tied to the parent whose process id is `arguments[0]`."""
    parent, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(parent):  # it died before the kernel was asked
            sys.exit(1)
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        os.environ.pop(name, None)  # our supervisor's: mosquitto would say READY=1 there in our place
    os.execv(command[0], command)  # noqa: S606 - the supervisor's own command line


if __name__ == "__main__":
    main(sys.argv[1:])
