"""Environments: an application to run, what it needs, how it is probed, what may be done for it.

The YAML of an environment (deployments/environments/NAME.yaml) is exactly these fields.
"""

from __future__ import annotations

from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from models.metrics import DependencyType, HealthImpact

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
"""A name Compose accepts for a project or service: small letters, digits, - and _."""


def _usable_path(path: Path) -> Path:
    if any(one == "\0" or "\ud800" <= one <= "\udfff" for one in str(path)):
        raise ValueError("a path is UTF-8 text without NUL")
    return path


def _usable_address(address: str) -> str:
    try:
        # Reading the port checks it.
        usable = address.isprintable() and urlsplit(address).port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("no host and port can be read from this address")
    return address


FilePath = Annotated[Path, AfterValidator(_usable_path)]
"""A path that the system accepts; whether there is a file is not asked."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HttpProbe(_Strict):
    """Ask a URL; any 2xx answer (or the given status) within the time is well."""

    kind: Literal["http"]
    port: int = Field(ge=1, le=65535, description="Port inside the container.")
    path: str = "/"
    status: int | None = Field(default=None, ge=100, le=599)
    contains: str | None = Field(default=None, description="Words the answer must contain.")
    timeout_seconds: float = Field(default=3.0, gt=0, le=60)


class TcpProbe(_Strict):
    """Open a connection."""

    kind: Literal["tcp"]
    port: int = Field(ge=1, le=65535)
    timeout_seconds: float = Field(default=3.0, gt=0, le=60)


class RedisProbe(_Strict):
    """Authenticate, ask for the state, write a key and read it back."""

    kind: Literal["redis"]
    port: int = Field(default=6379, ge=1, le=65535)
    password_secret: str | None = Field(default=None, description="Name of a secret of this environment.")
    timeout_seconds: float = Field(default=3.0, gt=0, le=60)


class PrometheusProbe(_Strict):
    """Ready, and at least the given number of targets up."""

    kind: Literal["prometheus"]
    port: int = Field(default=9090, ge=1, le=65535)
    targets_up: int = Field(default=0, ge=0)
    timeout_seconds: float = Field(default=3.0, gt=0, le=60)


class CertificateProbe(_Strict):
    """Open a TLS connection and read how long the certificate is still valid; whether it is trusted is not asked."""

    kind: Literal["certificate"]
    port: int = Field(default=443, ge=1, le=65535)
    server_name: str | None = Field(default=None, description="The name to ask for, where it serves several.")
    warning_days: float = Field(default=21.0, gt=0, description="So many days before its end there is a warning.")
    critical_days: float = Field(default=7.0, gt=0)
    timeout_seconds: float = Field(default=3.0, gt=0, le=60)


class CommandProbe(_Strict):
    """Run a command inside the container; exit code 0 is well."""

    kind: Literal["command"]
    command: tuple[str, ...] = Field(min_length=1)
    timeout_seconds: float = Field(default=5.0, gt=0, le=60)


Probe = Annotated[
    HttpProbe | TcpProbe | RedisProbe | PrometheusProbe | CertificateProbe | CommandProbe, Field(discriminator="kind")
]


class Limits(_Strict):
    """Where a metric of a service is bad whatever is usual. Percentages 0-100."""

    cpu_percent: float | None = Field(default=None, gt=0)
    memory_percent: float | None = Field(default=None, gt=0, le=100)
    response_time_ms: float | None = Field(default=None, gt=0)


class DependencySpec(_Strict):
    """One service this one needs, beyond what the Compose file's depends_on says."""

    service: Name
    type: DependencyType = DependencyType.REQUIRED
    impact: HealthImpact = HealthImpact.CRITICAL


class ServiceSpec(_Strict):
    """What this environment knows of one service beyond the Compose file."""

    probe: Probe | None = None
    dependencies: tuple[DependencySpec, ...] = ()
    required: bool = Field(default=True, description="False: its loss degrades, never fails the whole.")
    stabilisation_seconds: float | None = Field(default=None, ge=0, le=600)
    start_timeout_seconds: float | None = Field(default=None, gt=0, le=3600)
    limits: Limits = Limits()
    outside_logins: bool = Field(
        default=False, description="True: it logs in somewhere that counts logins (Discord), so restarts are rare."
    )


