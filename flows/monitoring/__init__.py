"""Flows that observe an application: health check, collection, continuous monitoring."""
