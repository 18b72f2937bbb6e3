"""Move an environment from one host to another, where its host is silent or has released it."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from models.audit import Actor
from models.failures import BadInputError, EnvironmentBusyError
from models.hosts import Contact, Host
from tasks.runtime.hosts import introduce, this_host
from tasks.runtime.stores import open_stores

_ASKED_EVERY_SECONDS = 5


def refuse_move(environment: str) -> Host | None:
    """The host that an environment belongs to, where it may be moved from there; None where it belongs to no host.

    Raises:
        BadInputError: It belongs to this host already, or to one that is in contact.
        EnvironmentBusyError: An operation holds it.
        StoreError: The stores cannot be read.
    """
    stores, here = open_stores(), this_host()
    owner = stores.hosts.owner(environment)
    if owner == here.host_id:
        raise BadInputError(f"Environment {environment} belongs to this host, {here.name}, already.")
    lease = stores.leases.current(environment, datetime.now(UTC))
    if lease is not None:
        raise EnvironmentBusyError(
            f"Environment {environment} is held by {lease.holder} ({lease.reason}) "
            f"until {lease.expires_at:%H:%M:%S} UTC;",
            advice="wait for its end, or for the end of its lease if its process is gone.",
        )
    if owner is None:
        return None
    host = stores.hosts.find(owner)
    if host is None:
        now = stores.hosts.now()
        return Host(
            host_id=owner, name=owner, version="", engine="", first_contact=now, last_contact=now, dismissed_at=now
        )
    if host.is_in_contact(stores.hosts.now()):
        raise BadInputError(
            f"Environment {environment} belongs to host {host.label}, which is in contact;",
            advice=f"stop it there and release it first: roas stop {environment}; roas fleet leave {environment}.",
        )
    return host


def take_environment(environment: str, there: Host | None, actor: Actor) -> str:
    """Let an environment belong to this host; says what was done.

    From a host of which contact is expected it is taken only after a minute of silence while the stores answered:
    after an outage of the stores no host has reported yet, and every one looks silent.

    Raises:
        BadInputError: It was moved meanwhile, or its host is in contact again.
        EnvironmentBusyError: An operation holds it by now.
        StoreError: The stores did not take it.
    """
    here = introduce()
    if there is not None and there.dismissed_at is None:
        _see_silent(environment)
    if not open_stores().hosts.move(environment, here, instead_of=there.host_id if there else None, actor=actor):
        refuse_move(environment)
        raise BadInputError(f"Environment {environment} was moved meanwhile;", advice="`roas fleet` shows where it is.")
    came = f", and no more to {there.name}" if there else ""
    return f"{environment} belongs to host {here.name} from now on{came}; start it here: roas start {environment}"


def _see_silent(environment: str) -> None:
    """Return once the host of an environment was silent for as long as makes one silent, and the stores were there."""
    hosts = open_stores().hosts
    at = hosts.now()
    contact = Contact(since=at, last=at)
    while not contact.is_settled:
        time.sleep(_ASKED_EVERY_SECONDS)
        refuse_move(environment)
        contact = contact.renew(hosts.now())


def leave_environment(environment: str, actor: Actor) -> str:
    """Let an environment belong to no host; says what was done.

    Raises:
        BadInputError: It does not belong to this host.
        EnvironmentBusyError: An operation holds it.
        StoreError: The stores did not take it.
    """
    here = this_host()
    lease = open_stores().leases.current(environment, datetime.now(UTC))
    if lease is not None:
        raise EnvironmentBusyError(
            f"Environment {environment} is held by {lease.holder} ({lease.reason});", advice="wait for its end."
        )
    if not open_stores().hosts.let_go(environment, here, actor=actor):
        raise BadInputError(
            f"Environment {environment} does not belong to this host, {here.name};",
            advice="`roas fleet` shows where it belongs.",
        )
    return f"{environment} belongs to no host; the next one that operates it has it"
