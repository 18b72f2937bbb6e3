"""Flows that change an application: start, stop, restart, update, sync, roll back; and drift."""
