"""Needs of environments as their files declare them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from adapters.config.environment_files import environment_files
from adapters.config.environments import declared_values, line_of_field
from adapters.config.yaml_files import read_content
from core.deployment.needs import circle_of
from models.environments import Environment
from models.failures import BadInputError, EnvironmentFileError
from models.settings import Settings


def declared_needs(settings: Settings) -> Mapping[str, tuple[str, ...]]:
    """The needs of all environments that are known here; a file that cannot be read has none."""
    needs: dict[str, tuple[str, ...]] = {}
    try:
        files = environment_files(settings)
    except (BadInputError, OSError):
        return needs
    for name, path in files.items():
        try:
            # To parse hundreds of files takes seconds, and few have needs.
            declared = declared_values(path).get("needs") if b"needs" in read_content(path) else None
        except (BadInputError, OSError):
            continue
        if isinstance(declared, list) and (own := tuple(need for need in declared if isinstance(need, str))):
            needs[name] = own
    return needs


def refuse_circle(environment: Environment, settings: Settings) -> None:
    """Refuse an environment that needs itself through others.

    Raises:
        EnvironmentFileError: It does; the message has the line of its needs.
    """
    if not environment.needs:
        return
    name = environment.name
    circle = circle_of(name, {**declared_needs(settings), name: environment.needs})
    if circle:
        path = environment_files(settings).get(name)
        place = f"{path}:{line_of_field(path, ('needs',))}" if path is not None else name
        way = ", and ".join(f"{one} needs {other}" for one, other in pairwise(circle))
        raise EnvironmentFileError(f"{place}: needs: {way}: a circle.", advice="Leave one of these needs out.")
