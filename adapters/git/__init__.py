"""Clients of git: the program, an environment's repository and checkouts, and commit statuses."""
