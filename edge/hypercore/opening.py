"""What a core is opened as: the header that the caller's words give, and whether the core on the disk is that one."""

from dataclasses import dataclass, field

from edge.crypto.keys import KeyPair
from edge.errors import ConfigError, LocalError
from edge.hypercore.manifest import Manifest
from edge.hypercore.records import CoreHeader, RecordKind
from edge.hypercore.state import CoreState
from edge.hypercore.verifier import Verifier
from edge.limits import COMMIT_WINDOW_IDLE_S, SEGMENT_BYTES
from edge.storage.disk import Disk
from edge.storage.metrics import StorageMetrics


@dataclass(frozen=True, slots=True)
class Options:
    """How a core is used, whatever it is."""

    key_pair: KeyPair | None = None
    encryption_key: bytes | None = field(default=None, repr=False)
    held: bool = False
    metrics: StorageMetrics | None = None
    window_s: float = COMMIT_WINDOW_IDLE_S
    segment_bytes: int | None = None  # of a log that is made here; an existing one keeps its own


def new_header(
    key_pair: KeyPair | None, manifest: Manifest | None, key: bytes | None, *, compat: bool, encrypted: bool
) -> CoreHeader:
    """The header of a core that is made here, or of somebody else's whose `key` is all that is known.

    Raises `ConfigError` where `key` is not the key of the rest.
    """
    verifier: Verifier | None = None
    if manifest is not None:
        verifier = Verifier.of(manifest)
    elif key_pair is not None:
        verifier = (
            Verifier.of_compat(key_pair.public_key) if compat else Verifier.of(Manifest.single(key_pair.public_key))
        )
    elif key is None:
        raise LocalError("a new core needs a key pair, a manifest or a key")
    elif compat:
        verifier = Verifier.of_compat(key)
    if verifier is not None and key is not None and verifier.key != key:
        raise ConfigError("key", f"what is to be made here has the key {verifier.key.hex()}")
    return CoreHeader(verifier, encrypted, key or b"")


def open_state(log_disk: Disk, derived: Disk, header: CoreHeader | None, segment_bytes: int | None) -> CoreState:
    """The state of the core there, which agrees with `header`; with a header, a new one where there is none."""
    state = CoreState.open(log_disk, derived, header, segment_bytes or SEGMENT_BYTES)
    try:
        if header is not None:
            _agree(state, header, log_disk.describe())
    except BaseException:
        state.close()
        raise
    return state


def _agree(state: CoreState, header: CoreHeader, place: str) -> None:
    found = state.header
    known = header.verifier is not None
    if found.key != header.key or (known and found.verifier is not None and found.encrypted != header.encrypted):
        raise ConfigError("feed", f"{place} holds another core")
    if header.verifier is not None and state.oplog.verifier is None:
        payload = header.verifier.manifest.encode()
        sequence = state.log.stage(RecordKind.MANIFEST, payload)
        state.log.commit()
        state.apply(sequence, RecordKind.MANIFEST, payload)
