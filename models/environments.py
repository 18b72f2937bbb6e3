"""Environments: an application to run, what it needs, how it is probed, what may be done for it.

The YAML of an environment (deployments/environments/NAME.yaml) is exactly these fields.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from models.drills import Drills
from models.fields import Block, FilePath, Name, Strict, Text, TimeOfWeek
from models.gates import UpdateGate
from models.hooks import Hooks
from models.metrics import DependencyType, HealthImpact
from models.overlap import ReplacementSettings
from models.schedules import Schedule
from models.snapshots import DataSettings
from models.sources import Source
from models.status_page import StatusPage
from models.updates import UpdatePolicy


def _usable_address(address: str) -> str:
    try:
        # Reading the port checks it.
        usable = address.isprintable() and urlsplit(address).port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("no host and port can be read from this address")
    return address


Need = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}(/[a-zA-Z0-9][a-zA-Z0-9_.-]*)?$")]

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADERS_WITH_SECRETS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "x-auth-token"})


_Timeout = Annotated[float, Field(gt=0, le=60, description="So long it may take to answer.")]


class TlsSettings(Strict):
    """How an HTTPS probe checks the server's certificate."""

    server_name: Text | None = Field(
        default=None, description="Name to ask for and to find in the certificate; without it the address."
    )
    verify: bool = Field(default=True, description="False: any certificate will do, and `reason` says why.")
    reason: Text | None = Field(default=None, description="Why the certificate is not verified.")

    @model_validator(mode="after")
    def _reason_is_given(self) -> TlsSettings:
        if not self.verify and self.reason is None:
            raise ValueError("verify: false needs a reason, such as `reason: signed by our own authority`")
        return self


class HttpProbe(Strict):
    """Ask a URL; any 2xx answer (or the given status) within the time is healthy."""

    kind: Literal["http"]
    port: int = Field(ge=1, le=65535, description="Port inside the container.")
    path: str = Field(default="/", description="Path of the URL, with its query.")
    status: int | None = Field(default=None, ge=100, le=599)
    contains: str | None = Field(default=None, description="Words the answer must contain.")
    scheme: Literal["http", "https"] = "http"
    tls: TlsSettings = Field(default=TlsSettings(), description="Only with scheme https.")
    method: Literal["GET", "HEAD", "OPTIONS", "POST"] = "GET"
    headers: dict[str, str] = Field(default_factory=dict, description="Headers of the request; none holds a secret.")
    expected_headers: dict[str, str] = Field(
        default_factory=dict, description="Headers the answer must have, with words each must contain."
    )
    user: Text | None = Field(default=None, description="User of a login by Basic authentication.")
    password_secret: str | None = Field(
        default=None, description="Name of a secret of this environment; without a user it is sent as a Bearer token."
    )
    timeout_seconds: _Timeout = 3.0

    @field_validator("headers", "expected_headers")
    @classmethod
    def _usable_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a header")
            if not (value.isascii() and (value.isprintable() or not value)):
                raise ValueError(f"the value of header {name} is not one line of plain text")
        return headers

    @model_validator(mode="after")
    def _fields_that_go_together(self) -> HttpProbe:
        if secret := next((name for name in self.headers if name.lower() in _HEADERS_WITH_SECRETS), None):
            raise ValueError(f"header {secret} would hold a secret: use user and password_secret")
        if self.user is not None and self.password_secret is None:
            raise ValueError("user needs password_secret")
        if self.scheme == "http" and self.tls != TlsSettings():
            raise ValueError("tls needs scheme: https")
        if self.method == "HEAD" and self.contains is not None:
            raise ValueError("an answer to HEAD has no text, so contains needs another method")
        return self


class TcpProbe(Strict):
    """Open a connection."""

    kind: Literal["tcp"]
    port: int = Field(ge=1, le=65535)
    timeout_seconds: _Timeout = 3.0


class RedisProbe(Strict):
    """Authenticate, ask for the state, write a key and read it back."""

    kind: Literal["redis"]
    port: int = Field(default=6379, ge=1, le=65535)
    password_secret: str | None = Field(default=None, description="Name of a secret of this environment.")
    timeout_seconds: _Timeout = 3.0


