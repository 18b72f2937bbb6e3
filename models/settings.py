"""Settings: where things lie and which outside servers are used. Every one has a default."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from models.failures import BadInputError
from models.storage import MIB, RetentionPolicy

CONTROL_PLANE_FILE = "control-plane.json"
"""In the data folder of an enrolled host: where its control plane is, and with which credential it is asked."""

WORK_POOL = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""The name of a work pool."""

_PREFIX = "ROAS_"
_MAY_HOLD_A_PASSWORD = ("redis_url", "stores_url", "hosts_stores_url")
_SHOWN = 60
_CENTURY = 36_500
_PEBIBYTE = 1024**3
"""In MiB."""
_LONGEST_PATH = 3500
_LONGEST_NAME = 255
_CHECKOUT = Path("deployments/environments")
_DATA = Path("data")
_RECOVERY = Path("deployments/recovery")
_OF_STORES = ("deployment_logs.db", "fingerprint.key")
"""A folder `data` with one of these is ours; with stores on a server it has the key alone."""


class Settings(BaseModel):
    """Read from the process environment, names starting with ROAS_; an empty variable is not set.

    Values that are given win over variables. pydantic-settings would do the same, but takes longer to import than a
    command that reads records should wait for.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    data_dir: Path = Field(
        default=_DATA,
        description="Folder of the stores, their journals and archives; outside of a checkout, where no such folder "
        "has stores, $XDG_DATA_HOME/roas, by default ~/.local/share/roas.",
    )
    stores_url: str | None = Field(
        default=None,
        description="PostgreSQL database of the three stores, where many hosts share one history, such as "
        "postgresql://roas@db.example/roas. Without it they are SQLite files in data_dir.",
    )
    stores_password_file: Path | None = Field(
        default=None, description="File that holds that database's password; PGPASSWORD does as well, the URL not."
    )
    hosts_stores_url: str | None = Field(
        default=None,
        description="Address by which enrolled hosts reach the stores of this control plane, such as "
        "postgresql://ops.example.com:5433/roas?sslmode=require; each host gets a user and password of its own.",
    )
    environments_dir: Path = Field(
        default=_CHECKOUT,
        description="Folder of NAME.yaml files, and no other place; where that default does not exist, the nearest "
        "roas.yaml, the folder roas, files known from earlier commands and $XDG_CONFIG_HOME/roas.",
    )
    config: Path | None = Field(
        default=None, description="An environment's file, or a folder of them; as --config, it wins over other places."
    )
    unwatched: str = Field(
        default="",
        description="Environments, separated by commas, that `roas worker` and `roas serve` leave to another agent.",
    )
    age_identity: Path | None = Field(
        default=None,
        description="File with the age identity for encrypted files of variables; without it SOPS_AGE_KEY_FILE.",
    )
    recovery_dir: Path = Field(
        default=_RECOVERY,
        description="Folder of the recovery scripts; where that is missing, $XDG_CONFIG_HOME/roas/recovery.",
    )
    script_user: str = Field(default="nobody", description="Who runs recovery scripts where we are root.")
    redis_url: str | None = Field(
        default=None, description="Redis where other programs read snapshots and alerts; without it none is published."
    )
    redis_password_file: Path | None = Field(
        default=None, description="File that holds the cache's password, so that no URL carries it."
    )
    metrics_port: int = Field(default=9108, ge=1, le=65535, description="Where the exporter listens.")
    metrics_host: str = Field(default="127.0.0.1", description="Address the exporter listens on.")
    keep_monitoring_days: float = Field(
        default=90, gt=0, le=_CENTURY, description="How long samples and answers of probes stay."
    )
    keep_errors_days: float = Field(
        default=30, gt=0, le=_CENTURY, description="How long errors stay once they are resolved."
    )
    keep_deployments_days: float = Field(
        default=180, gt=0, le=_CENTURY, description="How long operations that went well stay."
    )
    keep_failed_days: float = Field(default=360, gt=0, le=_CENTURY, description="How long operations that failed stay.")
    keep_files: bool = Field(
        default=True,
        description="Whether releases keep, sealed, the values of their variables and small configuration and secret "
        "files, so that a rollback uses what was proven; off: it uses values and files as they are then.",
    )
    keep_runs_days: float = Field(
        default=30, gt=0, le=_CENTURY, description="How long Prefect's record of a run stays."
    )
    store_budget_mib: float = Field(
        default=2048, gt=0, le=_PEBIBYTE, description="MiB a store may hold; over it the oldest rows leave early."
    )
    lifecycle_minutes: float = Field(
        default=5,
        gt=0,
        le=1440,
        description="How long one step of one run of the life cycle may take; the next run goes on.",
    )
    compose_roots: str = Field(
        default="",
        description="Folders, separated by colons, below which a run of a deployment may name Compose files; without "
        "it such a run takes an environment's name only.",
    )
    asked_by: str = Field(
        default="",
        description="A program that asks for others, such as a CI job; it stands in the record as claimed, beside the "
        "user.",
    )
    host_name: str = Field(
        default="",
        max_length=64,
        pattern=r"^[A-Za-z0-9._-]*$",
        description="This host's name in the stores and in messages; without it the machine's own, as it was when the "
        "data folder was made.",
    )
    work_pool: str | None = Field(
        default=None,
        pattern=WORK_POOL,
        description="Work pool from which `roas worker` takes flow runs; without it none.",
    )
    ping_url_file: Path | None = Field(
        default=None,
        description="File with an address that is pinged each minute while stores and server answer, as "
        "healthchecks.io wants it; the address is a secret.",
    )
    away_minutes: float = Field(
        default=5, gt=0, le=1440, description="So long stores or server are away before the ping address gets a report."
    )
    server_port: int = Field(default=4200, ge=1, le=65535, description="Where `roas serve` offers the Prefect UI.")
    install_dir: Path | None = Field(
        default=None,
        description="Folder of the wheel and its requirements.txt that a control plane hands out to new hosts; without "
        "it share/roas of the installed program, which the image of docker-compose.yml has.",
    )
    ui_url: str | None = Field(
        default=None,
        description="Address of the Prefect UI in notifications, such as https://ops.example; without it the port on "
        "this machine.",
    )
    grafana_url: str | None = Field(
        default=None, description="Address of Grafana in notifications; without it they link to no dashboard."
    )

    answers_url: str | None = Field(
        default=None,
        description="Public address of `roas webhooks`; with it notifications carry links that answer tickets.",
    )

    @model_validator(mode="before")
    @classmethod
    def _with_variables(cls, values: dict[str, Any]) -> dict[str, Any]:
        return _own_places() | {name[len(_PREFIX) :].lower(): value for name, value in _variables() if value} | values

    @field_validator("*", mode="before")
    @classmethod
    def _is_utf_8(cls, value: Any) -> Any:
        # What the system's bytes could not be decoded to cannot be stored or shown either.
        if isinstance(value, str) and not value.isprintable() and any("\ud800" <= char <= "\udfff" for char in value):
            raise ValueError("UTF-8 text is allowed")
        return value

    @field_validator("data_dir", "environments_dir", "recovery_dir", "config")
    @classmethod
    def _has_room_for_file_names(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        # Linux refuses longer names, and paths of more than 4096 bytes; files lie below these folders.
        if len(os.fsencode(value)) > _LONGEST_PATH or any(
            len(os.fsencode(part)) > _LONGEST_NAME for part in value.parts
        ):
            raise ValueError(
                f"a path of at most {_LONGEST_PATH} bytes, of names of at most {_LONGEST_NAME}, is allowed"
            )
        return value

    @field_validator("ui_url", "grafana_url", "answers_url")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        # It is written into links of chat services, so nothing that ends a link may be in it.
        if value is not None and not re.fullmatch(r"https?://[^\s<>|()\[\]\"'`\\]+", value):
            raise ValueError("an address that begins with https:// or http:// is allowed")
        return value

    @field_validator("metrics_host", "stores_url", "hosts_stores_url", "redis_url")
    @classmethod
    def _names_a_host(cls, value: str | None) -> str | None:
        host = urlsplit(value).hostname if value is not None and "://" in value else value
        try:
            (host or "").encode("idna")
        except UnicodeError as error:
            raise ValueError("a host name of labels of 1 to 63 characters is allowed") from error
        return value

    @property
    def foreign_environments(self) -> frozenset[str]:
        """The environments of `unwatched`."""
        return frozenset(name.strip() for name in self.unwatched.split(","))

    @property
    def retention(self) -> RetentionPolicy:
        """How long what is kept."""
        runs = timedelta(days=self.keep_runs_days)
        return RetentionPolicy(
            monitoring=timedelta(days=self.keep_monitoring_days),
            errors=timedelta(days=self.keep_errors_days),
            deployments=timedelta(days=self.keep_deployments_days),
            failed_deployments=timedelta(days=self.keep_failed_days),
            runs=runs,
            failed_runs=3 * runs,
            store_bytes=round(self.store_budget_mib * MIB),
            step_time=timedelta(minutes=self.lifecycle_minutes),
        )

    @property
    def public_ui_url(self) -> str:
        """Where a person opens the Prefect UI."""
        return self.ui_url or f"http://127.0.0.1:{self.server_port}"

    @property
    def prefect_home(self) -> Path:
        """The folder of the Prefect server's files."""
        return self.data_dir.absolute() / "prefect"

    def store_path(self, store: str) -> Path:
        """The file of a store."""
        return self.data_dir / f"{store}.db"


