"""The names of environments, by their files alone: commands that only read records need no more, and no YAML."""

from __future__ import annotations

import os
from pathlib import Path

from models.failures import EnvironmentFileError

SUFFIXES = (".yaml", ".yml")
# In the order in which Compose takes the first that exists.
COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")


def environment_names(directory: Path) -> tuple[str, ...]:
    """The names of all environment files of a folder, sorted; none where the folder is missing."""
    try:
        # Asked every few seconds: for strings it takes a tenth of the time that it takes for paths.
        parts = [os.path.splitext(name) for name in os.listdir(directory)]  # noqa: PTH122, PTH208
        return tuple(sorted({stem for stem, suffix in parts if suffix in SUFFIXES}))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise EnvironmentFileError(
            f"The folder of the environments, {directory}, cannot be read: {error.strerror}.",
            advice="Set ROAS_ENVIRONMENTS_DIR to one that this user may read.",
        ) from error