class PrometheusProbe(Strict):
    """Ready, and at least the given number of targets up."""

    kind: Literal["prometheus"]
    port: int = Field(default=9090, ge=1, le=65535)
    targets_up: int = Field(default=0, ge=0, description="So many of its targets must be up.")
    timeout_seconds: _Timeout = 3.0


class CertificateProbe(Strict):
    """Open a TLS connection and read how long the certificate is still valid; whether it is trusted is not asked."""

    kind: Literal["certificate"]
    port: int = Field(default=443, ge=1, le=65535)
    server_name: str | None = Field(default=None, description="The name to ask for, where it serves several.")
    warning_days: float = Field(default=21.0, gt=0, description="So many days before its end there is a warning.")
    critical_days: float = Field(default=7.0, gt=0, description="So many days before its end the alert is critical.")
    timeout_seconds: _Timeout = 3.0


class SqlProbe(Strict):
    """Log in at a database server and run a query in a read-only transaction."""

    kind: str
    port: int
    user: Text
    password_secret: str | None = Field(default=None, description="Name of a secret of this environment.")
    database: Text | None = None
    query: Text = Field(default="select 1", description="It runs in a read-only transaction.")
    rows: int | None = Field(default=None, ge=0, description="Exactly so many rows the query must return.")
    value: str | None = Field(default=None, description="What the first column of its first row must be, as text.")
    replication_lag_seconds: float | None = Field(
        default=None, ge=0, description="A replica that is further behind its primary is degraded; a primary never is."
    )
    timeout_seconds: _Timeout = 3.0


class PostgresqlProbe(SqlProbe):
    """Log in at PostgreSQL and run a query in a read-only transaction."""

    kind: Literal["postgresql"]
    port: int = Field(default=5432, ge=1, le=65535)
    user: Text = "postgres"
    database: Text | None = Field(default=None, description="By default the one with the user's name.")


class MysqlProbe(SqlProbe):
    """Log in at MariaDB or MySQL and run a query in a read-only transaction."""

    kind: Literal["mysql"]
    port: int = Field(default=3306, ge=1, le=65535)
    user: Text = "root"
    database: Text | None = Field(default=None, description="By default none is chosen.")


class AmqpProbe(Strict):
    """Log in at an AMQP 0-9-1 broker such as RabbitMQ, open a channel, and look at a queue."""

    kind: Literal["amqp"]
    port: int = Field(default=5672, ge=1, le=65535)
    user: Text = "guest"
    password_secret: str | None = Field(
        default=None, description="Name of a secret of this environment; the user guest needs none."
    )
    virtual_host: Text = "/"
    queue: Text | None = Field(default=None, description="A queue that must exist.")
    max_messages: int | None = Field(
        default=None, ge=0, description="With more messages ready in the queue, the service is degraded."
    )
    timeout_seconds: _Timeout = 3.0

    @model_validator(mode="after")
    def _fields_that_go_together(self) -> AmqpProbe:
        if self.user != "guest" and self.password_secret is None:
            raise ValueError("user needs password_secret")
        if self.max_messages is not None and self.queue is None:
            raise ValueError("max_messages needs queue")
        return self


class SmtpProbe(Strict):
    """Read a mail server's banner and greet it; it sends no mail and does not log in."""

    kind: Literal["smtp"]
    port: int = Field(default=25, ge=1, le=65535)
    starttls: bool = Field(default=False, description="True: it must switch to TLS; any certificate will do.")
    timeout_seconds: _Timeout = 10.0


class DnsProbe(Strict):
    """Ask the service itself, a DNS server, for a name."""

    kind: Literal["dns"]
    port: int = Field(default=53, ge=1, le=65535)
    query_name: Text = Field(description="The name to resolve.")
    query_type: Literal["A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"] = "A"
    answer: Text | None = Field(default=None, description="What one of its answers must be.")
    timeout_seconds: _Timeout = 3.0


class CommandProbe(Strict):
    """Run a command inside the container; exit code 0 is healthy."""

    kind: Literal["command"]
    command: tuple[str, ...] = Field(min_length=1, description="Program and arguments, without a shell.")
    timeout_seconds: _Timeout = 5.0


