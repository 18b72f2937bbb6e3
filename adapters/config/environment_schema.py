"""The JSON Schema of environment files, as it comes with the package."""

from __future__ import annotations

import os
from pathlib import Path

from models.failures import RoasError

FILE = Path(__file__).parents[2] / "models" / "environment.schema.json"


def schema_text() -> str:
    """The JSON Schema of an environment file.

    Raises:
        RoasError: The file of the installation is missing.
    """
    try:
        return FILE.read_text(encoding="utf-8")
    except OSError as error:
        raise RoasError(f"{FILE} cannot be read: {error.strerror}.", advice="Install roas-ops again.") from error


def schema_reference(environment_file: Path) -> str:
    """The path of the schema for a file's first line: relative within the program's own folder, else absolute."""
    folder = environment_file.absolute().parent
    return os.path.relpath(FILE, folder) if folder.is_relative_to(FILE.parents[1]) else str(FILE)
