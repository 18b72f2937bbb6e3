"""Docker engine client: what it runs by subject, and what the engine reports about itself."""

from __future__ import annotations

import socket
from contextlib import suppress
from datetime import datetime
from functools import cached_property

from adapters.docker.beside import Beside
from adapters.docker.client import EngineClient
from adapters.docker.containers import Containers
from adapters.docker.events import Events
from adapters.docker.faults import Faults
from adapters.docker.images import Images
from adapters.docker.logs import Logs
from adapters.docker.networks import Networks, Volumes
from adapters.docker.states import moment
from adapters.docker.statistics import Statistics
from models.containers import EngineInfo
from models.environments import is_local_engine
from models.failures import ContainerGoneError, EnginePermissionError


class DockerEngine(EngineClient):
    """One Docker engine, at an address such as unix:///var/run/docker.sock. Threads may share one object.

    Every call has a time limit and raises an EngineError when the engine does not answer or refuses. Text from
    containers and from the engine is printable and redacted: by the concealed values and by the values that its
    containers get in variables named like secrets.
    """

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.containers = Containers(self)
        self.statistics = Statistics(self, self.containers)
        self.events = Events(self)
        self.logs = Logs(self, self.containers, self.events)
        self.images = Images(self)
        self.networks = Networks(self, self.containers)
        self.volumes = Volumes(self)
        self.beside = Beside(self, self.containers)
        self.faults = Faults(self, self.containers, self.networks)

    @cached_property
    def is_here(self) -> bool:
        """Whether it runs on this machine, so that addresses of its containers are reached from here.

        Behind a loopback address may be a tunnel to another machine; that engine gives another name.

        Raises:
            EngineUnreachableError: It did not answer.
        """
        if self.address.startswith("unix://"):
            return True
        if not is_local_engine(self.address):
            return False
        with self.translate_errors("describing itself"):
            return str(self.read_client.info().get("Name", "")) == socket.gethostname()

    def start_time(self) -> datetime | None:
        """Return when the engine's program started last, by this machine's clock; None where that cannot be told.

        It makes its bridge anew whenever it starts, and reports no other moment of it.

        Raises:
            EngineUnreachableError: It did not answer.
        """
        with suppress(ContainerGoneError, EnginePermissionError), self.translate_errors("inspecting its bridge"):
            made_at = moment(self.read_client.inspect_network("bridge").get("Created"))
            return None if made_at is None else made_at - self.ahead
        return None

    def info(self) -> EngineInfo:
        """Describe the engine.

        Raises:
            EngineUnreachableError: It did not answer.
            EnginePermissionError: This user may not talk to it.
        """
        with self.translate_errors("describing itself"):
            reported = self.read_client.info()
            version = self.read_client.version(api_version=False)
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
