"""What an action would do to whom, as the command of the same name says it.

Where a server reaches no engine, a run on the environment's host asks the command there, and is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from adapters.server.page_sessions import FORM_SECONDS
from core.runtime.page_actions import (
    PREVIEW_ARTIFACT,
    RUN_PREVIEWS,
    PageAction,
    Preview,
    preview_parameters,
    preview_words,
)
from flows.page.host_waits import NOT_BEGUN, has_begun, host_wait
from flows.page.prefect_runs import PrefectRuns
from models.failures import NotFoundError, RoasError
from tasks.runtime.command_documents import ask_command

_FLOW = "preview"
_WAITS_SECONDS = 120.0
"""For a run on the host to answer."""

_SAME_RUN_SECONDS = 10
"""So long the same question leads to the same run, so that reloading the first address begins no more."""

_IN_WORK = (*NOT_BEGUN, "RUNNING", "CANCELLING", "PAUSED")
_NEEDED = {
    Preview.PLAN: {"plan_id", "services", "fetches", "hooks", "release_notes", "orphans"},
    Preview.UPDATE_PLAN: {"plan_id", "services", "fetches", "hooks", "release_notes", "orphans"},
    Preview.ROLLBACK: {"release_id", "proven_at", "later_releases", "data"},
    Preview.RESTORE: {"snapshot_id", "proof", "loss", "changes"},
}
"""Fields of a host's document that this page shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is shown before an action is confirmed. `document` is what the command printed as JSON.

    `plan` is the id of a plan. `problem` says why nothing can be done; there is no button then. `waits` says what is
    waited for; there is no document yet. `run` is the id of the run that finds it out, empty where none does.
    """

    document: Any = None
    plan: str = ""
    problem: str = ""
    waits: str = ""
    run: str = ""


class Previews:
    """Finds out what actions would do; nothing is changed. `by_runs` says whether the server has runs done."""

    def __init__(self, runs: PrefectRuns, by_runs: bool) -> None:
        self._runs, self._by_runs = runs, by_runs

    async def begin(self, action: PageAction, environment: str, fields: Mapping[str, str], session: str) -> str:
        """Let the environment's host find it out; the id of the run. Empty where this machine is asked.

        `session` is a secret of who asks: the runs of others are not theirs.

        Raises:
            RoasError: The server does not say.
        """
        deployment = await self._deployment(action, environment)
        if deployment is None:
            return ""
        parameters = preview_parameters(action, environment, fields)
        moment = int(time.time() // _SAME_RUN_SECONDS)
        key = sha256(f"{session} {sorted(parameters.items())} {moment}".encode("utf-8", "surrogatepass")).hexdigest()
        name = f"preview of {action.name} of {environment}"
        return await self._runs.create(deployment["id"], parameters, f"preview {key}", name)

    async def read(self, action: PageAction, environment: str, fields: Mapping[str, str], run_id: str) -> Shown:
        """What it would do, as far as it is known: by a run that was begun for it, or by a command of this machine."""
        try:
            if run_id:
                return await self._read_run(action, environment, fields, run_id)
            words = preview_words(action, environment, fields)
            if words is None:
                return Shown()
            document = await ask_command(words)
            _check_belonging(action, environment, fields, document)
        except RoasError as error:
            return Shown(problem=str(error), run=run_id)
        return Shown(document=document, plan=_plan(document))

    async def away(self, action: PageAction, environment: str) -> str:
        """Why a run that does an action would not begin now; empty where it would, where this machine does it, and
        where the server or the stores do not say.
        """
        if not (self._by_runs and action.flow):
            return ""
        with suppress(RoasError):
            deployment = await self._runs.deployment(action.flow, environment)
            if pool := (deployment or {}).get("work_pool_name"):
                wait = await host_wait(self._runs, environment, str(pool), datetime.now(UTC))
                return wait.words() if wait.is_away else ""
        return ""

    async def _deployment(self, action: PageAction, environment: str) -> dict[str, Any] | None:
        """The deployment of the flow that finds it out on a host; None where this machine is the host."""
        if not self._by_runs or action.preview not in RUN_PREVIEWS:
            return None
        deployment = await self._runs.deployment(_FLOW, environment)
        # `roas serve` does its runs itself, without a work pool: there the command is as good, and quicker.
        return deployment if deployment and deployment.get("work_pool_name") else None

    async def _read_run(self, action: PageAction, environment: str, fields: Mapping[str, str], run_id: str) -> Shown:
        deployment, run = await self._deployment(action, environment), await self._runs.read(run_id)
        about = preview_parameters(action, environment, fields)
        is_about = run["parameters"].items() <= about.items() and about.get("with_data") == run["parameters"].get(
            "with_data"
        )
        if deployment is None or run.get("deployment_id") != deployment["id"] or not is_about:
            raise NotFoundError("This address names no preview of this action;", advice="take a link of the page.")
        age = (datetime.now(UTC) - datetime.fromisoformat(run["created"])).total_seconds()
        state = run.get("state") or {}
        if age > FORM_SECONDS:
            raise NotFoundError("This preview is too old;", advice="ask for it anew.")
        if state.get("type", NOT_BEGUN[0]) in _IN_WORK:
            return await self._waiting(run, environment, str(deployment["work_pool_name"]))
        answer = await self._runs.artifact(run_id, PREVIEW_ARTIFACT) if state["type"] == "COMPLETED" else None
        if not isinstance(answer, dict):
            reason = state.get("message") or "it left no answer."
            raise RoasError(f"The run on the host ended as {state.get('name')}: {reason}")
        document = answer.get("document")
        if document is None:
            raise RoasError(str(answer.get("problem")))
        if not (isinstance(document, dict) and _NEEDED[action.preview] <= document.keys()):
            raise RoasError("The host's answer cannot be read here;", advice="is ROAS Ops there of another version?")
        return Shown(document=document, plan=_plan(document), run=run_id)

    async def _waiting(self, run: Mapping[str, Any], environment: str, pool: str) -> Shown:
        """What is waited for; a run that no worker takes is cancelled in the end.

        Raises:
            RoasError: It took too long.
        """
        wait = await host_wait(self._runs, environment, pool, datetime.fromisoformat(run["created"]))
        words = f"{wait.subject} finds out what would be done." if has_begun(run) else wait.words()
        left = _WAITS_SECONDS - wait.waited.total_seconds()
        if left > 0:
            return Shown(waits=f"{words} This page shows its answer, and waits {left:.0f} s more.", run=run["id"])
        if not has_begun(run):
            await self._runs.cancel(run["id"])
        raise RoasError(f"There is no answer after {_WAITS_SECONDS:.0f} s. {words}", advice="")


def _plan(document: Any) -> str:
    return str(document.get("plan_id", "")) if isinstance(document, dict) else ""


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
