"""`pomona demo`: the whole system on one machine, on the parts that a shop runs."""
