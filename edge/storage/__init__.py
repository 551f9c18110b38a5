"""Durable segment files: a pure plan and the one module that touches the disk."""
