"""The rotation of a password that an operation has begun and not finished: its values, sealed in the data folder."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from adapters.host.fingerprints import Fingerprints
from adapters.host.kept_files import SEALED, KeptFiles
from core.deployment.kept_files import KeptEntry
from models.failures import RoasError
from models.rotation import Rotation

_NAME = ".rotation"
"""Begins with a dot, so that it is no file of a release."""


def pending_file(data_dir: Path, environment: str) -> Path:
    """Where the values of a pending rotation are."""
    return data_dir.absolute() / SEALED / environment / _NAME


def pending_rotation(data_dir: Path, environment: str) -> Rotation | None:
    """The rotation that was begun and neither proven nor undone; None where there is none.

    Raises:
        RoasError: It is damaged, or sealed with another key.
    """
    if not (file := pending_file(data_dir, environment)).exists():
        return None
    try:
        entries = KeptFiles(data_dir, environment, Fingerprints(data_dir)).read_verified(_NAME)
        values = json.loads(entries[0].data or b"") if entries else {}
        return Rotation(**values | {name: tuple(values[name]) for name in ("services", "servers")})
    except (KeyError, TypeError, ValueError) as error:
        raise RoasError(
            f"The rotation that {file} keeps cannot be read: it is damaged, or sealed with another key;",
            advice="set the password at its server and in the environment by hand, then remove that file.",
        ) from error


def keep_pending(data_dir: Path, environment: str, rotation: Rotation) -> None:
    """Seal a rotation before it changes anything.

    Raises:
        OSError: It cannot be written.
    """
    data = json.dumps(asdict(rotation)).encode()
    entry = KeptEntry(path="", mode=0o600, uid=os.getuid(), gid=os.getgid(), data=data)
    KeptFiles(data_dir, environment, Fingerprints(data_dir)).seal(_NAME, (entry,))


def forget_pending(data_dir: Path, environment: str) -> None:
    """Forget a rotation that is proven, or undone."""
    pending_file(data_dir, environment).unlink(missing_ok=True)
