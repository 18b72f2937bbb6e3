"""This host: its identity, its contact with the stores, and whether an environment belongs to it."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import lru_cache
from importlib import metadata

from adapters.host.identity import host_identity
from models.failures import StoreError, WrongHostError
from models.hosts import Host, HostIdentity
from models.operations import Operation
from models.settings import current_settings
from tasks.runtime.stores import open_stores, stores_exist

log = logging.getLogger("roas")

_PACKAGE = "roas-ops"


def this_host() -> HostIdentity:
    """The identity of this host, made at the first use.

    Raises:
        StoreError: It cannot be kept in the data folder.
    """
    settings = current_settings()
    return host_identity(settings.data_dir.absolute(), settings.host_name)


def has_other_hosts() -> bool:
    """Whether other hosts can have the same stores: those in files are one host's."""
    return current_settings().stores_url is not None


def report_contact(*, engine: str = "", backlog: int = 0) -> Host:
    """Record that this host is in contact; every process that runs all the time calls it each `CONTACT_EVERY`.

    `engine` is the address of its Docker engine, `backlog` the number of writes that wait in its journal. The answer
    has the skew of this host's clock against the database's.

    Raises:
        StoreError: The stores did not take it, so there was no contact.
    """
    return open_stores().hosts.report(this_host(), version=own_version(), engine=engine, backlog=backlog)


def introduce() -> HostIdentity:
    """Make this host known by its name to the others, without contact: for a command that ends.

    Raises:
        StoreError: The stores did not take it.
    """
    here = this_host()
    if has_other_hosts():
        open_stores().hosts.introduce(here, version=own_version())
    return here


@lru_cache(maxsize=1)
def own_version() -> str:
    """The version of this program; empty where it runs from a checkout that is not installed."""
    try:
        return metadata.version(_PACKAGE)
    except metadata.PackageNotFoundError:
        return ""


def refuse_elsewhere_now(environment: str) -> None:
    """Refuse an environment that belongs to another host; nothing is recorded of it.

    Raises:
        WrongHostError: It belongs to another host; the message names it.
        StoreError: The stores cannot be read.
    """
    if has_other_hosts() and stores_exist():
        refuse_owner(environment, open_stores().hosts.owner(environment))


def refuse_resume(operation: Operation) -> None:
    """Refuse to continue an operation that another host ran: its finished steps are none of this host.

    Raises:
        WrongHostError: Another host ran it; the environment was moved since.
    """
    here = this_host()
    if has_other_hosts() and operation.host_id not in ("", here.host_id):
        raise WrongHostError(
            f"Deployment {operation.deployment_id} ran on another host, {operation.host_id}, and this host is "
            f"{here.name};",
            advice="its finished steps are not of this host. Start again: "
            f"roas {operation.kind} {operation.environment}.",
        )


def refuse_owner(environment: str, owner: str | None) -> None:
    """Refuse where the host that an environment belongs to is known and is another one.

    Raises:
        WrongHostError: It is.
    """
    here = this_host()
    if not has_other_hosts() or owner in (None, here.host_id):
        return
    host = None
    with suppress(StoreError):
        # While the stores are away its id must do.
        host = open_stores().hosts.find(owner or "")
    there = host.name if host is not None else str(owner)
    named = there if there != here.name else f"{there} ({owner})"
    this = here.name if there != here.name else f"{here.name} ({here.host_id})"
    silent = f" (silent since {host.silent_since:%Y-%m-%d %H:%M} UTC)" if host and host.silent_since else ""
    raise WrongHostError(
        f"Environment {environment} belongs to host {named}{silent}, and this host is {this};",
        advice=f"run the command on {there}, or move the environment here: roas fleet take {environment}.",
    )
