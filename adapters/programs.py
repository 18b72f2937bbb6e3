"""The known programs that come with the package, read once in a process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from adapters.config.yaml_files import read_document
from models.adoption import Program
from models.failures import EnvironmentFileError

FILE = Path(__file__).parents[1] / "patterns" / "programs" / "programs.yaml"

_PROGRAMS = TypeAdapter(tuple[Program, ...])


@lru_cache(maxsize=1)
def shipped_programs() -> tuple[Program, ...]:
    """The shipped programs, in the order in which they are tried.

    Raises:
        EnvironmentFileError: The file of the installation is missing or damaged.
    """
    return read_programs(FILE)


def read_programs(path: Path) -> tuple[Program, ...]:
    """Read a file of programs.

    Raises:
        EnvironmentFileError: It cannot be read, or an entry is not valid; the message names it.
    """
    _, data = read_document(path)
    try:
        return _PROGRAMS.validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise EnvironmentFileError(f"{path}: {where}: {first['msg']}.", advice="Correct this entry.") from error
