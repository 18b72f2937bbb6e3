"""Keyed hashes: they show whether contents differ, without letting anyone guess the contents."""

from __future__ import annotations

import base64
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
        return self.keyed_hash("owner of kept images")[:8]

    @property
    def sealing_key(self) -> bytes:
        """The Fernet key of the files that releases keep; no fingerprint tells any of it."""
        return base64.urlsafe_b64encode(hmac.new(self._key, b"files of releases", hashlib.sha512).digest()[:32])

    def keyed_hash(self, content: str) -> str:
        """16 hex digits that change with the content."""
        return hmac.new(self._key, content.encode(), hashlib.sha256).hexdigest()[:16]

    def fingerprint_mounted_files(self, application: Application) -> dict[str, dict[str, str]]:
        """Fingerprints of the host's configuration files that each service mounts, by path.

        A folder counts only if it is mounted read-only, since a service changes one that it writes to, or if it is
        part of a checkout, which only a sync changes. Files that cannot be read, or are too large to be configuration,
        are left out.
        """
        fingerprints: dict[str, dict[str, str]] = {name: {} for name in application.services}
        for name, service in application.services.items():
            for mount in service.mounts:
                path = Path(mount.source)
                counts = mount.read_only or self.is_of_checkout(path)
                if mount.kind is MountKind.BIND and (path.is_file() or (counts and path.is_dir())):
                    fingerprints[name] |= self.fingerprint_file(path)
        for file in application.files:
            for name in file.services:
                fingerprints[name] |= self.fingerprint_file(Path(file.path))
        return fingerprints

    def fingerprint_path(self, path: Path) -> str | None:
        """The fingerprint of a file or folder; None where it cannot be read, or is too large to be configuration."""
        try:
            return self.keyed_hash(content_hash(path))
        except OSError:
            return None

    def is_of_checkout(self, path: Path) -> bool:
        """Whether a file or folder is part of a checkout, which only a sync changes."""
        return path.is_relative_to(self._sources)

    def fingerprint_file(self, path: Path) -> dict[str, str]:
        """The fingerprint of a file or folder by its path; empty where it cannot be read."""
        digest = self.fingerprint_path(path)
        return {} if digest is None else {str(path): digest}
