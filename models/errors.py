"""Errors, their verdicts, their patterns and their impact."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Category(StrEnum):
    """What caused an error; `benign` is no error, `unknown` names no cause."""

    DOCKER_DAEMON_UNREACHABLE = "docker_daemon_unreachable"
    DOCKER_PERMISSION_DENIED = "docker_permission_denied"
    IMAGE_PULL_FAILED = "image_pull_failed"
    PORT_CONFLICT = "port_conflict"
    NAME_CONFLICT = "name_conflict"
    DOCKER_NETWORK = "docker_network"
    VOLUME_MOUNT = "volume_mount"
    COMPOSE_INVALID = "compose_invalid"
    MISSING_ENV_SECRET = "missing_env_secret"  # noqa: S105 - the name of a category
    CONTAINER_EXITED = "container_exited"
    OOM_KILLED = "oom_killed"
    HEALTHCHECK_FAILED = "healthcheck_failed"
    DEPENDENCY_FAILED_START = "dependency_failed_start"
    DEPENDENCY_REFUSED = "dependency_refused"
    DNS_FAILURE = "dns_failure"
    TIMEOUT = "timeout"
    TLS_CERTIFICATE = "tls_certificate"
    DISK_FULL = "disk_full"
    RESOURCE_LIMIT = "resource_limit"
    PERFORMANCE_THRESHOLD = "performance_threshold"
    EXEC_FORMAT_ENTRYPOINT = "exec_format_entrypoint"
    DATABASE_LOCKED = "database_locked"
    DATABASE_CORRUPT = "database_corrupt"
    REDIS_STATE = "redis_state"
    DISCORD_API = "discord_api"
    PYTHON_IMPORT_CONFIG = "python_import_config"
    KERNEL_NETWORK_DRIVER = "kernel_network_driver"
    SERVICE_CONFIG_INVALID = "service_config_invalid"
    AUTH_FAILED = "auth_failed"
    STATE_MISMATCH = "state_mismatch"
    SCHEMA_NOT_MIGRATED = "schema_not_migrated"
    BUILD_FAILED = "build_failed"
    EXTERNAL_API = "external_api"
    HOST_STORAGE_FAILURE = "host_storage_failure"
    RUNTIME_DEPENDENCY_MISSING = "runtime_dependency_missing"
    APPLICATION_ERROR = "application_error"
    UNKNOWN = "unknown"
    BENIGN = "benign"


SYMPTOMS = frozenset({Category.CONTAINER_EXITED, Category.HEALTHCHECK_FAILED, Category.TIMEOUT})
"""Symptoms that many causes share."""

REFUSED = "validation"
"""Source of an error for which validation refused an operation: nothing was touched."""

CAUSED_BY = "its cause is error "
"""Begins how an error was resolved that was the consequence of another one, whose id follows."""

SAID = "said"
"""Key of an error's evidence: the masked line of the log that shows the cause, where the error's text has only how it
failed."""


class Severity(StrEnum):
    """low: heals itself; medium: one operation or a degraded service; high: a service is down;
    critical: the host, all services, or data at risk."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Strategy(StrEnum):
    """How to recover from an error; a person carries out those with (manual)."""

    NONE = "none"
    WAIT_AND_RETRY = "wait_and_retry"
    RESTART_SERVICE = "restart_service"
    RESTART_DEPENDENCY_THEN_SERVICE = "restart_dependency_then_service"
    RECREATE_CONTAINER = "recreate_container"
    FREE_PORT = "free_port"
    PULL_IMAGE = "pull_image"
    PRUNE_DISK = "prune_disk"
    CREATE_NETWORK = "create_network"
    PRUNE_NETWORKS = "prune_networks"
    ROLL_BACK_RELEASE = "roll_back_release"
    RUN_SCRIPT = "run_script"
    FREE_PORT_MANUAL = "free_port(manual)"
    RESTART_DAEMON_REQUIRED = "restart_daemon_required(manual)"
    FIX_CONFIG = "fix_config(manual)"
    FIX_PERMISSIONS = "fix_permissions(manual)"
    FIX_CREDENTIALS = "fix_credentials(manual)"
    FIX_RESOURCE_LIMITS = "fix_resource_limits(manual)"
    FIX_HOST = "fix_host(manual)"
    RESTORE_DATABASE = "restore_database(manual)"
    INVESTIGATE = "investigate(manual)"

    @property
    def automatic(self) -> bool:
        """True where a bounded, reversible action may be tried without a person."""
        return self is not Strategy.NONE and not self.value.endswith("(manual)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Evidence beside the text of an error; all of it redacted."""

    exit_code: int | None = None
    oom_killed: bool = False
    container_state: str | None = None
    restart_count: int = 0
    health: str | None = None
    dependencies_down: tuple[str, ...] = ()
    deployed_seconds_ago: float | None = None
    logs: tuple[str, ...] = ()
    probe_outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Verdict on an error, with the words that decided it.

    `confidence` is 0-1. `span` is the start and end of the deciding words in the text, None if the evidence decided
    or nothing matched. `template` is the masked text that groups errors without a pattern.
    """

    category: Category
    severity: Severity
    strategy: Strategy
    confidence: float
    reason: str
    pattern_name: str | None = None
    span: tuple[int, int] | None = None
    template: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A named way to recognise a cause, as a row of error_patterns or as shipped."""

    name: str
    regex: str
    category: Category
    severity: Severity
    strategy: Strategy
    priority: int = 50
    enabled: bool = True
    shipped: bool = True
    recovery_script: str | None = None
    match_count: int = 0
    last_matched: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedPattern:
    """A pattern of a file: what it means, in which program, with examples of that program's lines.

    `match` are lines that it must match, `no_match` near misses that it must not. `source` is where the wordings are
    from: a file of the program's code, a manual, or a run of the program.
    """

    pattern: Pattern
    program: str
    means: str
    match: tuple[str, ...]
    no_match: tuple[str, ...]
    source: str


class ImpactType(StrEnum):
    """Effect of an error on its users."""

    SERVICE_DOWN = "service_down"
    PERFORMANCE_DEGRADED = "performance_degraded"
    DATA_LOSS = "data_loss"


class BusinessImpact(StrEnum):
    """Importance of an impact."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """Affected services and estimated recovery time in seconds, as first judged."""

    impact_type: ImpactType
    affected_services: tuple[str, ...] = ()
    estimated_recovery_seconds: int = 0
    business_impact: BusinessImpact = BusinessImpact.LOW


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedError:
    """A failure as errors.db keeps it."""

    error_id: str
    environment: str
    text: str
    source: str
    verdict: Verdict
    first_seen: datetime
    last_seen: datetime
    deployment_id: str | None = None
    service: str | None = None
    count: int = 1
    predictive: bool = False
    resolved_at: datetime | None = None
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def dependencies_down(self) -> tuple[str, ...]:
        """Failed dependencies in the evidence, nearest first."""
        return tuple(str(name) for name in self.evidence.get("dependencies_down") or ())

    @property
    def cause(self) -> tuple[str, ...]:
        """What makes it the same error as another: of one open cause there is one error."""
        what = self.verdict.template or self.verdict.pattern_name or ""
        text = str(self.evidence.get(SAID) or "")
        return (self.environment, self.service or "", self.verdict.category.value, what, *((text,) if text else ()))

    def is_alike(self, other: RecordedError) -> bool:
        """Whether another error is of the same service and cause in other words, as tickets take it."""
        category, theirs = self.verdict.category, other.verdict.category
        text, says = self.evidence.get(SAID), other.evidence.get(SAID)
        same_place = (self.environment, self.service) == (other.environment, other.service)
        same_cause = category is theirs or category in SYMPTOMS or theirs in SYMPTOMS
        is_known = Category.UNKNOWN not in (category, theirs)
        return same_place and same_cause and is_known and (not text or not says or text == says)

    @property
    def how_often(self) -> str:
        """How often the error occurred, in words."""
        return "once" if self.count == 1 else f"{self.count} times"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnnamedGroup:
    """Errors of one template without a pattern.

    `group` is the template's short name, `places` are environment/service. `expression` matches their text, None if
    it has too few characteristic words.
    """

    group: str
    template: str
    count: int
    first_seen: datetime
    last_seen: datetime
    places: tuple[str, ...]
    example: str
    expression: str | None
