"""Flows that change an application: start, stop, restart, roll back, drift."""
