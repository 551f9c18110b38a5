"""Signing one's own core: who may write here and why not, and the newest signature over what is durable.

A key must never sign two histories: peers who see both freeze the core for good. So this side writes only while it
knows the newest state that its key ever signed. A copy of the folder may not know it (`HELD`, until its owner says that
it is the only one), and a restored backup is found out when a peer shows what it signed in the time that is missing
here (`BEHIND`): that history is taken, the missing blocks are fetched like anybody's, and nothing is signed any more.
"""

from enum import StrEnum
from typing import Final

from edge.crypto.hashing import HASH_BYTES
from edge.encoding.compact import fixed
from edge.errors import ConfigError, LocalError, StorageError, StorageFault
from edge.hypercore.encryption import BlockCipher
from edge.hypercore.opening import Options
from edge.hypercore.records import Partial, Signed
from edge.hypercore.state import CoreState


class Standing(StrEnum):
    """What this disk may do with the core."""

    WRITER = "writer"
    REPLICA = "replica"  # no key pair here
    BEHIND = "behind"  # our own key signed more than this disk held
    HELD = "held"  # a copy that may be old: not written until released
    FROZEN = "frozen"  # two histories were signed


_WHY: Final = {
    Standing.REPLICA: "this core cannot be written here: a key is missing",
    Standing.BEHIND: "this core cannot be written here: a peer has shown blocks that were signed with its key and that "
    "this disk never had. Either this is a restored backup, or the key is used elsewhere too. What is missing is "
    "fetched from peers. To go on writing, begin a new core",
    Standing.HELD: "this core cannot be written here yet: it may be an old copy. Release it once the original is "
    "certain to be written no more, and peers have brought it up to date",
    Standing.FROZEN: "this core is frozen: its key signed two histories, and the proof of it is stored",
}


class Signing:
    """Keys of one core, and its newest signature."""

    def __init__(self, state: CoreState, options: Options, *, encrypted: bool) -> None:
        """Raises `ConfigError` where the keys are of another core, `LocalError` where they are none."""
        self._state = state
        self._key_pair = key_pair = options.key_pair
        self._encryption_key = options.encryption_key
        self.encrypted: Final = encrypted
        self._cipher: BlockCipher | None = None
        self._held = options.held
        self._behind = False
        if self._encryption_key is not None:
            fixed(self._encryption_key, HASH_BYTES)
        self.signer: int | None = None
        self.signed: Signed | None = state.oplog.signed
        if key_pair is not None:
            verifier = state.oplog.verifier
            self.signer = None if verifier is None else verifier.manifest.signer_index(key_pair.public_key)
            if self.signer is None:
                raise ConfigError("key pair", "it is not a signer of this core")
            self._behind = self.signer in state.oplog.foreign_signers
        self.sign_own()

    # --- standing ----------------------------------------------------------------------------------------------------

    @property
    def standing(self) -> Standing:
        """What this disk may do with the core."""
        if self._state.oplog.conflict is not None:
            return Standing.FROZEN
        if self.signer is None:
            return Standing.REPLICA
        if self._behind:
            return Standing.BEHIND
        return Standing.HELD if self._held else Standing.WRITER

    @property
    def writable(self) -> bool:
        """Whether blocks can be appended."""
        return self.standing is Standing.WRITER and (self.cipher is not None or not self.encrypted)

    @property
    def behind(self) -> bool:
        """Whether a peer has shown what our own key signed and this disk never had."""
        return self._behind

    def check_writable(self) -> None:
        """Raise `StorageError` READ_ONLY that says why, unless blocks can be appended."""
        if not self.writable:
            raise self.refusal()

    def refusal(self) -> StorageError:
        """Why blocks cannot be appended, in words."""
        return StorageError(_WHY.get(self.standing, _WHY[Standing.REPLICA]), fault=StorageFault.READ_ONLY)

    def release(self) -> None:
        """The copy is the only one that is written from now on."""
        self._held = False
        self.sign_own()

    def foreign(self, signers: tuple[int, ...], length: int) -> None:
        """A peer has shown a state of `length` blocks, new to us, which these signed."""
        if self.signer is not None and self.signer in signers and length:
            self._behind = True

    # --- signatures --------------------------------------------------------------------------------------------------

    @property
    def cipher(self) -> BlockCipher | None:
        """What blocks are encrypted with, as soon as it can be told."""
        verifier = self._state.oplog.verifier
        if self._cipher is None and self._encryption_key is not None and verifier is not None:
            self._cipher = BlockCipher.of(verifier.key, self._encryption_key, compat=verifier.compat)
        return self._cipher

    def sign_own(self) -> None:
        """Sign the durable state where our signature alone is enough, and take over what the log says otherwise."""
        state, verifier = self._state, self._state.oplog.verifier
        written = state.oplog.signed
        if verifier is None or self._key_pair is None or self.standing is not Standing.WRITER:
            self.signed = written
            return
        manifest = verifier.manifest
        if manifest.quorum != 1 or len(manifest.signers) != 1:
            self.signed = written
            return
        length, fork = state.length, state.oplog.fork
        prologue = manifest.prologue
        if (length == 0 and fork == 0) or (prologue is not None and length <= prologue.length):
            return
        self.signed = Signed(length, fork, verifier.sign(self._key_pair, state.tree.hash(), length, fork))

    def due(self, blocks: int) -> Signed | None:
        """The newest signature if the one on disk is `blocks` behind it, or of an earlier fork."""
        signed, written = self.signed, self._state.oplog.signed
        if signed is None or signed == written:
            return None
        return signed if written is None or signed.length - written.length >= blocks else None

    def part(self, length: int) -> Partial:
        """Our own part of the signature over `length`."""
        verifier = self._state.oplog.verifier
        if self._key_pair is None or self.signer is None or verifier is None:
            raise StorageError("this core cannot be signed here: the key is missing", fault=StorageFault.READ_ONLY)
        if self.standing is not Standing.WRITER:
            raise StorageError(_WHY[self.standing], fault=StorageFault.READ_ONLY)
        fork = self._state.oplog.fork
        if not 0 <= length <= self._state.length:
            raise LocalError(f"no length {length} in a core of {self._state.length} blocks")
        signable = verifier.signable(self._state.tree_at(length).hash(), length, fork, self.signer)
        return Partial(self.signer, length, fork, self._key_pair.sign(signable))
