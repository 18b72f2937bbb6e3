"""Flows that recover from errors: watch, error recovery, approval."""
