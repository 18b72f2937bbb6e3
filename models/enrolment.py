"""Enrolment: how a host becomes one of a control plane's."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from models.fields import Strict

HOST_NAME = r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$"
"""Names of hosts: a label of a DNS name, short enough for a work pool and a role of PostgreSQL."""

USER_PREFIX = "host-"
"""The user of a host's credential is this and the host's name, which is also the name of its work pool."""


def pool_of(user: str) -> str | None:
    """The work pool of the host whose credential has this user; None for a user who is no host."""
    return user if user.startswith(USER_PREFIX) and user != USER_PREFIX else None


def run_tag(pool: str) -> str:
    """The tag that runs get which a host begins without a deployment, by which they belong to it."""
    return f"on {pool}"


class KeyState(StrEnum):
    """State of a host's credential."""

    INVITED = "invited"
    ENROLLED = "enrolled"
    REVOKED = "revoked"
    EXPIRED = "expired"


class HostKey(Strict):
    """What the control plane keeps of one host's credential: hashes of its token and key, never these."""

    name: str = Field(pattern=HOST_NAME)
    pool: str
    token_hash: str | None = Field(default=None, repr=False)
    """SHA-256 of the token; None once it was used."""
    invited_at: datetime
    expires_at: datetime
    """When the token expires."""
    host: str | None = None
    """Identity of the host that used the token."""
    key_hash: str | None = Field(default=None, repr=False)
    enrolled_at: datetime | None = None
    revoked_at: datetime | None = None

    def state(self, now: datetime) -> KeyState:
        """Whether it was invited, is enrolled, was revoked, or its token expired unused."""
        if self.revoked_at is not None:
            return KeyState.REVOKED
        if self.key_hash is not None:
            return KeyState.ENROLLED
        return KeyState.INVITED if now < self.expires_at else KeyState.EXPIRED


class Invitation(BaseModel):
    """A new token; it is shown once."""

    model_config = ConfigDict(frozen=True)

    name: str
    token: str = Field(repr=False)
    expires_at: datetime


class EnrolRequest(Strict):
    """What a host sends with its token."""

    token: str = Field(repr=False, max_length=200)
    host: str = Field(max_length=100)
    """Its identity, so that it may ask again where the answer was lost."""
    version: str = Field(max_length=50)


class Membership(Strict):
    """What an enrolled host knows of its control plane. The file that holds it is private."""

    name: str = Field(pattern=HOST_NAME)
    pool: str
    server: str = ""
    """Address of the control plane, such as https://ops.example.com."""
    key: str = Field(repr=False)
    certificates: str | None = None
    """File with the certificates to trust, where it is not the machine's bundle."""
    stores_url: str | None = None
    stores_password: str | None = Field(default=None, repr=False)

    @property
    def auth_string(self) -> str:
        """USER:PASSWORD for the server's API."""
        return f"{self.pool}:{self.key}"
