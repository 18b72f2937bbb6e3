"""The program that runs Compose: the plugin of Docker's command line, called without it where that is the same.

Docker's command line starts the plugin twice, first to ask what it is: that is half the time of a quick call.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_PLUGIN = "docker-compose"
_OF_THE_SYSTEM = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
"""Where Docker's command line looks last, in its order."""

_BINARY = b"\x7fELF"


def compose_program(variables: Mapping[str, str]) -> list[str]:
    """The words that begin a call of Compose with these variables.

    A `docker` that is no binary may be anybody's script, such as one that goes to another machine: it is called itself.
    """
    through_docker = ["docker", "compose"]
    docker = shutil.which("docker", path=variables.get("PATH", os.defpath))
    if docker is None or not _is_binary(Path(docker)):
        return through_docker
    plugin = next((path for path in _places(variables) if os.path.lexists(path)), None)
    return [str(plugin)] if plugin is not None and _is_binary(plugin) and os.access(plugin, os.X_OK) else through_docker


def _places(variables: Mapping[str, str]) -> Iterator[Path]:
    config_folder = variables.get("DOCKER_CONFIG") or (f"{variables['HOME']}/.docker" if variables.get("HOME") else "")
    if config_folder:
        with suppress(OSError, ValueError, AttributeError, TypeError):
            for folder in json.loads(Path(config_folder, "config.json").read_bytes()).get("cliPluginsExtraDirs") or ():
                yield Path(folder, _PLUGIN)
        yield Path(config_folder, "cli-plugins", _PLUGIN)
    yield from (Path(folder, _PLUGIN) for folder in _OF_THE_SYSTEM)


def _is_binary(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(_BINARY)) == _BINARY
    return False
