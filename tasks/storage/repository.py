"""The repository of an environment's snapshots."""

from __future__ import annotations

import os
from pathlib import Path

from adapters.compose.variables import missing_secrets, secret_values
from adapters.snapshots.restic import ResticRepository, generated_password, installation_id
from models.environments import Environment
from models.failures import BadInputError, SnapshotError
from models.settings import current_settings
from models.snapshots import DataSettings


def settings_of(environment: Environment) -> DataSettings:
    """What an environment says of its data.

    Raises:
        BadInputError: It says nothing.
    """
    if environment.data is None:
        raise BadInputError(
            f"Environment {environment.name} does not say which data to save;",
            advice="add `data:` with `save:` to its file; docs/how-to/save-data-before-an-update.md shows how.",
        )
    return environment.data


def snapshots_folder() -> Path:
    """The folder of this machine for snapshots and what they need."""
    return current_settings().data_dir.absolute() / "snapshots"


def repository_of(environment: Environment) -> ResticRepository:
    """The repository of an environment's snapshots.

    Raises:
        SnapshotError: A secret that `data` names is not there, or the data folder cannot be written to.
    """
    settings, values = settings_of(environment), secret_values(environment)
    if lacking := sorted(settings.secrets - set(values)):
        reasons = missing_secrets(environment)
        raise SnapshotError(
            f"A secret that data names is not there: {'; '.join(reasons.get(name, name) for name in lacking)}.",
            advice="Set it, as for a start.",
        )
    folder = snapshots_folder()
    address = settings.repository or str(folder / environment.name)
    password = (
        values[settings.password_secret] if settings.password_secret else generated_password(folder, environment.name)
    )
    secrets = {name: values[name] for name in settings.repository_secrets}
    return ResticRepository(address, password, environment.name, installation_id(folder), _own_variables() | secrets)


def _own_variables() -> dict[str, str]:
    names = ("PATH", "HOME", "TMPDIR", "SSH_AUTH_SOCK", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy",
              "http_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")  # fmt: skip
    return {name: os.environ[name] for name in names if name in os.environ}
