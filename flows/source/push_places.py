"""Which environments take pushes, and with which secret."""

from __future__ import annotations

import re

from adapters.compose.variables import secret_values
from adapters.config.environment_files import known_environments
from adapters.config.environments import declared_environment
from models.failures import RoasError
from models.settings import current_settings

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def push_secret(name: str) -> str | None:
    """The secret with which pushes for an environment are signed, None where it takes none.

    Raises:
        RoasError: Its file is not valid.
    """
    if not _NAME.fullmatch(name) or name not in known_environments(current_settings()):
        return None
    environment = declared_environment(name, current_settings())
    secret_name = environment.source.webhook_secret if environment.source else None
    return secret_values(environment).get(secret_name) if secret_name else None


def takes_pushes() -> bool:
    """Whether an environment has a secret for pushes."""
    for name in known_environments(current_settings()):
        try:
            environment = declared_environment(name, current_settings())
        except RoasError:
            continue
        if environment.source is not None and environment.source.webhook_secret is not None:
            return True
    return False
