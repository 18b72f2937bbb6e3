"""Keyed hashes: two contents can be told to differ without either being guessed from what is stored."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from adapters.host.machine import content_hash
from adapters.host.private_files import make_private_folder, read_regular
from models.compose import Application, MountKind

_KEY_FILE = "fingerprint.key"
_KEY_BYTES = 32


class Fingerprints:
    """Makes keyed hashes of one installation; another installation's are not comparable with them."""

    def __init__(self, data_dir: Path) -> None:
        """Read the installation's key, or make one that only this user can read.

        Raises:
            OSError: The folder cannot be read or written.
        """
        make_private_folder(data_dir)
        file = data_dir / _KEY_FILE
        if not file.exists():
            _make_key(file)
        self._key = read_regular(file)

    def of(self, content: str) -> str:
        """16 hex digits that change with the content."""
        return hmac.new(self._key, content.encode(), hashlib.sha256).hexdigest()[:16]

    def of_mounted_files(self, application: Application) -> dict[str, dict[str, str]]:
        """Of each service the configuration files of the host it mounts, by path.

        A folder counts where it is mounted read-only: one the service writes to changes by itself. What
        cannot be read, or is too large to be configuration, is left out.
        """
        found: dict[str, dict[str, str]] = {name: {} for name in application.services}
        for name, service in application.services.items():
            for mount in service.mounts:
                path = Path(mount.source)
                if mount.kind is MountKind.BIND and (path.is_file() or (mount.read_only and path.is_dir())):
                    found[name] |= self._of_file(path)
        for file in application.files:
            for name in file.services:
                found[name] |= self._of_file(Path(file.path))
        return found

    def _of_file(self, path: Path) -> dict[str, str]:
        try:
            return {str(path): self.of(content_hash(path))}
        except OSError:
            return {}


def _make_key(file: Path) -> None:
    """Whole or not at all: a second process may read it at this moment, or make its own."""
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=file.name) as made:
        made.write(secrets.token_bytes(_KEY_BYTES))
        made.flush()
        with suppress(FileExistsError):
            os.link(made.name, file)
