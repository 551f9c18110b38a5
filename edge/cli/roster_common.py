"""What the actions of `pomona roster` share: where the state is, which week it is, how a result is said."""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

from edge.clock import SystemClock
from edge.config import load
from edge.errors import ConfigError
from edge.networks.proposal import Proposal
from edge.records.history import week_of, week_start


def state_of(options: argparse.Namespace) -> Path:
    """The state folder that the command is about."""
    if options.state is not None:
        return Path(options.state)
    config: Path = options.config
    return load(config).state


def week_now() -> int:
    """This week's number, by this machine's clock: never below the time of the build."""
    return week_of(datetime.fromtimestamp(SystemClock().wall().ms / 1000, UTC).date())


def last_day(week: int) -> str:
    """The Sunday of a week, for people."""
    return f"{datetime.fromordinal(week_start(week).toordinal() + 6).date()}"


def say(options: argparse.Namespace, text: str, **values: object) -> None:
    """A result: `text`, or with --json its values."""
    print(json.dumps(values) if options.json else text, flush=True)


def write_new(path: Path, data: bytes, what: str) -> None:
    """Write a file that others shall not read and that is not there yet."""
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(data)
    except FileExistsError:
        raise ConfigError(what, f"{path} exists; choose a new file") from None
    except OSError as error:
        raise ConfigError(what, f"cannot write {path}: {error.strerror or error}") from None


def read_file(path: Path, bytes_max: int) -> bytes:
    """The content of a file that somebody brought."""
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror or error}") from None
    if len(data) > bytes_max:
        raise ConfigError(str(path), f"more than {bytes_max} bytes: that is no file of a roster")
    return data


def hand_on(options: argparse.Namespace, proposal: Proposal | None, text: str, **values: object) -> int:
    """Say what was done, or write what others must sign first."""
    if proposal is None:
        say(options, text, **values)
        return 0
    out = proposal_path(options)
    write_new(out, proposal.encode(), "--out")
    more = f"{proposal.missing} more must sign it: pomona roster sign {options.name} {out}"
    say(options, f"not in force yet; {more}", change=str(out), missing=proposal.missing, **values)
    return 0


def proposal_path(options: argparse.Namespace) -> Path:
    """Where a change goes."""
    return Path(options.out) if options.out is not None else Path(f"{options.name}.change")
