"""What an action would do to whom, as the command of the same name says it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.host.own_command import run_own_command
from core.runtime.page_actions import PageAction, Preview
from models.failures import BadInputError, NotFoundError, RoasError

_WITHIN_SECONDS = 120.0
"""The plan of an update asks registries, which may be slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is shown before an action is confirmed. `document` is what the command printed as JSON.

    `plan` is the id of a plan. `problem` says why nothing can be done; there is no button then.
    """

    document: Any = None
    plan: str = ""
    problem: str = ""


async def preview(action: PageAction, environment: str, fields: Mapping[str, str]) -> Shown:
    """Ask the command; nothing is changed."""
    try:
        words = _words(action, environment, fields)
        if words is None:
            return Shown()
        document = await _ask(words)
        _check_belonging(action, environment, fields, document)
    except RoasError as error:
        return Shown(problem=str(error))
    return Shown(document=document, plan=document.get("plan_id", "") if isinstance(document, dict) else "")


def _words(action: PageAction, environment: str, fields: Mapping[str, str]) -> list[str] | None:
    """The command that shows it; None where its words alone say what it does."""
    if action.preview is Preview.TICKET:
        return ["tickets", "--json", "--", fields["ticket"]]
    snapshot = [fields["snapshot"]] if "snapshot" in fields else []
    release = [fields["release"]] if "release" in fields else []
    with_data = ["--with-data"] if "with_data" in fields else []
    return {
        Preview.PLAN: ["plan", "--json", "--", environment],
        Preview.UPDATE_PLAN: ["plan", "--update", "--json", "--", environment],
        Preview.SERVICES: ["status", "--json", "--", environment],
        Preview.ROLLBACK: ["rollback", "--dry-run", *with_data, "--json", "--", environment, *release],
        Preview.RESTORE: ["snapshot", "restore", "--dry-run", "--json", "--", environment, *snapshot],
        Preview.SNAPSHOT: ["snapshot", "list", "--json", "--", environment],
        Preview.ALERT: ["alerts", "--json", "--", environment],
    }.get(action.preview)


async def _ask(words: list[str]) -> Any:
    try:
        async with asyncio.timeout(_WITHIN_SECONDS):
            result = await run_own_command(words, variables={}, report=lambda _line: None)
    except TimeoutError as error:
        raise RoasError(
            f"`roas {words[0]}` took more than {_WITHIN_SECONDS:.0f} s;", advice="run it in a terminal to see why."
        ) from error
    if result.code != 0:
        raise BadInputError(result.error or f"`roas {words[0]}` ended with exit code {result.code}.")
    return json.loads(result.out)


def _check_belonging(action: PageAction, environment: str, fields: Mapping[str, str], document: Any) -> None:
    """Check that what a link names is the environment's own.

    Raises:
        NotFoundError: It is not.
    """
    is_ticket = action.preview is Preview.TICKET
    if is_ticket and not (isinstance(document, dict) and document["ticket"]["environment"] == environment):
        raise NotFoundError(f"Ticket {fields['ticket']} is not of {environment}.")
    if action.preview is Preview.ALERT and fields.get("alert") not in {alert["alert_id"] for alert in document}:
        raise NotFoundError(f"There is no open alert {fields.get('alert', '')} of {environment}.")
