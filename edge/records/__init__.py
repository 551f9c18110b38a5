"""Frozen data types of the log, each with one conversion to and from its wire form."""
