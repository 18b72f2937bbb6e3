"""Clients that deliver notifications."""
