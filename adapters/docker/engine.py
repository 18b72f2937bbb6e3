"""Docker engine client: what it runs by subject, and what the engine reports about itself."""

from __future__ import annotations

from collections.abc import Iterable

from adapters.docker.client import EngineClient
from adapters.docker.containers import Containers
from adapters.docker.events import Events
from adapters.docker.images import Images
from adapters.docker.networks import Networks
from adapters.docker.states import moment
from adapters.docker.statistics import Statistics
from adapters.docker.volumes import Volumes
from models.containers import EngineInfo


class DockerEngine:
    """One Docker engine, at an address such as unix:///var/run/docker.sock. Threads may share one object.

    Every call has a time limit and raises an EngineError when the engine does not answer or refuses. Text from
    containers and from the engine is printable and redacted: by the concealed values and by the values that its
    containers get in variables named like secrets.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._client = EngineClient(address)
        self.containers = Containers(self._client)
        self.statistics = Statistics(self._client, self.containers)
        self.events = Events(self._client)
        self.images = Images(self._client)
        self.networks = Networks(self._client, self.containers)
        self.volumes = Volumes(self._client)

    def close(self) -> None:
        """Close connections and threads."""
        self._client.close()

    def conceal(self, values: Iterable[str]) -> None:
        """Redact these values too, from now on and in every spelling."""
        self._client.conceal(values)

    @property
    def concealed(self) -> frozenset[str]:
        """The secret values known so far; for redacting elsewhere, never to be written."""
        return self._client.concealed

    def redact(self, text: str) -> str:
        """Remove secrets and control characters from text."""
        return self._client.redact(text)

    def info(self) -> EngineInfo:
        """Describe the engine.

        Raises:
            EngineUnreachableError: It did not answer.
            EnginePermissionError: This user may not talk to it.
        """
        with self._client.translate_errors("describing itself"):
            reported = self._client.reading.info()
            version = self._client.reading.version(api_version=False)
        return EngineInfo(
            address=self.address,
            version=version.get("Version", ""),
            api_version=version.get("ApiVersion", ""),
            operating_system=reported.get("OperatingSystem", ""),
            architecture=reported.get("Architecture", ""),
            cpus=reported.get("NCPU", 0),
            memory_bytes=reported.get("MemTotal", 0),
            storage_driver=reported.get("Driver", ""),
            warnings=tuple(reported.get("Warnings") or ()),
            root_folder=reported.get("DockerRootDir", ""),
            system_time=moment(reported.get("SystemTime")),
            address_pools=tuple(
                (pool["Base"], int(pool["Size"])) for pool in reported.get("DefaultAddressPools") or ()
            ),
        )
