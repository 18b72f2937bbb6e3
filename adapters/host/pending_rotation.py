"""The rotation of a password that an operation has begun and not finished: its values, sealed in the data folder."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from adapters.host.fingerprints import Fingerprints
from adapters.host.kept_files import SEALED, KeptFiles
from core.deployment.kept_files import KeptEntry
from models.failures import RotationError
from models.rotation import Rotation

_NAME = ".rotation"
"""Begins with a dot, so that it is no file of a release."""


def pending_file(data_dir: Path, environment: str) -> Path:
    """Where the values of a pending rotation are; without it there is none."""
    return data_dir.absolute() / SEALED / environment / _NAME


def pending_rotation(data_dir: Path, environment: str) -> Rotation | None:
    """The rotation that was begun and neither proven nor undone; None where there is none.

    Raises:
        RotationError: It is damaged, or sealed with another key.
    """
    if not (file := pending_file(data_dir, environment)).exists():
        return None
    try:
        entries = KeptFiles(data_dir, environment, Fingerprints(data_dir)).read_verified(_NAME)
        return TypeAdapter(Rotation).validate_json(entries[0].data or b"" if entries else b"")
    except (ValidationError, KeyError, ValueError) as error:
        raise RotationError(
            f"The rotation that {file} keeps cannot be read: it is damaged, or sealed with another key;",
            advice="set the password at its server and in the environment by hand, then remove that file.",
        ) from error


def keep_pending(data_dir: Path, environment: str, rotation: Rotation) -> None:
    """Seal a rotation before it changes anything.

    Raises:
        OSError: It cannot be written.
    """
    data = TypeAdapter(Rotation).dump_json(rotation)
    entry = KeptEntry(path="", mode=0o600, uid=os.getuid(), gid=os.getgid(), data=data)
    KeptFiles(data_dir, environment, Fingerprints(data_dir)).seal(_NAME, (entry,))
