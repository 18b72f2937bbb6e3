"""Who looks at the page, and with what they signed in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """A person or program that is signed in."""

    name: str
    may_write: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A person who signs in with a password of their own. `password_hash` is salted scrypt, never the password."""

    name: str
    password_hash: str
    may_write: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser that is signed in. It ends early where `credential` is not what the viewer signs in with any more."""

    viewer: Viewer
    csrf: str
    """The token that each form of this session carries."""
    credential: str
