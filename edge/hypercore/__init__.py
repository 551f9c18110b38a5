"""The signed append-only log."""
