"""Metrics and checks."""
