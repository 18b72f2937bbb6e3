"""Settings: where things lie and which outside servers are used. Every one has a default."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from the process environment, names starting with ROAS_; an empty variable is not set."""

    model_config = SettingsConfigDict(env_prefix="ROAS_", env_ignore_empty=True, extra="ignore")

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
    server_port: int = Field(default=4200, description="Where `roas serve` offers the Prefect UI.")

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
