"""The stores of a control plane as its hosts reach them: each host by a role of its own, for what is its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from adapters.server.host_keys import HostKeys
from models.failures import RoasError
from models.settings import current_settings

log = logging.getLogger("roas")

_AGAIN_SECONDS = 15.0
_LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class StoresAccess:
    """How enrolled hosts reach the stores: the address, and the password where there is one."""

    url: str | None = None
    password: str | None = field(default=None, repr=False)


class StoresOfHosts:
    """The stores of this control plane as its hosts reach them: each host by a role of its own."""

    def access(self, role: str, host_id: str) -> StoresAccess:
        """Make a host's role, where hosts are given the stores at all.

        Raises:
            RoasError: The role cannot be made.
        """
        settings = current_settings()
        if settings.hosts_stores_url is None:
            return StoresAccess()
        # The driver is needed here alone.
        from adapters.server.store_roles import make_role

        url = urlsplit(settings.hosts_stores_url)
        place = url.netloc.rpartition("@")[2]
        return StoresAccess(urlunsplit(url._replace(netloc=f"{role}@{place}")), make_role(settings, role, host_id))

    def end(self, role: str) -> None:
        """Let a host reach the stores no longer.

        Raises:
            RoasError: The role cannot be ended.
        """
        settings = current_settings()
        if settings.hosts_stores_url is not None:
            from adapters.server.store_roles import end_role

            end_role(settings, role)

    def restrict(self, keys: HostKeys) -> None:
        """Let hosts that enrolled at an earlier version write only what is their own, too, and none hold up the others.

        In threads of their own, since who holds a lock delays the first. Where the stores are away it is tried again.
        """
        if current_settings().hosts_stores_url is None:
            return
        # The driver is needed here alone.
        from adapters.server.store_roles import end_blockers, restrict_roles

        never = threading.Event()
        for problem, work in {
            "hosts may write records of others": lambda: restrict_roles(current_settings(), _hosts_by_role(keys)),
            "a host may hold up the others": lambda: end_blockers(
                current_settings(), lambda: never.wait(_LOOK_SECONDS)
            ),
        }.items():
            threading.Thread(target=_try_until_done, args=(work, problem), name="host-roles", daemon=True).start()


def _try_until_done(work: Callable[[], None], problem: str) -> None:
    last_error = ""
    while True:
        try:
            work()
        except RoasError as error:
            if str(error) != last_error:
                last_error = str(error)
                log.error("%s until this is done: %s %s", problem, error, error.advice or "")
            threading.Event().wait(_AGAIN_SECONDS)
        else:
            return


def _hosts_by_role(keys: HostKeys) -> dict[str, str]:
    """The host's id of each role; of several that a host had, the one that works, or was made last."""
    enrolled = [key for key in keys.all() if key.host is not None]
    enrolled.sort(key=lambda key: (key.revoked_at is None, key.enrolled_at or key.invited_at))
    return {role: str(host) for host, role in {key.host: key.pool for key in enrolled}.items()}
