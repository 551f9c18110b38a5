"""The price memory: a view of the log."""
