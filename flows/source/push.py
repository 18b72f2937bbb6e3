"""Pushes: a git server says that a repository changed, and the environment's sync runs soon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextvars import copy_context
from datetime import UTC, datetime
from http import HTTPStatus

from httpx import HTTPError
from prefect import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound, PrefectException

from adapters.notifications.answer_server import AnswerPage
from adapters.notifications.push_signature import is_ping, is_signed
from flows.common.requester import PUSH
from flows.source.push_places import push_secret
from models.failures import RoasError

log = logging.getLogger("roas")

_REFUSED = AnswerPage(
    status=HTTPStatus.FORBIDDEN, title="Refused", text="There is no such place for pushes, or the signature is wrong."
)


class PushDesk:
    """Takes pushes, for a server that calls from threads of its own. Nothing of a body counts but its signature."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # The server calls from threads that know nothing of the settings of Prefect here.
        self._context = copy_context()

    def refusal(self, name: str, headers: Mapping[str, str], body: Iterable[bytes]) -> AnswerPage | None:
        """Return the refusal of a push; None where it is signed with the environment's secret."""
        try:
            secret = push_secret(name)
        except RoasError as error:
            log.warning("push for %s refused: %s", name, error.what)
            return _REFUSED
        # An unknown name takes as long as a known one.
        if not is_signed(headers, body, secret or "no secret") or not secret:
            log.warning("push for %s refused: no such environment with a webhook_secret, or a wrong signature", name)
            return _REFUSED
        return None

    def follow(self, name: str, headers: Mapping[str, str]) -> AnswerPage:
        """Ask for a sync of the environment."""
        if is_ping(headers):
            return AnswerPage(status=HTTPStatus.OK, title="Well", text=f"Pushes reach {name}.")
        future = self._context.copy().run(asyncio.run_coroutine_threadsafe, _ask_for_sync(name), self._loop)
        return future.result()


async def _ask_for_sync(name: str) -> AnswerPage:
    try:
        if await _waits(name):
            text = f"A sync of {name} waits already."
        else:
            await arun_deployment(f"sync/{name}", timeout=0, parameters={"asked_by": PUSH}, as_subflow=False)
            text = f"A sync of {name} runs soon."
    except ObjectNotFound:
        text = f"The Prefect server has no deployment sync/{name}: `roas serve` makes it."
        log.warning("push for %s: %s", name, text)
        return AnswerPage(status=HTTPStatus.SERVICE_UNAVAILABLE, title="Not asked for", text=text)
    except (HTTPError, PrefectException) as error:
        log.warning("push for %s: the Prefect server took no run: %s", name, type(error).__name__)
        text = "The Prefect server took no run."
        return AnswerPage(status=HTTPStatus.SERVICE_UNAVAILABLE, title="Not asked for", text=text)
    log.info("push for %s: %s", name, text)
    return AnswerPage(status=HTTPStatus.ACCEPTED, title="Taken", text=text)


async def _waits(name: str) -> bool:
    """Whether a sync is due that has not begun, so it will see this push too."""
    state_types = [StateType.SCHEDULED, StateType.PENDING]
    async with get_client() as client:
        runs = await client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["sync"])),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=state_types)),
                expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
            ),
            limit=1,
        )
    return bool(runs)
