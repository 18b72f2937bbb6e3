"""Credentials of hosts on the control plane: one file a host in the server's folder, with hashes alone."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from adapters.host.private_files import make_private_folder, open_private, read_regular, write_private
from models.enrolment import USER_PREFIX, HostKey, Invitation, KeyState
from models.failures import BadInputError, NotFoundError, RoasError

_FOLDER = "hosts"
_LOCK = ".lock"
_BYTES = 32


class HostKeys:
    """The hosts that were invited to a control plane, in the folder of its Prefect server."""

    def __init__(self, prefect_home: Path) -> None:
        self._folder = prefect_home / _FOLDER

    def invite(self, name: str, now: datetime, valid: timedelta) -> Invitation:
        """Make a token with which one host enrols under this name; an earlier token of the name no longer works.

        Raises:
            BadInputError: A host is enrolled under this name.
            RoasError: The file cannot be written.
        """
        token = secrets.token_urlsafe(_BYTES)
        with self._hold_lock():
            there = self._read(name)
            if there is not None and there.state(now) is KeyState.ENROLLED:
                raise BadInputError(
                    f"Host {name} is enrolled;",
                    advice=f"run `roas leave` on it, or `roas fleet revoke {name}`, then invite it again.",
                )
            expires_at = now + valid
            self._write(
                HostKey(
                    name=name,
                    pool=USER_PREFIX + name,
                    token_hash=_hash(token),
                    invited_at=now,
                    expires_at=expires_at,
                )
            )
        return Invitation(name=name, token=f"{name}.{token}", expires_at=expires_at)

    def enrol(self, token: str, host: str, now: datetime) -> tuple[HostKey, str] | None:
        """Use a token; the host's record and its key, or None where the token does not work.

        The host that used it may use it again until it expires, since the answer may have been lost; its earlier key
        no longer works then.

        Raises:
            RoasError: The file cannot be read or written.
        """
        name, _, secret = token.partition(".")
        with self._hold_lock():
            there = self._read(name)
            if there is None or there.token_hash is None or not hmac.compare_digest(there.token_hash, _hash(secret)):
                return None
            if there.revoked_at is not None or now >= there.expires_at or there.host not in (None, host):
                return None
            key = secrets.token_urlsafe(_BYTES)
            enrolled = there.model_copy(update={"host": host, "key_hash": _hash(key), "enrolled_at": now})
            self._write(enrolled)
        return enrolled, key

    def revoke(self, name: str, now: datetime) -> HostKey:
        """Let neither token nor key of a host work any more.

        Raises:
            NotFoundError: No host of this name was invited.
            RoasError: The file cannot be read or written.
        """
        with self._hold_lock():
            there = self._read(name)
            if there is None:
                raise NotFoundError(f"No host {name} was invited;", advice="`roas fleet` lists the hosts.")
            if there.revoked_at is None:
                there = there.model_copy(update={"revoked_at": now, "token_hash": None, "key_hash": None})
                self._write(there)
        return there

    def owner(self, pool: str, key: str) -> HostKey | None:
        """The host whose credential this is; None where it does not work.

        Raises:
            RoasError: The file cannot be read.
        """
        there = self._read(pool.removeprefix(USER_PREFIX))
        if there is None or there.key_hash is None or there.pool != pool:
            return None
        return there if hmac.compare_digest(there.key_hash, _hash(key)) else None

    def is_revoked(self, pool: str) -> bool:
        """Whether a work pool is of a host whose credential was revoked, and which was not invited again.

        Raises:
            RoasError: The file cannot be read.
        """
        there = self._read(pool.removeprefix(USER_PREFIX))
        return there is not None and there.pool == pool and there.revoked_at is not None

    def all(self) -> list[HostKey]:
        """Every host that was invited, by name.

        Raises:
            RoasError: A file cannot be read.
        """
        keys = (self._read(file.stem) for file in sorted(self._folder.glob("*.json")))
        return [key for key in keys if key is not None]

    @contextmanager
    def _hold_lock(self) -> Iterator[None]:
        try:
            make_private_folder(self._folder)
            file = open_private(self._folder / _LOCK, os.O_RDWR)
        except OSError as error:
            raise self._error_of("written", error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    def _read(self, name: str) -> HostKey | None:
        # The name comes from a stranger: only a plain one is looked for.
        if not name or "/" in name or name.startswith(".") or "\0" in name or len(name) > 100:
            return None
        try:
            return HostKey.model_validate_json(read_regular(self._folder / f"{name}.json"))
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise self._error_of("read", error) from error

    def _write(self, key: HostKey) -> None:
        try:
            write_private(self._folder / f"{key.name}.json", key.model_dump_json().encode())
        except OSError as error:
            raise self._error_of("written", error) from error

    def _error_of(self, what: str, error: Exception) -> RoasError:
        reason = error.strerror if isinstance(error, OSError) else "its content is not what was written"
        return RoasError(
            f"The credentials of hosts in {self._folder} cannot be {what}: {reason};",
            advice="the folder must belong to this user.",
        )


def _hash(secret: str) -> str:
    # Not salted or slow: it is no password of a person but 256 random bits.
    return hashlib.sha256(secret.encode()).hexdigest()
