"""Prefect's API server as we run it, and the deployments and automations on it."""