NetworkProbe = (
    HttpProbe
    | TcpProbe
    | RedisProbe
    | PostgresqlProbe
    | MysqlProbe
    | AmqpProbe
    | SmtpProbe
    | DnsProbe
    | PrometheusProbe
    | CertificateProbe
)
"""Probes that connect to an address of the service; all have a port."""

Probe = Annotated[NetworkProbe | CommandProbe, Field(discriminator="kind")]
PROBES_WITH_LOGIN = (HttpProbe, RedisProbe, SqlProbe, AmqpProbe)


class Limits(Strict):
    """Where a metric of a service is bad whatever is usual. Percentages 0-100."""

    cpu_percent: float | None = Field(default=None, gt=0, description="Percent of one processor, so two are 200.")
    memory_percent: float | None = Field(
        default=None, gt=0, le=100, description="Percent of its limit, else of the host."
    )
    response_time_ms: float | None = Field(default=None, gt=0, description="Of the answer to its probe.")


class DependencySpec(Strict):
    """One service this one needs, beyond what the Compose file's depends_on says."""

    service: Name = Field(description="The service it needs.")
    type: DependencyType = Field(
        default=DependencyType.REQUIRED, description="Whether it works without it, or only more slowly."
    )
    impact: HealthImpact = Field(default=HealthImpact.CRITICAL, description="How bad it is without it.")


class ServiceSpec(ReplacementSettings):
    """What this environment knows of one service beyond the Compose file."""

    probe: Probe | None = Field(default=None, description="What proves that it works, beside its health check.")
    dependencies: tuple[DependencySpec, ...] = Field(default=(), description="Services it needs while it runs.")
    required: bool = Field(default=True, description="False: its loss degrades, never fails the whole.")
    stabilisation_seconds: float | None = Field(
        default=None, ge=0, le=600, description="In place of the environment's."
    )
    start_timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        le=3600,
        description="By default what its health check needs to call it unhealthy, at most the environment's.",
    )
    limits: Limits = Field(default=Limits(), description="Where its numbers are bad whatever is usual.")
    outside_logins: bool = Field(
        default=False, description="True: it logs in somewhere that counts logins (Discord), so restarts are rare."
    )


class RecoveryPolicy(Strict):
    """What may be done without a person, and how often."""

    automatic: bool = Field(default=True, description="False: failures are recorded and reported, and nothing is done.")
    attempts_per_error: int = Field(default=3, ge=0, le=20, description="Until a ticket waits for a person.")
    attempts_per_service_15min: int = Field(default=3, ge=0, le=60, description="For all errors of one service.")
    attempts_per_service_day: int = Field(default=12, ge=0, le=500, description="For all errors of one service.")
    points_per_host_15min: int = Field(
        default=12,
        ge=0,
        le=500,
        description="Of one environment. A host has half as much more for each further one that needed action.",
    )
    points_per_host_day: int = Field(
        default=100,
        ge=0,
        le=5000,
        description="Of one environment. A host has half as much more for each further one that needed action.",
    )
    verify_timeout_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="So long after an action its service may need to prove itself."
    )
    roll_back_within_seconds: float = Field(
        default=600.0,
        ge=0,
        le=86400,
        description="What begins so soon after a deployment may undo it, unless it ran hooks or saved data.",
    )
    dry_run: bool = Field(default=False, description="True: what would be done is written down, and nothing is done.")


class Maintenance(TimeOfWeek):
    """A time of the week, in UTC, in which nothing alerts and nothing is repaired; recording goes on.

    One that ends before it begins goes on into the next day.
    """

    services: tuple[Name, ...] = Field(default=(), description="Services it is for; none means all, and the host.")


class QuietHours(TimeOfWeek):
    """A time of the week, in UTC, in which only what is critical is reported at once; the rest follows at its end.

    One that ends before it begins goes on into the next day.
    """


class ReportDelivery(Strict):
    """Who gets the report on the last days. A mail has a summary and the page, another message the summary."""

    to: tuple[Block, ...] = Field(
        min_length=1, description="Prefect notification blocks, such as roas-email/operations."
    )
    every: Literal["daily", "weekly"] = Field(default="weekly", description="How often.")


