"""Sums between owners at work on a box: rounds opened when they are due, carried by feeds, their results remembered.

    terms     what is summed, when, by whom: a function of roster, key epoch and window, the same for every member
    running   one group's round on this box, and what of it outlives a restart
    result    from the groups' sums to one record
    feed      our own feed of sums: written through the outlet, read back at the start
    desk      all of it: `SumsDesk`

The rounds themselves are `edge.privacy.secure_sum`. Next file to read: `terms`, then `desk`.
"""

from edge.memory.sums.desk import Moment, SumsDesk
from edge.memory.sums.feed import NodeSums
from edge.memory.sums.terms import Subject

__all__ = ["Moment", "NodeSums", "Subject", "SumsDesk"]
