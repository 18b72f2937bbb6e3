"""Who a request is from: a session of a browser, or a program with a password."""

from __future__ import annotations

import hmac
import threading
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from adapters.notifications.answer_server import RateLimit
from adapters.server.page_accounts import has_password, read_accounts
from adapters.server.page_sessions import PageSessions
from models.failures import RoasError
from models.page_access import Account, Session, Viewer

TRIES_A_MINUTE = 10
"""Of passwords, for each account; and of sign-ins by address, for each client."""

TRIES_OF_ALL = 100
"""A minute. The password of the server itself has 192 random bits, and is never refused for tries of others."""

_KNOWN_SECONDS = 60.0
_KNOWN_AT_MOST = 100


class TooManyTriesError(RoasError):
    """So many passwords were tried that this one is not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """Who signed in with a password, and with which credential: a session ends when that is no longer valid."""

    viewer: Viewer
    credential: str
    is_owner: bool = False
    """Whether with the password of the server itself."""


class Identity:
    """Finds out who a request is from. `auth_string` is the server's own USER:PASSWORD."""

    def __init__(self, home: Path, auth_string: str) -> None:
        self.sessions = PageSessions(home)
        self._home, self._auth_string = home, auth_string
        self._limit, self._limit_of_all = RateLimit(TRIES_A_MINUTE), RateLimit(TRIES_OF_ALL)
        self._known: dict[str, float] = {}
        self._hashing = threading.Lock()

    @property
    def own_credential(self) -> str:
        """What is noted of a session of the server's own password."""
        return _fingerprint(self._auth_string)

    def session(self, headers: Headers, cookie: str) -> tuple[str, Session] | None:
        """The token and session of a browser's cookie; None where there is none, or it ended.

        Raises:
            RoasError: Sessions or accounts cannot be read.
        """
        token = cookie_parser(headers.get("cookie", "")).get(cookie, "")
        session = self.sessions.find(token) if token else None
        if session is None or not self._is_valid(session):
            return None
        return token, session

    def check_password(self, name: str, password: str) -> SignedIn | None:
        """Who signs in with this name and password; None where they are wrong. The server's own line needs no name.

        Raises:
            TooManyTriesError: Too many were tried within a minute.
            RoasError: The accounts cannot be read.
        """
        own_name = self._auth_string.partition(":")[0]
        tried = [password, *([f"{name}:{password}"] if name else [])]
        # Both are compared, whatever the first says: the time says nothing about which one it was.
        if sum(_is_equal(text, self._auth_string) for text in tried):
            return SignedIn(viewer=Viewer(name=own_name, may_write=True), credential=self.own_credential, is_owner=True)
        account = next((account for account in read_accounts(self._home) if _is_equal(account.name, name)), None)
        if not self._has_password(account, name, password):
            return None
        assert account is not None  # noqa: S101 - without an account no password is right
        viewer = Viewer(name=account.name, may_write=account.may_write)
        return SignedIn(viewer=viewer, credential=_credential_of(account))

    def csrf_of(self, signed_in: SignedIn) -> str:
        """The token of the forms of one who has no session, such as a browser that a proxy asked for the password."""
        key = f"{self._auth_string}\n{signed_in.credential}".encode()
        return hmac.new(key, signed_in.viewer.name.encode(), sha256).hexdigest()

    def take_try(self, client: str) -> None:
        """Count a try to sign in by an address that works once.

        Raises:
            TooManyTriesError: Too many were tried within a minute.
        """
        if not (self._limit.take(f"address {client}") and self._limit_of_all.take("")):
            raise _too_many()

    def _has_password(self, account: Account | None, name: str, password: str) -> bool:
        # A program sends its password with each request, and the hash is slow on purpose.
        key = _fingerprint(f"{account.password_hash if account else ''}\n{password}")
        if account is not None and self._known.get(key, 0.0) > time.monotonic():
            return True
        if not (self._limit.take(f"account {name[:64]}") and self._limit_of_all.take("")):
            raise _too_many()
        # Each takes 16 MiB for a moment: side by side they would take the memory of the server.
        with self._hashing:
            is_right = has_password(account, password)
        if is_right:
            if len(self._known) >= _KNOWN_AT_MOST:
                self._known.clear()
            self._known[key] = time.monotonic() + _KNOWN_SECONDS
        return is_right

    def _is_valid(self, session: Session) -> bool:
        if session.credential == self.own_credential:
            return True
        viewer = session.viewer
        return any(
            account.name == viewer.name
            and account.may_write == viewer.may_write
            and _credential_of(account) == session.credential
            for account in read_accounts(self._home)
        )


def _credential_of(account: Account) -> str:
    return _fingerprint(f"{account.name}\n{account.password_hash}")


def _fingerprint(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _is_equal(text: str, expected: str) -> bool:
    return hmac.compare_digest(text.encode("utf-8", "surrogatepass"), expected.encode())


def _too_many() -> TooManyTriesError:
    return TooManyTriesError("Too many passwords were tried;", advice="wait a minute.")
