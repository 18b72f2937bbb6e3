"""The names of environments, by their files alone: commands that only read records need no more, and no YAML."""

from __future__ import annotations

from pathlib import Path

from models.failures import EnvironmentFileError

SUFFIXES = (".yaml", ".yml")


def environment_names(directory: Path) -> tuple[str, ...]:
    """The names of all environment files of a folder, sorted; none where the folder is missing."""
    try:
        if not directory.is_dir():
            return ()
        return tuple(sorted({path.stem for path in directory.iterdir() if path.suffix in SUFFIXES}))
    except OSError as error:
        raise EnvironmentFileError(
            f"The folder of the environments, {directory}, cannot be read: {error.strerror}.",
            advice="Set ROAS_ENVIRONMENTS_DIR to one that this user may read.",
        ) from error
