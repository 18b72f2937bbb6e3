"""Clients of outside systems, in our own models."""
