"""Settings: where things lie and which outside servers are used. Every one has a default."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.retention import MIB, RetentionPolicy

_PREFIX = "ROAS_"


class Settings(BaseSettings):
    """Read from the process environment, names starting with ROAS_; an empty variable is not set."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    data_dir: Path = Field(default=Path("data"), description="Folder of the stores, their spools and archives.")
    stores_url: str | None = Field(
        default=None,
        description="PostgreSQL database of the three stores, where many hosts share one history, such as "
        "postgresql://roas@db.example/roas. Without it they are SQLite files in data_dir.",
    )
    stores_password_file: Path | None = Field(
        default=None, description="File that holds that database's password; PGPASSWORD does as well, the URL not."
    )
    environments_dir: Path = Field(default=Path("deployments/environments"), description="Folder of NAME.yaml files.")
    recovery_dir: Path = Field(default=Path("deployments/recovery"), description="Folder of the recovery scripts.")
    script_user: str = Field(default="nobody", description="Who runs recovery scripts where we are root.")
    redis_url: str | None = Field(
        default=None, description="Cache shared by many processes; without it each process has its own."
    )
    redis_password_file: Path | None = Field(
        default=None, description="File that holds the cache's password, so that no URL carries it."
    )
    metrics_port: int = Field(default=9108, description="Where the exporter listens.")
    metrics_host: str = Field(default="127.0.0.1", description="Address the exporter listens on.")
    keep_monitoring_days: float = Field(default=90, gt=0, description="How long samples and answers of probes stay.")
    keep_errors_days: float = Field(default=30, gt=0, description="How long errors stay once they are resolved.")
    keep_deployments_days: float = Field(default=180, gt=0, description="How long operations that went well stay.")
    keep_failed_days: float = Field(default=360, gt=0, description="How long operations that failed stay.")
    keep_runs_days: float = Field(default=30, gt=0, description="How long Prefect's record of a run stays.")
    store_budget_mib: float = Field(
        default=2048, gt=0, description="MiB a store may hold; over it the oldest rows leave early."
    )
    lifecycle_minutes: float = Field(
        default=5, gt=0, description="How long one step of one run of the life cycle may take; the next run goes on."
    )
    server_port: int = Field(default=4200, description="Where `roas serve` offers the Prefect UI.")

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
    def deployment_logs_path(self) -> Path:
        """The first store."""
        return self.data_dir / "deployment_logs.db"

    @property
    def monitoring_path(self) -> Path:
        """The second store."""
        return self.data_dir / "monitoring.db"

    @property
    def errors_path(self) -> Path:
        """The third store."""
        return self.data_dir / "errors.db"


def current_settings() -> Settings:
    """The settings of this process, read anew only where one of its variables has changed."""
    return _settings(frozenset(one for one in os.environ.items() if one[0].upper().startswith(_PREFIX)))


@lru_cache(maxsize=4)
def _settings(_variables: frozenset[tuple[str, str]]) -> Settings:
    return Settings()
