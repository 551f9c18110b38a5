"""Sums between owners without a trusted centre: double masking over feeds, with noise that every member adds a part of.

Sources: Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (2017); Kairouz, Liu,
Steinke, "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure Aggregation" (2021).

A window: `plan` makes groups, each of which runs a `Round` (`rounds` states who is protected against whom). In it every
member is a `Participant`, some are a `Closer`, and anybody is a `Tally`; each reads the feeds into a `Board`. `release`
combines the groups' sums. `quantise` and `accounting` say what goes in and what it costs; `dimension` how much to ask.

    keys -> cut -> shares -> cut -> masked -> close -> acknowledgements -> shares revealed -> sum

Next file to read: `rounds`, then `participant`.
"""

from edge.privacy.secure_sum.board import Board
from edge.privacy.secure_sum.closer import Closer
from edge.privacy.secure_sum.dimension import Dimension
from edge.privacy.secure_sum.participant import Participant
from edge.privacy.secure_sum.plan import Parties, Plan, make_plan
from edge.privacy.secure_sum.quantise import Quantiser
from edge.privacy.secure_sum.release import Release, combine
from edge.privacy.secure_sum.rounds import Member, Round, RoundRefused
from edge.privacy.secure_sum.tally import Sum, Tally

__all__ = [
    "Board",
    "Closer",
    "Dimension",
    "Member",
    "Participant",
    "Parties",
    "Plan",
    "Quantiser",
    "Release",
    "Round",
    "RoundRefused",
    "Sum",
    "Tally",
    "combine",
    "make_plan",
]
