"""Hyperdrive 13: a folder of files in two append-only logs, byte for byte what the stock JavaScript package writes."""
