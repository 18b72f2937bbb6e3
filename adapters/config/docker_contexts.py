"""The engine that a Docker context names, as the docker command keeps it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from models.failures import EnvironmentFileError


def engine_of_context(name: str) -> str:
    """Return the address of the engine of a Docker context. The context `default` is the local socket.

    Raises:
        EnvironmentFileError: There is no such context, or it has certificates, which we cannot use.
    """
    if name == "default":
        return "unix:///var/run/docker.sock"
    # Path.expanduser() raises for a user without a home folder.
    contexts = Path(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "contexts")  # noqa: PTH111
    # A context's folder is the digest of its name (docker/cli, cli/context/store).
    folder = hashlib.sha256(os.fsencode(name)).hexdigest()
    try:
        meta = json.loads((contexts / "meta" / folder / "meta.json").read_bytes())
        host = str(meta["Endpoints"]["docker"]["Host"])
    except FileNotFoundError as error:
        raise EnvironmentFileError(
            f"There is no Docker context {name!r} in {contexts}.", advice="`docker context ls` lists them."
        ) from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise EnvironmentFileError(
            f"The Docker context {name!r} in {contexts} names no engine that can be read.",
            advice=f"`docker context inspect {name}` shows it.",
        ) from error
    if (contexts / "tls" / folder / "docker").is_dir():
        raise EnvironmentFileError(
            f"The Docker context {name!r} has certificates, which roas does not use.",
            advice="Name the engine by ssh://USER@HOST, as `engine` or in another context.",
        )
    return host
