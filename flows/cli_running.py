"""How `roas` commands run a flow and show an answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from models.settings import current_settings


def run_flow(run: Callable[[], Coroutine[Any, Any, Any]], *, quiet: bool = False) -> Any:
    """Run a flow on the API that is there, with our own log on the terminal and the engine's kept off it."""
    import asyncio

    from flows.embedded import prefect_api, wait_for_api
    from flows.terminal import narrate

    settings = current_settings()
    with prefect_api(settings) as patience:
        if not quiet:
            narrate("preparing the engine")
        import flows.operations  # noqa: F401 - imported while the temporary server starts

        wait_for_api(patience)
        from flows.terminal import send_log, speak_plainly

        with speak_plainly(quiet=quiet):
            try:
                return asyncio.run(run())
            finally:
                send_log()


def show_operation(deployment_id: str, json_wanted: bool) -> None:
    """Show an operation's record, as it stands in the stores."""
    from flows.rendering import show_deployment
    from tasks.reading import read_deployment

    show_answer(read_deployment(deployment_id), json_wanted, show_deployment)


def show_answer(value: Any, json_wanted: bool, for_people: Callable[[Any], None]) -> None:
    """Show a value: to a person, or to a program as JSON."""
    if json_wanted:
        from flows.rendering import print_json

        print_json(value)
    else:
        for_people(value)
