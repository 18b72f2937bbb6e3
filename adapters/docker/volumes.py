"""Volumes of an engine."""

from __future__ import annotations

import re

from adapters.docker.client import EngineClient, owned_by, short

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


class Volumes:
    """Volumes of one engine. Every call raises an EngineError when the engine does not answer or refuses."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    def names(self, project: str | None = None) -> list[str]:
        """The names of a project's volumes, or of all volumes of the engine."""
        with self._client.translate_errors("listing volumes"):
            reported = self._client.reading.volumes(filters=owned_by(project))
        return sorted(volume["Name"] for volume in reported.get("Volumes") or ())

    def anonymous(self, container_id: str) -> list[str]:
        """The anonymous volumes of a container: only it refers to them, so removing it leaves them behind."""
        with self._client.translate_errors(f"listing volumes of container {short(container_id)}"):
            mounts = self._client.reading.inspect_container(container_id).get("Mounts") or ()
        return [one["Name"] for one in mounts if one.get("Type") == "volume" and _ANONYMOUS.fullmatch(one["Name"])]
