"""From the registry to the broker: its configuration in `{state}/broker`, and the box's own password.

    prepare_broker(state, config, gln)      what `pomona tills config` and a box with a broker of its own call

The box's password is drawn once and lies in `{state}/broker/box.password`, mode 0600; it is what `[tills]
password_file` of the configuration should name. A till enrolled or revoked counts once the files are written again and
the broker has read them (SIGHUP).
"""

from pathlib import Path

from edge.atomic import replace_file
from edge.errors import StorageError, StorageFault
from edge.pos.broker import BOX_USER, BrokerConfig, hash_password, new_password, write_configuration
from edge.registry.tills import Registry

PASSWORD_NAME = "box.password"  # noqa: S105 - the name of a file


def box_password(directory: Path) -> str:
    """The box's password from `directory`, drawn and written there if there is none."""
    path = directory / PASSWORD_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            found = path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            found = ""
        if not found:
            found = new_password()
            replace_file(path, found.encode() + b"\n")
    except OSError as error:
        raise StorageError(f"{path}: {error}", fault=StorageFault.IO) from error
    return found


def prepare_broker(
    state: Path,
    config: BrokerConfig,
    gln: str,
    *,
    out: Path | None = None,
    data: Path | None = None,
    own_process: bool = True,
) -> Path:
    """Write the broker's files for all enrolled tills; returns the folder (`out`, or `{state}/broker`).

    `own_process`: mosquitto will run as our own user with its database in that folder; otherwise it is the system's.
    """
    directory = out or state / "broker"
    password = box_password(state / "broker")
    with Registry(state, read_only=True) as registry:
        credentials = registry.credentials()
    credentials[BOX_USER] = hash_password(password)
    write_configuration(
        directory, config, gln, credentials, data=directory if own_process else data, own_process=own_process
    )
    return directory
