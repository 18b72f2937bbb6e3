"""Clients of registries that hold Compose files as OCI artifacts."""
