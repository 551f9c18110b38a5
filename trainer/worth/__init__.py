"""What a network of shops is worth to a new one: real weeks and simulated years, with and without its peers.

Start with `priors` (what peers say), then `release` (what noise does to it), `real` and `simulated` (what it is worth).
numpy only.
"""