class Secret(Strict):
    """A secret by name: the value comes from a variable, a file or a program, and is never stored."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="The variable that Compose gets it as.")
    file: FilePath | None = Field(default=None, description="File with the value; without it, a variable of this name.")
    command: tuple[Text, ...] | None = Field(
        default=None, min_length=1, description="Program that prints the value as its first line, without a shell."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Secret:
        if self.file is not None and self.command is not None:
            raise ValueError(f"{self.name} has a file and a command: give one of them")
        return self


def is_local_engine(address: str) -> bool:
    """Whether an engine's address is on this machine: a socket, or a loopback address."""
    if address.startswith("unix://"):
        return True
    host = urlsplit(address).hostname or ""
    return host == "localhost" or host == "::1" or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


class Environment(Strict):
    """One environment: an application on one engine, and how it is cared for."""

    name: Name = Field(description="By default the file's name, or the project's in a roas.yaml.")
    compose_files: tuple[FilePath, ...] = Field(min_length=1, description="Merged in this order.")
    source: Source | None = Field(
        default=None,
        description="A git repository, or an OCI artifact; compose_files and env_files are then relative to its "
        "checkout.",
    )
    project: Name = Field(description="The Compose project, as in `docker compose -p`.")
    engine: Annotated[str, AfterValidator(_usable_address)] = Field(
        default="unix:///var/run/docker.sock",
        pattern=r"^(unix|tcp|ssh|http|https)://.+",
        description="The engine that its containers run on.",
    )
    context: Text | None = Field(default=None, description="A Docker context, in place of `engine`.")
    env_files: tuple[FilePath, ...] = Field(default=(), description="Files with variables for the Compose files.")
    profiles: tuple[str, ...] = Field(default=(), description="Compose profiles to switch on.")
    variables: tuple[str, ...] = Field(default=(), description="Names that must be set and not empty.")
    secrets: tuple[Secret, ...] = Field(default=(), description="Given to Compose and to probes, and stored nowhere.")
    services: dict[Name, ServiceSpec] = Field(
        default_factory=dict, description="What the Compose files do not say of services; others have the defaults."
    )
    needs: tuple[Need, ...] = Field(
        default=(),
        description="Other environments, or ENVIRONMENT/SERVICE, that must be healthy before this one starts, "
        "also on another host.",
    )
    protected: bool = Field(
        default=False, description="True: a person who stops, restarts or updates it has to type its name."
    )
    stabilisation_seconds: float | None = Field(
        default=None,
        ge=0,
        le=600,
        description="So long a service must hold its health to count as proven. By default ten seconds; when it is "
        "started as it was proven before, and has not failed since, two.",
    )
    start_timeout_seconds: float = Field(
        default=300.0, gt=0, le=7200, description="At most so long each service may take; one may have its own."
    )
    collect_every_seconds: int = Field(default=60, ge=5, le=3600, description="How often it is measured.")
    recovery: RecoveryPolicy = Field(
        default=RecoveryPolicy(), description="What may be done without a person, and how often."
    )
    update: UpdatePolicy = Field(
        default=UpdatePolicy(), description="When updates may begin, and which images they take."
    )
    objective_percent: float = Field(
        default=99.5, gt=0, lt=100, description="Share of checks and answers that must be good, over 30 days."
    )
    maintenance: tuple[Maintenance, ...] = Field(default=(), description="When nothing alerts and nothing is repaired.")
    notify: tuple[Block, ...] = Field(
        default=(),
        description="Prefect notification blocks that get messages about failures, such as discord-webhook/operations.",
    )
    notify_about: tuple[Literal["failures", "deployments"], ...] = Field(
        default=("failures",),
        description="What is reported to them: failures, and deployments that succeeded, failed or were rolled back.",
    )
    quiet_hours: tuple[QuietHours, ...] = Field(
        default=(), description="When only what is critical is reported at once, and the rest at their end."
    )
    report: ReportDelivery | None = Field(default=None, description="Who gets the report on the last days.")
    status_page: StatusPage | None = Field(
        default=None, description="What the public status page shows; without it there is none."
    )
    hooks: Hooks = Field(default=Hooks(), description="What an update runs besides: migrations, smoke tests, a canary.")
    gate: UpdateGate | None = Field(default=None, description="What has to hold before an update runs new images.")
    data: DataSettings | None = Field(
        default=None, description="What `roas snapshot` saves, also before an update, and can restore."
    )
    schedules: dict[Name, Schedule] = Field(
        default_factory=dict, description="What is done by the clock: our own operations, and jobs of yours."
    )

    drills: Drills | None = Field(default=None, description="Faults that `roas drill` may make on purpose.")

    @field_validator("variables")
    @classmethod
    def _names_of_variables(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not name.replace("_", "a").isalnum() or name[0].isdigit():
                raise ValueError(f"{name!r} is not the name of a variable")
        return names

    @field_validator("needs")
    @classmethod
    def _needs_of_others(cls, needs: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        if (name := others.data.get("name")) in {need.partition("/")[0] for need in needs}:
            raise ValueError(f"{name} cannot need itself: services.NAME.dependencies is for its own services")
        return needs

    @model_validator(mode="after")
    def _secrets_that_probes_name(self) -> Environment:
        secret_names = {secret.name for secret in self.secrets}
        for name, service in self.services.items():
            secret = service.probe.password_secret if isinstance(service.probe, PROBES_WITH_LOGIN) else None
            if secret is not None and secret not in secret_names:
                raise ValueError(f"services.{name}.probe.password_secret names {secret!r}, which is not in secrets")
        for secret in sorted(self.data.secrets - secret_names) if self.data else ():
            raise ValueError(f"data names the secret {secret!r}, which is not in secrets")
        needs = {"snapshot": ("data", self.data), "rehearse": ("data", self.data), "sync": ("source", self.source)}
        for name, schedule in self.schedules.items():
            field, given = needs.get(schedule.run, ("", True)) if isinstance(schedule.run, str) else ("", True)
            if given is None:
                raise ValueError(f"schedules.{name} runs {schedule.run}, which needs `{field}`")
        return self

    @model_validator(mode="after")
    def _files_inside_of_the_source(self) -> Environment:
        if self.source is None:
            return self
        secret_names = {secret.name for secret in self.secrets}
        if missing := next((name for name in self.source.secrets if name not in secret_names), None):
            raise ValueError(f"source names the secret {missing!r}, which is not in secrets")
        for path in (*self.compose_files, *self.env_files):
            if ".." in path.parts:
                raise ValueError(f"{path} leads out of the checkout: give a path without .., or an absolute one")
        return self

    def service(self, name: str) -> ServiceSpec:
        """Return the settings of a service, defaults if the file has none."""
        return self.services.get(name, _NOTHING_SAID)

    @property
    def is_remote(self) -> bool:
        """Whether its engine's address is on another machine. A loopback address counts as this machine."""
        return not is_local_engine(self.engine)

    def stabilisation(self, service: str) -> timedelta:
        """How long a service must hold its health before it counts as proven."""
        seconds = self._said_stabilisation(service)
        return _STABILISATION if seconds is None else timedelta(seconds=seconds)

    def says_stabilisation(self, service: str) -> bool:
        """Whether its file says how long a service must hold its health."""
        return self._said_stabilisation(service) is not None

    def _said_stabilisation(self, service: str) -> float | None:
        seconds = self.service(service).stabilisation_seconds
        return self.stabilisation_seconds if seconds is None else seconds


_NOTHING_SAID = ServiceSpec()
_STABILISATION = timedelta(seconds=10)


def environment_schema() -> dict[str, Any]:
    """The JSON Schema of an environment file, for editors; models/environment.schema.json holds it.

    The file's name stands for `name` where that is left out.
    """
    schema = Environment.model_json_schema()
    schema["required"] = [name for name in schema["required"] if name != "name"]
    for kind in ("Maintenance", "QuietHours", "TimeOfWeek", "UpdateWindow"):
        for end in ("from", "to"):
            # JSON Schema's own format of a time demands a zone, and we refuse one.
            del schema["$defs"][kind]["properties"][end]["format"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
