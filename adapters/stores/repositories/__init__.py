"""Repositories of the stores, one a subject."""
