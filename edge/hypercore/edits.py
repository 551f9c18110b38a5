"""Changes of a core other than growth: truncation, signatures of several signers, clearing, freezing.

Each function gives the records of one change and what to do once they are durable, which says what happened. It runs
when the change's turn has come, so it speaks of the state that every write before it has left.
"""

import itertools
from collections.abc import Callable

from edge.errors import LocalError, RemoteError, SignatureError
from edge.hypercore.conflict import Conflict
from edge.hypercore.events import Cleared, Event, Frozen, Grown, Truncated
from edge.hypercore.records import Partial, RecordKind, Signed, encode_clear, encode_nodes, encode_truncate
from edge.hypercore.signing import Signing
from edge.hypercore.state import CoreState
from edge.hypercore.verifier import Part, Verifier
from edge.hypercore.write_queue import Records
from edge.limits import INTEGER_MAX

Prepared = tuple[Records, Callable[[int], list[Event]]]


def truncation(state: CoreState, length: int, fork: int | None) -> Prepared:
    """Raises `LocalError` for a length or fork that is none."""
    new_fork = state.oplog.fork + 1 if fork is None else fork
    if not 0 <= length <= state.length:
        raise LocalError(f"cannot truncate {state.length} blocks to {length}")
    if not state.oplog.fork < new_fork <= INTEGER_MAX:
        raise LocalError(f"fork {new_fork} does not come after fork {state.oplog.fork}")
    tree, payload = state.tree_at(length), encode_truncate(length, new_fork)
    records: Records = []
    if not state.oplog.plain:  # blocks alone do not give the roots again
        records.append((RecordKind.NODES, encode_nodes(tree.roots)))
    records.append((RecordKind.TRUNCATE, payload))

    def durable(sequence: int) -> list[Event]:
        for kind, other in records[:-1]:
            state.apply(sequence, kind, other)
            sequence += 1
        state.truncated(sequence, payload, tree)
        return [Truncated(length, new_fork), Grown()]

    return records, durable


def signature_part(state: CoreState, signing: Signing, part: Partial) -> Prepared:
    """Raises `SignatureError` if it does not hold, `RemoteError` if it speaks of another state than ours."""
    verifier = state.oplog.verifier
    if verifier is None or part.fork != state.oplog.fork or not 0 < part.length <= state.length:
        raise RemoteError(f"no length {part.length} at fork {part.fork} here", reason="state")
    if not 0 <= part.signer < len(verifier.manifest.signers):
        raise SignatureError(f"signer {part.signer} is unknown")
    tree_hash = state.tree_at(part.length).hash()
    verifier.verify_single(part.signer, part.signature, tree_hash, part.length, part.fork)
    records: Records = [(RecordKind.PARTIAL, part.encode())]
    parts = state.oplog.partials | {(part.length, part.signer): part.signature}
    signed = _assembled(state, verifier, parts, newest=signing.signed.length if signing.signed else 0)
    if signed is not None:
        records.append((RecordKind.SIGNATURE, signed.encode()))

    def durable(sequence: int) -> list[Event]:
        for offset, (kind, payload) in enumerate(records):
            state.apply(sequence + offset, kind, payload)
        return [Grown()] if len(records) > 1 else []

    return records, durable


def _assembled(state: CoreState, verifier: Verifier, parts: dict[tuple[int, int], bytes], newest: int) -> Signed | None:
    """The signature over the greatest length above `newest` that a quorum of `parts` has signed; None: not yet.

    Where the manifest allows patches, who signed a longer log counts too. Parts are named by length and signer.
    """
    nearest: dict[int, int] = {}  # by signer: the length that was signed, as near as there is
    for length, group in itertools.groupby(sorted(parts, reverse=True), key=lambda part: part[0]):
        if length <= newest:
            break
        nearest = (nearest if verifier.manifest.allow_patch else {}) | {signer: length for _, signer in group}
        if len(nearest) < verifier.manifest.quorum:
            continue
        chosen = sorted((signed_length, signer) for signer, signed_length in nearest.items())[
            : verifier.manifest.quorum
        ]
        led = [
            Part.ahead(
                signer,
                parts[signed_length, signer],
                signed=state.tree_at(signed_length),
                length=length,
                nodes=state.get_node,
            )
            for signed_length, signer in chosen
        ]
        return Signed(length, state.oplog.fork, verifier.assemble_parts(led))
    return None


def clearing(state: CoreState, signed: Signed | None, start: int, end: int) -> Prepared:
    """One record for all that is held between; no records: nothing is."""
    cleared = list(state.oplog.runs.held(start, end))
    if not cleared:
        return [], lambda _: []
    first, last = cleared[0][0], cleared[-1][1]
    records: Records = []
    if signed is not None and signed.length <= state.length:  # the roots that it covers must survive
        records.append((RecordKind.NODES, encode_nodes(state.tree_at(signed.length).roots)))
    records.append((RecordKind.CLEAR, encode_clear(first, last, state.cover(first, last))))

    def durable(sequence: int) -> list[Event]:
        for offset, (kind, payload) in enumerate(records):
            state.apply(sequence + offset, kind, payload)
        return [Cleared(since, upto) for since, upto in cleared]

    return records, durable


def freezing(state: CoreState, conflict: Conflict) -> Prepared:
    """Raises `SignatureError` unless the conflict is one of this core."""
    if conflict.key != state.header.key:
        raise SignatureError("the conflict is one of another core", reason="no_conflict")
    conflict.check()
    payload = conflict.encode()

    def durable(sequence: int) -> list[Event]:
        state.apply(sequence, RecordKind.CONFLICT, payload)
        return [Frozen()]

    return ([(RecordKind.CONFLICT, payload)], durable) if state.oplog.conflict is None else ([], lambda _: [])
