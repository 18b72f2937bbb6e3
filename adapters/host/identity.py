"""Identity of this host: a random id and a name, made once and kept in the data folder."""

from __future__ import annotations

import json
import secrets
import socket
from functools import lru_cache
from pathlib import Path

from adapters.host.private_files import keep_private, make_private_folder, write_private
from models.failures import StoreError
from models.hosts import HostIdentity

FILE = "host.json"
"""In the data folder, so that a container has the identity of its volume."""

_LONGEST_NAME = 64


def rename_host(data_dir: Path, name: str) -> None:
    """Let the host of a data folder have the name that its control plane knows it by.

    Raises:
        StoreError: The identity cannot be read or written.
    """
    identity = {"id": host_identity(data_dir).host_id, "name": name[:_LONGEST_NAME]}
    file = data_dir.absolute() / FILE
    try:
        write_private(file, json.dumps(identity).encode())
    except OSError as error:
        raise StoreError(f"The name of this host cannot be kept in {file}: {error.strerror};", advice="") from error
    host_identity.cache_clear()


@lru_cache(maxsize=8)
def host_identity(data_dir: Path, name: str = "") -> HostIdentity:
    """Read the identity of a data folder, or make one; a `name` given wins over the machine's, which was kept.

    Raises:
        StoreError: The file cannot be read or written, or is not one of ours.
    """
    new = {"id": f"h-{secrets.token_hex(4)}", "name": socket.gethostname()[:_LONGEST_NAME] or "host"}
    file = data_dir.absolute() / FILE
    try:
        make_private_folder(data_dir)
        identity = json.loads(keep_private(file, json.dumps(new).encode()))
        return HostIdentity(host_id=str(identity["id"]), name=name or str(identity["name"]))
    except OSError as error:
        raise StoreError(
            f"The identity of this host cannot be kept in {file}: {error.strerror};",
            advice="set ROAS_DATA_DIR to a folder this user may write to.",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{file} is not the identity of a host;",
            advice="restore it from a backup, or delete it: this host then gets a new identity, and its environments "
            "are moved to it by `roas fleet take`.",
        ) from error
