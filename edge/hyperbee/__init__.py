"""Hyperbee: a sorted map on a signed log, as stock peers keep it. Start with `bee.py`."""
