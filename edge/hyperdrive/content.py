"""Which core holds a drive's blobs: its key and signers follow from those of the database, so nothing names it.

A database with a manifest of version 1 or later has its blobs in the core whose manifest is the same but for the
signers' namespaces, each the hash of a tag, the database's key and the old namespace; the same key pairs sign both.
Older databases (version 0, and those whose key is the signer's public key) name a core of its own in their header.
Spec: `generateContentManifest` and `_open` in hyperdrive 13.3.
"""

from dataclasses import replace
from typing import Protocol

from edge.crypto.hashing import hash256, namespace
from edge.hypercore.manifest import Manifest

(_BLOBS,) = namespace("hyperdrive", 1)


class ManifestLog(Protocol):
    """What is needed of the database's core to find the blobs."""

    @property
    def key(self) -> bytes:
        """The core's key."""
        ...

    @property
    def manifest(self) -> Manifest | None:
        """Who signs it; None where that is unknown, or where its key is the signer's public key."""
        ...


def content_manifest(manifest: Manifest | None, key: bytes) -> Manifest | None:
    """Manifest of the blobs core for the database `key`; None where the header must name that core instead."""
    if manifest is None or manifest.version < 1:
        return None
    signers = tuple(replace(signer, namespace=hash256(_BLOBS, key, signer.namespace)) for signer in manifest.signers)
    return Manifest(version=manifest.version, allow_patch=manifest.allow_patch, quorum=manifest.quorum, signers=signers)
