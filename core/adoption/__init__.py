"""Decisions on adopting an application: which program a service runs, and what fits it."""
