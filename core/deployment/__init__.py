"""Decide about a deployment: validate, plan, order, verify, release, restart, stop."""
