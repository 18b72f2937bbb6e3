"""Checks before a start, by subject."""