class RecoveryPolicy(_Strict):
    """What may be done without a person, and how often."""

    automatic: bool = True
    attempts_per_error: int = Field(default=3, ge=0, le=20)
    attempts_per_service_15min: int = Field(default=3, ge=0, le=60)
    attempts_per_service_day: int = Field(default=12, ge=0, le=500)
    points_per_host_15min: int = Field(default=12, ge=0, le=500, description="Of all environments of the engine.")
    points_per_host_day: int = Field(default=100, ge=0, le=5000)
    verify_timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    roll_back_within_seconds: float = Field(
        default=600.0, ge=0, le=86400, description="What begins so soon after a deployment may undo it; 0: never."
    )
    dry_run: bool = Field(default=False, description="True: what would be done is written down, and nothing is done.")


Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class _TimeOfWeek(_Strict):
    """A time of the week in UTC. One that ends before it begins goes on into the next day."""

    days: tuple[Day, ...] = Field(default=(), description="Days it begins on; none means every day.")
    begins: time = Field(alias="from", description='In UTC and in quotes: "02:00".')
    ends: time = Field(alias="to", description="In UTC; the same as from means a whole day.")

    @field_validator("begins", "ends")
    @classmethod
    def _in_utc(cls, at: time) -> time:
        if at.tzinfo is not None:
            raise ValueError("give a time of the day in UTC without a zone")
        return at


class Maintenance(_TimeOfWeek):
    """A time of the week, in UTC, in which nothing alerts and nothing is repaired; recording goes on.

    One that ends before it begins goes on into the next day.
    """

    services: tuple[Name, ...] = Field(default=(), description="Services it is for; none means all, and the host.")


class QuietHours(_TimeOfWeek):
    """A time of the week, in UTC, in which only what is critical is reported at once; the rest follows at its end.

    One that ends before it begins goes on into the next day.
    """


class Secret(_Strict):
    """A secret by name: the value comes from a variable or a file and is never stored."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    file: FilePath | None = Field(default=None, description="File with the value; without it, a variable of this name.")


class Environment(_Strict):
    """One environment: an application on one engine, and how it is cared for."""

    name: Name
    compose_files: tuple[FilePath, ...] = Field(min_length=1)
    project: Name
    engine: Annotated[str, AfterValidator(_usable_address)] = Field(
        default="unix:///var/run/docker.sock", pattern=r"^(unix|tcp|ssh|http|https)://.+"
    )
    env_files: tuple[FilePath, ...] = ()
    profiles: tuple[str, ...] = ()
    variables: tuple[str, ...] = Field(default=(), description="Names that must be set and not empty.")
    secrets: tuple[Secret, ...] = ()
    services: dict[Name, ServiceSpec] = Field(default_factory=dict)
    stabilisation_seconds: float = Field(default=10.0, ge=0, le=600)
    start_timeout_seconds: float = Field(default=300.0, gt=0, le=7200, description="For the whole start.")
    collect_every_seconds: int = Field(default=60, ge=5, le=3600)
    recovery: RecoveryPolicy = RecoveryPolicy()
    objective_percent: float = Field(
        default=99.5, gt=0, lt=100, description="Share of looks and answers that must be good, over 30 days."
    )
    maintenance: tuple[Maintenance, ...] = ()
    notify: tuple[Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")], ...] = Field(
        default=(),
        description="Prefect notification blocks that are told of failures, such as discord-webhook/operations.",
    )
    notify_about: tuple[Literal["failures", "deployments"], ...] = Field(
        default=("failures",),
        description="What is reported to them: failures, and deployments that succeeded, failed or were rolled back.",
    )
    quiet_hours: tuple[QuietHours, ...] = Field(
        default=(), description="When only what is critical is reported at once, and the rest at their end."
    )

    @field_validator("variables")
    @classmethod
    def _names_of_variables(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not name.replace("_", "a").isalnum() or name[0].isdigit():
                raise ValueError(f"{name!r} is not the name of a variable")
        return names

    @model_validator(mode="after")
    def _secrets_that_probes_name(self) -> Environment:
        known = {secret.name for secret in self.secrets}
        for name, service in self.services.items():
            wanted = service.probe.password_secret if isinstance(service.probe, RedisProbe) else None
            if wanted is not None and wanted not in known:
                raise ValueError(f"services.{name}.probe.password_secret names {wanted!r}, which is not in secrets")
        return self

    def service(self, name: str) -> ServiceSpec:
        """Return the settings of a service, defaults if the file has none."""
        return self.services.get(name, _NOTHING_SAID)

    def stabilisation(self, service: str) -> timedelta:
        """How long a service must hold its health before it counts as proven."""
        own = self.service(service).stabilisation_seconds
        return timedelta(seconds=self.stabilisation_seconds if own is None else own)


_NOTHING_SAID = ServiceSpec()


def environment_schema() -> dict[str, Any]:
    """The JSON Schema of an environment file, for editors; models/environment.schema.json holds it.

    The file's name stands for `name` where that is left out.
    """
    schema = Environment.model_json_schema()
    schema["required"] = [name for name in schema["required"] if name != "name"]
    for kind in ("Maintenance", "QuietHours"):
        for end in ("from", "to"):
            # JSON Schema's own format of a time demands a zone, and we refuse one.
            del schema["$defs"][kind]["properties"][end]["format"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
