"""Decide what the broker in front of the Docker engine allows."""
