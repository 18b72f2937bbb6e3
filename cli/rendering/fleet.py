"""Text output of a fleet: its hosts, and its environments by host."""

from __future__ import annotations

from collections import Counter

from rich.markup import escape

from cli.rendering.console import ago, colour_state, say, show_table
from models.hosts import Fleet, Host

_SHOWN = 40
"""With more environments only those are listed that a user should look at."""


def show_fleet(fleet: Fleet) -> None:
    """Print hosts with their contact, version, clock and journal, then environments with their health."""
    if not fleet.hosts and not fleet.environments:
        say("No host and no environment is known yet; `roas serve` or the first start makes this host known.")
        return
    of_host = Counter(environment.host_id for environment in fleet.environments)
    rows = [
        (
            f"[bold]{escape(host.name)}[/bold]{' (this host)' if host.host_id == fleet.this_host else ''}",
            host.host_id,
            _contact(fleet, host),
            escape(host.version) or "-",
            f"[red]{host.clock_skew_seconds:+.1f} s[/red]"
            if fleet.has_skewed_clock(host)
            else f"{host.clock_skew_seconds:+.1f} s",
            str(host.backlog),
            str(of_host[host.host_id]),
            escape(host.engine) or "-",
        )
        for host in fleet.hosts
    ]
    if rows:
        show_table(("host", "id", "last contact", "version", "clock", "backlog", "environments", "engine"), rows)
    else:
        say(
            "No host is known yet: run `roas serve` or `roas worker` on the machine that has these environments. "
            "Another machine joins by `roas fleet invite NAME` on the control plane."
        )
    _show_environments(fleet)


def _contact(fleet: Fleet, host: Host) -> str:
    if host.dismissed_at is not None:
        return f"{ago(host.last_contact, fleet.at)}, none expected"
    return f"[red]silent, {ago(host.last_contact, fleet.at)}[/red]" if fleet.silent(host) else (
        ago(host.last_contact, fleet.at)
    )  # fmt: skip


def _show_environments(fleet: Fleet) -> None:
    names = {host.host_id: host.name for host in fleet.hosts}
    silent = {host.host_id for host in fleet.hosts if fleet.silent(host)}
    shown = [
        environment
        for environment in fleet.environments
        if len(fleet.environments) <= _SHOWN
        or environment.health not in ("healthy", "")
        or environment.alerts
        or environment.tickets
        or environment.host_id in silent
    ]
    rows = [
        (
            escape(environment.environment),
            escape(names.get(environment.host_id, environment.host_id)) or "-",
            colour_state(environment.health) if environment.health else "never judged",
            ago(environment.judged_at, fleet.at) if environment.judged_at else "-",
            str(environment.alerts),
            str(environment.tickets),
        )
        for environment in shown
    ]
    if rows:
        say("")
        show_table(("environment", "host", "health", "judged", "alerts", "tickets"), rows)
    if len(shown) < len(fleet.environments):
        say(f"\n{len(fleet.environments) - len(shown)} more are healthy; `roas fleet --json` lists all.")
