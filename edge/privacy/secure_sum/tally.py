"""The sum of a round, from its published messages alone: anybody who reads the feeds computes it, and the same one.

    sum over survivors u of masked u  -  self mask of u  -  pair masks of u with each v that dropped out

Pair masks among survivors cancel. Self masks come from the survivors' seeds, pair masks with v from v's mask key, each
from `threshold` shares. Every share is checked against its dealer's digest and every secret against its dealer's
commitment or public key, so that a wrong share is passed over and a wrong dealer is named.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from edge.crypto.hashing import HASH_BYTES
from edge.privacy.secure_sum.board import Board
from edge.privacy.secure_sum.boxes import MASK, SELF, Passage, share_digest
from edge.privacy.secure_sum.masks import (
    Vector,
    commitment,
    pair_mask,
    public_key,
    secret_key,
    self_mask,
    to_integers,
    to_vector,
    unpack,
)
from edge.privacy.secure_sum.messages import Cut, Keys, Masked, Reveal, Shares
from edge.privacy.secure_sum.rounds import Round, RoundRefused
from edge.privacy.secure_sum.shamir import PRIME, from_bytes, to_bytes, weights_at


@dataclass(frozen=True, slots=True)
class Sum:
    """What a round gives: the noised sum over its survivors, in steps of the quantiser."""

    values: tuple[int, ...]
    survivors: tuple[int, ...]  # members' numbers
    weight: Fraction  # sum / weight is the mean over owners
    noise_variance: Fraction  # of each value, in steps²: that of all survivors' noise


class Tally:
    """Computes one round's sum. Give its board every block of the group's and the closers' feeds."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._sum: Sum | None = None

    def result(self) -> Sum | None:
        """The sum; None while messages are missing that may still come.

        Raises `RoundRefused`: `aborted`, or `dealer` where a member's shares do not give what it had fixed.
        """
        if self._sum is None:
            self._sum = self._compute()
        if self._sum is None and (reason := self.board.abort()) is not None:
            raise RoundRefused(f"the round was given up: {reason}", reason="aborted")
        return self._sum

    def _compute(self) -> Sum | None:
        digest = self.board.acknowledged()
        chain = self.board.chain(digest) if digest is not None else None
        if digest is None or chain is None:
            return None
        keys_cut, shares_cut, close = chain
        keys, shares, masked = self.board.keys(keys_cut), self.board.shares(shares_cut), self.board.masked(close)
        if keys is None or shares is None or masked is None:
            return None
        reveals = self.board.reveals(digest, keys_cut.numbers)
        if len(reveals) < self.board.round.threshold:
            return None
        found = Opened(self.board.round, keys_cut, shares, close, reveals).seeds(keys)
        if found is None:
            return None
        return self._unmask(close, keys, masked, found)

    def _unmask(
        self, close: Cut, keys: Mapping[int, Keys], masked: Mapping[int, Masked], seeds: Mapping[int, bytes]
    ) -> Sum:
        round_ = self.board.round
        size = round_.dimension, round_.bits
        total = to_vector([0] * round_.dimension)
        for number in close.numbers:
            total += unpack(masked[number].packed, round_.bits)
            total -= self_mask(seeds[number], *size)
        for gone in seeds.keys() - set(close.numbers):
            secret = secret_key(seeds[gone])
            for number in close.numbers:  # what `gone` would have added for `number` is what it was to cancel
                total += pair_mask(secret, keys[number].mask_key, round_.digest, (gone, number), size)
        return Sum(
            to_integers(_reduced(total, round_.bits), round_.bits),
            close.numbers,
            round_.weight(close.numbers),
            len(close.numbers) * round_.noise_variance,
        )


@dataclass(frozen=True, slots=True)
class Opened:
    """What members revealed for one close, and the seeds that follow from it."""

    round: Round
    keys_cut: Cut
    dealt: Mapping[int, Shares]
    close: Cut
    reveals: Mapping[int, Reveal]

    def seeds(self, keys: Mapping[int, Keys]) -> dict[int, bytes] | None:
        """The seed of each member that published shares: the self mask's of survivors, the mask key's of the others.

        None while shares are missing; raises `RoundRefused` where a dealer's shares give something else than it fixed.
        """
        found: dict[int, bytes] = {}
        weights: dict[tuple[int, ...], list[int]] = {}
        for place, (dealer, shares) in enumerate(self.dealt.items()):
            survives = dealer in self.close.numbers
            valid = self._valid(place, dealer, SELF if survives else MASK, shares)
            if len(valid) < self.round.threshold:
                return None
            holders = tuple(sorted(valid)[: self.round.threshold])
            if holders not in weights:
                weights[holders] = weights_at(0, holders)
            pairs = zip(weights[holders], holders, strict=True)
            seed = to_bytes(sum(weight * valid[holder] for weight, holder in pairs) % PRIME)
            fixed, shown = (
                (shares.commitment, commitment(seed))
                if survives
                else (keys[dealer].mask_key, public_key(secret_key(seed)))
            )
            if shown != fixed:
                raise RoundRefused(f"the shares dealt by member {dealer} do not fit together", reason="dealer")
            found[dealer] = seed
        return found

    def _valid(self, place: int, dealer: int, which: int, shares: Shares) -> dict[int, int]:
        """The shares of `dealer` that were revealed and are what it had dealt, by holder."""
        valid = {}
        for at, holder in enumerate(self.keys_cut.numbers):
            reveal = self.reveals.get(holder)
            share = reveal.shares[place] if reveal is not None and place < len(reveal.shares) else None
            expected = shares.share_digests[at][which * HASH_BYTES : (which + 1) * HASH_BYTES]
            if share is not None and share_digest(Passage(self.round.digest, dealer, holder), which, share) == expected:
                if int.from_bytes(share, "little") >= PRIME:
                    continue  # its dealer fixed what is no share
                valid[holder] = from_bytes(share)
        return valid


def _reduced(total: Vector, bits: int) -> Vector:
    return total & to_vector([2**bits - 1])
