"""Credentials and encryption key of the Prefect server."""