def current_settings() -> Settings:
    """The settings of this process, read anew only where one of its variables has changed.

    Raises:
        BadInputError: A variable cannot be used; the message names it and what is allowed.
    """
    return _settings(frozenset(_variables()), tuple(_own_places().items()))


def config_home() -> Path:
    """The folder of a user's own configuration: $XDG_CONFIG_HOME/roas."""
    return _user_folder("XDG_CONFIG_HOME", ".config")


def _own_places() -> dict[str, Path]:
    """Where data and recovery scripts are outside of a checkout; a data folder with stores in it stays in use."""
    places = {}
    if not _CHECKOUT.is_dir():
        if not any((_DATA / file).exists() for file in _OF_STORES):
            places["data_dir"] = _user_folder("XDG_DATA_HOME", ".local/share")
        if not _RECOVERY.is_dir():
            places["recovery_dir"] = config_home() / "recovery"
    return places


def _user_folder(variable: str, by_default: str) -> Path:
    # A relative one counts as not set, as the XDG specification says.
    value = os.environ.get(variable, "")
    folder = value if value.startswith("/") else os.path.expanduser(f"~/{by_default}")  # noqa: PTH111
    # A user without a home folder has no place but the current one.
    return Path(folder) / "roas" if folder.startswith("/") else Path(".roas")


