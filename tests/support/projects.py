"""Removal of what a test's project has on the machine's engine, without a command of Compose for each test."""

from __future__ import annotations

from contextlib import closing, suppress

import docker
from docker.errors import APIError


def remove_project(project: str) -> None:
    """Remove the project's containers, with their anonymous volumes, and its networks; what others use stays."""
    with closing(docker.APIClient(timeout=60)) as client:
        mine = {"label": f"com.docker.compose.project={project}"}
        for container in client.containers(all=True, filters=mine):
            # Another process may be removing it.
            with suppress(APIError):
                client.remove_container(container["Id"], force=True, v=True)
        for network in client.networks(filters=mine):
            with suppress(APIError):
                client.remove_network(network["Id"])
