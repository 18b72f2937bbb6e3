"""Deterministic simulation: the real flows, tasks, core and stores in a simulated world with a virtual clock."""
