"""Clients, retry policies and store access of a process."""