def _variables() -> list[tuple[str, str]]:
    # Names first: a value costs more to read than all else here, and this is asked for at each access to a store.
    return [(name, os.environ[name]) for name in os.environ if name.upper().startswith(_PREFIX)]


@lru_cache(maxsize=4)
def _settings(_of: frozenset[tuple[str, str]], _places: tuple[tuple[str, Path], ...]) -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        raise BadInputError(
            f"{'; '.join(_refusal(mistake) for mistake in error.errors(include_url=False))}.",
            advice="Correct or unset it.",
        ) from error


def _refusal(mistake: ErrorDetails) -> str:
    field = str(mistake["loc"][0])
    value = "" if field in _MAY_HOLD_A_PASSWORD else f" is {str(mistake['input'])[:_SHOWN]!r}, which"
    return f"{_PREFIX}{field.upper()}{value} cannot be used: {_check_allowed(field, mistake)}"


def _check_allowed(field: str, mistake: ErrorDetails) -> str:
    facts = Settings.model_json_schema()["properties"][field]
    kind = {"integer": "a whole number", "number": "a number"}.get(facts.get("type"))
    if kind is None:
        return mistake["msg"].removeprefix("Value error, ")
    least = f"from {facts['minimum']}" if "minimum" in facts else f"above {facts['exclusiveMinimum']}"
    return f"{kind} {least} to {facts['maximum']} is allowed, by default {facts['default']}"
