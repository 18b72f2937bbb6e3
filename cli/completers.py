"""Values that a shell may complete: what is declared and recorded. They read only, start nothing, and never fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

VARIABLE = "_ROAS_COMPLETE"
"""The variable by which the script of a shell asks for completions."""

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
_Names = Iterable[tuple[str, str]]


def _completer(names: Callable[[click.Context, str], _Names]) -> Completer:
    """A callback for click that answers with nothing where the names cannot be read."""

    def complete(context: click.Context, _parameter: click.Parameter, start: str) -> list[CompletionItem]:
        try:
            candidates = dict(names(context, start))
        except Exception:  # noqa: BLE001 - a message would be written into the line that the user types
            return []
        return [CompletionItem(name, help=note or None) for name, note in candidates.items() if name.startswith(start)]

    return complete


def _recorded_names(kind: str, context: click.Context, start: str) -> _Names:
    from adapters.recorded_names import recorded_names
    from models.settings import current_settings

    settings = current_settings()
    if settings.stores_url is not None:
        return []
    return recorded_names(kind, settings.data_dir, start, str(context.params.get("environment") or ""))


def _environments(context: click.Context, start: str) -> _Names:
    from adapters.config.environment_files import known_environments
    from models.settings import current_settings

    declared = [(name, "") for name in known_environments(current_settings())]
    return [*declared, *_recorded_names("environments", context, start)]


def _hosts(_context: click.Context, start: str) -> _Names:
    from adapters.recorded_names import recorded_hosts
    from models.settings import current_settings

    return recorded_hosts(current_settings(), start)


def _invited_hosts(_context: click.Context, _start: str) -> _Names:
    from datetime import UTC, datetime

    from adapters.server.host_keys import HostKeys
    from models.settings import current_settings

    now = datetime.now(UTC)
    return [(key.name, str(key.state(now))) for key in HostKeys(current_settings().prefect_home).all()]


def _services(context: click.Context, start: str) -> _Names:
    from adapters.config.environment_files import environment_files
    from adapters.config.service_names import service_names
    from models.settings import current_settings

    files = environment_files(current_settings())
    if named := context.params.get("environment"):
        files = {name: file for name, file in files.items() if name == named}
    declared = sorted({name for file in files.values() for name in service_names(file)})
    return [(name, "") for name in declared] or _recorded_names("services", context, start)


def _completer_of(*kinds: str) -> Completer:
    return _completer(
        lambda context, start: [candidate for kind in kinds for candidate in _recorded_names(kind, context, start)]
    )


def _schedules(context: click.Context, _start: str) -> _Names:
    from tasks.runtime.clients import find_environment

    declared = find_environment(str(context.params.get("environment") or "")).schedules
    return [(name, schedule.does) for name, schedule in declared.items()]


environments = _completer(_environments)
schedules = _completer(_schedules)
services = _completer(_services)
hosts = _completer(_hosts)
invited_hosts = _completer(_invited_hosts)
operations = _completer_of("operations")
releases = _completer_of("releases")
snapshots = _completer_of("snapshots")
tickets = _completer_of("tickets")
alerts = _completer_of("alerts")
failures = _completer_of("operations", "errors", "tickets")
"""What has a post-mortem."""
operations_or_environments = _completer(
    lambda context, start: [*_environments(context, start), *_recorded_names("operations", context, start)]
)
tickets_or_environments = _completer(
    lambda context, start: [*_environments(context, start), *_recorded_names("tickets", context, start)]
)
