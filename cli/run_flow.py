"""Run a flow and show its result, for `roas` commands."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from models.failures import BadInputError, RoasError
from models.settings import current_settings

if TYPE_CHECKING:
    from adapters.stores import Stores
    from flows.common.phases import PhaseClock


def run_flow(
    run: Callable[[], Coroutine[Any, Any, Any]], *, quiet: bool = False, only_errors: bool = False, live: bool = False
) -> Any:
    """Run a flow on the configured API or a temporary server, with our log but not Prefect's on the terminal.

    `quiet` prints nothing of the log, `only_errors` nothing below an error. `live` shows starts live where that is
    a terminal.
    """
    import asyncio

    from adapters.host.background import call_in_background
    from core.reporting.timing import Phase
    from flows.common.phases import begin_phase, time_phase
    from flows.common.terminal import narrate, shows_live
    from flows.server.embedded import START_WITHIN, prefect_api, wait_for_api

    settings = current_settings()
    check_api_url()
    with ExitStack() as stack:
        with time_phase(Phase.SERVER):
            timeout = stack.enter_context(prefect_api(settings))
        if not quiet and not only_errors:
            narrate("loading Prefect")
        answers = call_in_background(wait_for_api, timeout)
        if timeout < START_WITHIN:
            # A temporary server starts during the import; an unreachable one is reported before it.
            with time_phase(Phase.SERVER):
                answers.result()
        _import_flows()
        with time_phase(Phase.SERVER):
            answers.result()
        from flows.common.terminal import send_log, speak_plainly

        log = stack.enter_context(speak_plainly(quiet=quiet, level=logging.ERROR if only_errors else logging.INFO))
        if live and not quiet and not only_errors and shows_live():
            from cli.rendering.live_start import start_display

            stack.enter_context(start_display(log))
        stack.enter_context(_report_api_failures())
        try:
            return asyncio.run(run())
        finally:
            send_log()
            begin_phase(None)


def flow_run(kind: str, /, *arguments: Any, **parameters: Any) -> Callable[[], Coroutine[Any, Any, Any]]:
    """A run of the flow that a person knows by this word, or Prefect by this name; it is imported as it runs."""

    async def run() -> Any:
        from flows.registry import FLOWS

        flow: Callable[..., Any] = ({flow.name: flow for flow in FLOWS.values()} | FLOWS)[kind]
        return await flow(*arguments, **parameters)

    return run


def ended_run(kind: str, /, *arguments: Any, **parameters: Any) -> Callable[[], Coroutine[Any, Any, Any]]:
    """As `flow_run`, with the state and the result, None where it was ended by force; a failure is not raised."""
    run = flow_run(kind, *arguments, return_state=True, **parameters)

    async def end() -> Any:
        state = await run()
        # What failed before an operation was recorded is reported by its error alone.
        is_final = state.is_failed() or state.is_completed()
        return state, await state.result(raise_on_failure=False) if is_final else None

    return end


def opened_stores() -> Stores:
    """The stores, for a command that needs them: their import takes longer than most commands."""
    from tasks.runtime.stores import open_stores

    return open_stores()


def check_api_url() -> None:
    """Refuse an unusable PREFECT_API_URL before anything waits for an answer.

    Raises:
        BadInputError: It is not an http address, or contains a password.
    """
    url = os.environ.get("PREFECT_API_URL", "")
    try:
        parts = urlsplit(url)
        # Reading the port checks it; an invalid host name fails to encode.
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:
        usable = False
    if url and not (usable and url.isascii() and url.isprintable() and " " not in url):
        # The address is not repeated: a password may be part of it.
        raise BadInputError(
            "PREFECT_API_URL is not the address of a Prefect API;", advice="give one like http://127.0.0.1:4200/api."
        )
    if "@" in parts.netloc:
        raise BadInputError(
            "PREFECT_API_URL holds a user or a password;",
            advice="take them out, and set PREFECT_API_AUTH_STRING=USER:PASSWORD.",
        )


def _import_flows() -> None:
    """Import the flows, and with them Prefect, while the temporary server starts.

    Raises:
        BadInputError: One of Prefect's own settings cannot be used.
    """
    from pydantic import ValidationError

    from flows.server.engine_settings import take_settings_over

    try:
        take_settings_over()
        import flows.registry  # noqa: F401
    except ValidationError as error:
        mistake = error.errors(include_url=False, include_input=False)[0]
        raise BadInputError(
            f"A setting of Prefect cannot be used, {'.'.join(map(str, mistake['loc']))}: {mistake['msg']};",
            advice="correct the PREFECT_ variable or the profile it comes from.",
        ) from error


class _ApiLostError(RoasError):
    """The Prefect API stopped answering, or refused a request, during a run: what was done may be on record."""


@contextmanager
def ask_the_record(environment: str, json_wanted: bool, *, only_outcome: bool = False) -> Iterator[None]:
    """Let the record say how this process's operation ended where the Prefect API was lost before its run did.

    Raises:
        RoasError: The API was lost, and the record does not say how it ended either.
    """
    try:
        yield
    except _ApiLostError as lost:
        from adapters.host.processes import this_process
        from flows.common.terminal import echo
        from models.operations import OperationStatus
        from tasks.reporting.read import ended_operation_of

        operation = ended_operation_of(environment, this_process())
        if operation is None:
            raise
        echo(f"roas: {lost.what} The operation has ended all the same; its record says how.", err=True)
        show_operation(operation.deployment_id, json_wanted, only_outcome=only_outcome)
        sys.exit(0 if operation.status is OperationStatus.SUCCESS else 1)


@contextmanager
def _report_api_failures() -> Iterator[None]:
    """Report that the Prefect API stopped answering or refused a request during a run."""
    from httpx import HTTPStatusError, TransportError
    from packaging.version import InvalidVersion

    try:
        yield
    except HTTPStatusError as error:
        advice = "does it know this user (PREFECT_API_AUTH_STRING), and is it of the same version?"
        raise _ApiLostError(
            f"Prefect API at {_api()} answered {error.response.status_code} {error.response.reason_phrase} to "
            f"{error.request.method} {error.request.url.path};",
            advice=_LOOK_AT_SERVER if error.response.is_server_error else advice,
        ) from error
    except InvalidVersion as error:
        raise RoasError(f"No Prefect API answers at {_api()}: {error};", advice="correct PREFECT_API_URL.") from error
    except TransportError as error:
        raise _server_gone(str(error) or type(error).__name__) from error
    except RuntimeError as error:
        if not str(error).startswith("Failed to reach API"):
            raise
        raise _server_gone(str(error.__cause__ or "")) from error


def _server_gone(cause: str) -> RoasError:
    return _ApiLostError(
        f"Prefect API at {_api()} stopped answering{f' ({cause})' if cause else ''};", advice=_LOOK_AT_SERVER
    )


_LOOK_AT_SERVER = "does its server still run? `roas status` shows what was recorded."


def _api() -> str:
    parts = urlsplit(os.environ.get("PREFECT_API_URL", ""))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def show_operation(
    deployment_id: str, json_wanted: bool, *, only_outcome: bool = False, clock: PhaseClock | None = None
) -> None:
    """Show an operation's stored record, or only how it ended; with a clock also where its time went."""
    from cli.rendering.results import print_json, show_deployment, show_outcome, show_timing
    from models.operations import OperationStatus
    from tasks.reporting.read import read_cause, read_deployment

    details = read_deployment(deployment_id)
    if json_wanted:
        print_json(details, **({} if clock is None else {"timing": clock.timing().figures()}))
        return
    cause = read_cause(deployment_id) if details.operation.status is OperationStatus.FAILED else None
    (show_outcome if only_outcome else show_deployment)(details, cause)
    if clock is not None:
        show_timing(clock.timing())


def show_answer(value: Any, json_wanted: bool, show: Callable[[Any], None]) -> None:
    """Print a value as text, or as JSON for programs."""
    if json_wanted:
        from cli.rendering.results import print_json

        print_json(value)
    else:
        show(value)
