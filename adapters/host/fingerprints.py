"""Keyed hashes: they show whether contents differ, without letting anyone guess the contents."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from adapters.git.places import SOURCES
from adapters.host.machine import content_hash
from adapters.host.private_files import keep_private, make_private_folder
from models.compose import Application, MountKind

_KEY_BYTES = 32


class Fingerprints:
    """Keyed hashes of one installation; hashes of other installations are not comparable."""

    def __init__(self, data_dir: Path) -> None:
        """Read the installation's key, or create one that only this user can read.

        Raises:
            OSError: The folder cannot be read or written.
        """
        make_private_folder(data_dir)
        self._sources = data_dir.absolute() / SOURCES
        self._key = keep_private(data_dir / "fingerprint.key", secrets.token_bytes(_KEY_BYTES))

    @property
    def owner(self) -> str:
        """8 hex digits that stand for the data folder, such as in the names of the images it keeps."""
        return self.of("owner of kept images")[:8]

    def of(self, content: str) -> str:
        """16 hex digits that change with the content."""
        return hmac.new(self._key, content.encode(), hashlib.sha256).hexdigest()[:16]

    def of_mounted_files(self, application: Application) -> dict[str, dict[str, str]]:
        """Fingerprints of the host's configuration files that each service mounts, by path.

        A folder counts only if it is mounted read-only, since a service changes one that it writes to, or if it is
        part of a checkout, which only git changes. Files that cannot be read, or are too large to be configuration, are
        left out.
        """
        found: dict[str, dict[str, str]] = {name: {} for name in application.services}
        for name, service in application.services.items():
            for mount in service.mounts:
                path = Path(mount.source)
                counts = mount.read_only or path.is_relative_to(self._sources)
                if mount.kind is MountKind.BIND and (path.is_file() or (counts and path.is_dir())):
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
