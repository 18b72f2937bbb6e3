"""Whether an environment belongs to this host: asked before each operation, settled by the first one."""

from __future__ import annotations

from tasks.runtime.hosts import has_other_hosts, introduce, refuse_elsewhere_now, refuse_owner
from tasks.runtime.retry_policy import make_async, retry_read, retry_write
from tasks.runtime.stores import open_stores

refuse_elsewhere = retry_read(make_async(refuse_elsewhere_now))


def _bind_here(environment: str) -> None:
    """Let an environment that no host has operated yet belong to this one.

    Raises:
        WrongHostError: Another host was faster.
        StoreError: The stores did not take it.
    """
    if has_other_hosts():
        refuse_owner(environment, open_stores().hosts.bind(environment, introduce()))


bind_here = retry_write(make_async(_bind_here))
