"""The key that signs answer links, and which links were used: files in the data folder that only the owner reads."""

from __future__ import annotations

import os
import re
import secrets
from datetime import datetime, timedelta
from pathlib import Path

from adapters.host.private_files import keep_private, make_private_folder, open_private

_KEY_BYTES = 32
_NONCE = re.compile("[A-Za-z0-9_-]{16,64}")


def answer_key(data_dir: Path) -> bytes:
    """Return the key of this data folder, made at the first use.

    Raises:
        OSError: It cannot be read or made.
    """
    return keep_private(make_private_folder(data_dir) / "answers.key", secrets.token_bytes(_KEY_BYTES))


def new_nonce() -> str:
    """Return a name that no other link has."""
    return secrets.token_urlsafe(16)


def use_once(data_dir: Path, nonce: str) -> bool:
    """Record that a link is used; False where it was before, by any process.

    Raises:
        OSError: It cannot be recorded, so the link must not be followed.
    """
    if not _NONCE.fullmatch(nonce):
        return False
    folder = make_private_folder(data_dir / "used-answers")
    try:
        os.close(open_private(folder / nonce, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True


def was_used(data_dir: Path, nonce: str) -> bool:
    """Whether a link was used."""
    return (data_dir / "used-answers" / nonce).exists() if _NONCE.fullmatch(nonce) else True


def forget_used(data_dir: Path, now: datetime, valid_for: timedelta) -> None:
    """Remove the records of links that have expired, which are refused for that."""
    folder = data_dir / "used-answers"
    for file in folder.iterdir() if folder.is_dir() else ():
        if file.stat().st_mtime < (now - 2 * valid_for).timestamp():
            file.unlink(missing_ok=True)
