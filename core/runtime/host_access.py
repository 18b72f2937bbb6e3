"""What the credential of a host allows on the control plane: its own work pool, and what belongs to that.

Whatever is not listed is refused. A request that names a thing is allowed where the thing belongs to the host's work
pool; `claims_of` returns those things, and who serves the request looks up to whom they belong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from models.enrolment import USER_PREFIX, run_tag

CHANNEL_SEPARATOR = "--"
"""Stands between the owner of a notification channel, a host or `fleet` for all of them, and the rest of its name.

Hyphens may be inside of a host's name, so the last two end it: host a reads no channel of host a-b, or of a--b.
"""
SHARED_CHANNELS = "fleet"

ENVIRONMENT_FACT = "roas.environment"
"""What names the environment of a page or an event."""

EVENTS_IN = "/events/in"
EVENTS_OUT = "/events/out"

_SEARCHES = ("/flow_runs/filter", "/flow_runs/count", "/deployments/filter")
_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NAME = r"[^/]+"
_MAX_CLAIMS = 1000


class Belonging(StrEnum):
    """A kind of thing that belongs to a host."""

    DEPLOYMENT = "deployment"
    DEPLOYMENT_NAME = "deployment_name"
    """FLOW/NAME, as a person types it."""
    NEW_DEPLOYMENT = "new_deployment"
    """FLOW_ID/NAME of one that is made or brought up to date."""
    FLOW_RUN = "flow_run"
    TASK_RUN = "task_run"
    WORK_QUEUE = "work_queue"
    ARTIFACT = "artifact"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class Claim:
    """That a thing belongs to the host that names it."""

    kind: Belonging
    value: str
    may_be_new: bool = False
    """Whether it need not be there: then it is made by this request, or later, or belongs to no host."""


class AccessRefusedError(Exception):
    """A request that no host may make; its text says why."""


def claims_of(method: str, path: str, body: bytes, pool: str) -> frozenset[Claim]:
    """What must belong to a host for this request of its to be allowed; `path` begins with the slash after /api.

    Raises:
        AccessRefusedError: The request is none that a host may make, or its body cannot be read.
    """
    for rule in _RULES:
        if method in rule.methods and (match := rule.path.fullmatch(path)) is not None:
            try:
                return frozenset(rule.claims(_Request(match.groups(), body, pool)))
            except (TypeError, AttributeError):
                raise AccessRefusedError("the body has not the shape that it should") from None
    raise AccessRefusedError(f"{method} {path} is not for hosts")


def narrow_body(method: str, path: str, body: bytes, pool: str) -> bytes:
    """The body with which a request is passed on: a search finds what the host's pool has, and a run is the host's.

    A run without deployment is in no pool, so a tag shows whose it is. The host's own client must not set it: Prefect
    would ask for a concurrency slot by each tag, at each task.

    Raises:
        AccessRefusedError: The body cannot be read.
    """
    if method == "POST" and path in _SEARCHES:
        return json.dumps({**_object(body or b"{}"), "work_pools": {"name": {"any_": [pool]}}}).encode()
    new, changed = (method, path) == ("POST", "/flow_runs/"), method == "PATCH" and path.startswith("/flow_runs/")
    if method == "POST" and (new or path.endswith("/create_flow_run")):
        # A server answers a key that it knows with the run that has it, of whatever host, where the flow is the same.
        key = _object(body or b"{}").get("idempotency_key")
        body = body if key is None else json.dumps({**_object(body), "idempotency_key": f"{pool} {key}"}).encode()
    if new or (changed and "tags" in _object(body)):
        fields = _object(body)
        other_tags = [tag for tag in fields.get("tags") or () if not str(tag).startswith(run_tag(""))]
        return json.dumps({**fields, "tags": [*other_tags, run_tag(pool)]}).encode()
    return body


def environment_of_page(artifact: Mapping[str, Any]) -> str | None:
    """The environment of a page that an agent shows of its watch, which no run made; None where it is no such page."""
    facts = artifact.get("metadata_")
    name = facts.get(ENVIRONMENT_FACT) if isinstance(facts, dict) else None
    if not isinstance(name, str) or artifact.get("flow_run_id") or artifact.get("task_run_id"):
        return None
    shown = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    return name if artifact.get("key") == f"watch-{shown}" else None


def may_open_socket(path: str, pool: str) -> bool:
    """Whether a host may open the socket at `path`: that of its own worker, and those of events, which are sifted."""
    return path in (EVENTS_IN, EVENTS_OUT, f"/work_pools/{pool}/workers/connect")


def event_claims(text: str) -> frozenset[Claim]:
    """What must belong to a host for an event of its to be allowed; the event as JSON.

    Raises:
        AccessRefusedError: The event concerns what no host speaks for, or cannot be read.
    """
    return frozenset(_claims_of_event(_read(text.encode())))


@dataclass(frozen=True, slots=True)
class _Request:
    words: tuple[str, ...]
    body: bytes
    pool: str

    def object(self) -> Mapping[str, Any]:
        return _object(self.body)

    def objects(self) -> Sequence[Mapping[str, Any]]:
        read = _read(self.body)
        if not isinstance(read, list) or not all(isinstance(item, dict) for item in read) or len(read) > _MAX_CLAIMS:
            raise AccessRefusedError(f"the body must be a list of at most {_MAX_CLAIMS} JSON objects")
        return read


@dataclass(frozen=True, slots=True)
class _Rule:
    methods: tuple[str, ...]
    path: re.Pattern[str]
    claims: Callable[[_Request], Iterator[Claim]]


def _read(body: bytes) -> Any:
    try:
        return json.loads(body, object_hook=_without_template)
    except (ValueError, RecursionError):
        raise AccessRefusedError("the body is not JSON") from None


def _without_template(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse what Prefect would fill in with variables of the control plane or parts of an event."""
    if "__prefect_kind" in value:
        raise AccessRefusedError("a host gives values, and no templates (__prefect_kind)")
    return value


def _object(body: bytes) -> Mapping[str, Any]:
    read = _read(body)
    if not isinstance(read, dict):
        raise AccessRefusedError("the body must be one JSON object")
    return read


def _no_claims(_: _Request) -> Iterator[Claim]:
    yield from ()


def _claim_by_id(kind: Belonging, value: object, *, may_be_new: bool = False) -> Claim:
    """A claim on a thing by its id, in the one form in which it is looked up and then used."""
    if not isinstance(value, str) or not re.fullmatch(_ID, value):
        raise AccessRefusedError(f"the id of a {kind.value.replace('_', ' ')} is a UUID of 36 lower-case characters")
    return Claim(kind, value, may_be_new)


_ID_FIELDS = {
    "flow_run_id": Belonging.FLOW_RUN,
    "child_flow_run_id": Belonging.FLOW_RUN,
    "task_run_id": Belonging.TASK_RUN,
    "parent_task_run_id": Belonging.TASK_RUN,
    "deployment_id": Belonging.DEPLOYMENT,
}
_OF_ANOTHER_STORE = ("infrastructure_document_id", "storage_document_id")
_FREE_FIELDS = frozenset(
    {
        *("parameters", "parameter_openapi_schema", "data", "metadata_", "context", "labels"),
        *("job_variables", "task_inputs"),
    }
)
"""In these a program writes what it likes, and the server reads no ids: a flow may have a parameter deployment_id."""


def _ids_in(value: Any) -> Iterator[Claim]:
    """Claims on all that a body names by id, at any depth: an object that exists must be the host's."""
    if isinstance(value, list):
        for item in value:
            yield from _ids_in(item)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if inner is None or name in _FREE_FIELDS:
                continue
            if name in _OF_ANOTHER_STORE:
                raise AccessRefusedError(f"{name} names a block, which is the control plane's")
            if name in _ID_FIELDS:
                yield _claim_by_id(_ID_FIELDS[name], inner, may_be_new=True)
            else:
                yield from _ids_in(inner)


def _claims_by_name(kind: Belonging) -> Callable[[_Request], Iterator[Claim]]:
    def claims(request: _Request) -> Iterator[Claim]:
        yield Claim(kind, request.words[0])
        if request.body:
            yield from _ids_in(_read(request.body))

    return claims


def _own_pool(request: _Request) -> Iterator[Claim]:
    _only_own_pool(request.words[0], request.pool)
    yield from ()


def _only_own_pool(name: object, pool: str) -> None:
    if name != pool:
        raise AccessRefusedError(f"the work pool {name} belongs to another host")


def _change_of_deployment(request: _Request) -> Iterator[Claim]:
    if (name := request.object().get("work_pool_name")) is not None:
        _only_own_pool(name, request.pool)
    yield Claim(Belonging.DEPLOYMENT, request.words[0])
    yield from _ids_in(request.object())


def _new_deployment(request: _Request) -> Iterator[Claim]:
    fields = request.object()
    _only_own_pool(fields.get("work_pool_name"), request.pool)
    flow, name = fields.get("flow_id"), fields.get("name")
    if not isinstance(flow, str) or not re.fullmatch(_ID, flow) or not isinstance(name, str) or "/" in name:
        raise AccessRefusedError("a deployment has the id of its flow, in lower case, and a name without /")
    yield Claim(Belonging.NEW_DEPLOYMENT, f"{flow}/{name}", may_be_new=True)
    yield from _ids_in(fields)


def _new_run(request: _Request) -> Iterator[Claim]:
    fields = request.object()
    if fields.get("work_pool_name") is not None:
        _only_own_pool(fields["work_pool_name"], request.pool)
    if (deployment := fields.get("deployment_id")) is not None:
        yield _claim_by_id(Belonging.DEPLOYMENT, deployment)
    if (parent := fields.get("parent_task_run_id")) is not None:
        yield _claim_by_id(Belonging.TASK_RUN, parent)
    yield from _ids_in(fields)


def _new_task_run(request: _Request) -> Iterator[Claim]:
    fields = request.object()
    yield from _claims_in_run(fields)
    if fields.get("id") is not None:
        yield _claim_by_id(Belonging.TASK_RUN, fields["id"], may_be_new=True)


def _claims_of_flow_runs(request: _Request) -> Iterator[Claim]:
    for line in request.objects():
        # A worker's own lines belong to no run.
        if line.get("flow_run_id") is not None or line.get("task_run_id") is not None:
            yield from _claims_in_run(line)


def _claims_in_run(fields: Mapping[str, Any]) -> Iterator[Claim]:
    """The run of a flow must be there; the run of a task may come to be later, where its flow's is named."""
    if (run := fields.get("flow_run_id")) is not None:
        yield _claim_by_id(Belonging.FLOW_RUN, run)
    elif (task := fields.get("task_run_id")) is not None:
        yield _claim_by_id(Belonging.TASK_RUN, task)
    else:
        raise AccessRefusedError("it must name the run that it belongs to")
    yield from _ids_in(fields)


def _new_artifact(request: _Request) -> Iterator[Claim]:
    fields = request.object()
    environment = environment_of_page(fields)
    if environment is None:
        yield from _claims_in_run(fields)
    else:
        yield Claim(Belonging.ENVIRONMENT, environment)


def _new_automation(request: _Request) -> Iterator[Claim]:
    fields = request.object()
    kind, _, deployment = str(fields.get("owner_resource")).rpartition(".")
    if kind != "prefect.deployment":
        raise AccessRefusedError("an automation of a host belongs to one of its deployments")
    yield _claim_by_id(Belonging.DEPLOYMENT, deployment)
    yield from _own_trigger(fields.get("trigger"))
    for name in ("actions", "actions_on_trigger", "actions_on_resolve"):
        for action in fields.get(name) or ():
            if action.get("type") != "run-deployment" or action.get("source") != "selected":
                raise AccessRefusedError("an automation of a host runs its own deployments, and does nothing else")
            yield _claim_by_id(Belonging.DEPLOYMENT, action.get("deployment_id"))
            if not _only_own_templates(action.get("parameters")):
                raise AccessRefusedError(
                    f"parameters of a host's automation have no templates but {', '.join(sorted(_OWN_TEMPLATES))}"
                )


def _own_trigger(trigger: Any) -> Iterator[Claim]:
    """An automation's trigger is one event about an environment of the host's own: others' events are not its."""
    environment = (trigger.get("match") or {}).get(ENVIRONMENT_FACT)
    if trigger.get("type", "event") != "event" or not isinstance(environment, str) or set("*?[!") & set(environment):
        raise AccessRefusedError(f"an automation of a host matches {ENVIRONMENT_FACT}, an environment of its own")
    yield Claim(Belonging.ENVIRONMENT, environment)


_OWN_TEMPLATES = frozenset({"{{ event.payload.text }}", "{{ event.payload.service }}"})
"""What starting a recovery by an event needs (flows/server/deployments.py)."""


def _only_own_templates(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_only_own_templates(inner) for pair in value.items() for inner in pair)
    if isinstance(value, list):
        return all(map(_only_own_templates, value))
    return (
        not isinstance(value, str) or value in _OWN_TEMPLATES or not any(mark in value for mark in ("{{", "{%", "{#"))
    )


def _events(request: _Request) -> Iterator[Claim]:
    for event in request.objects():
        yield from _claims_of_event(event)


_SPEAKS_FOR = {"prefect.flow-run": Belonging.FLOW_RUN, "prefect.deployment": Belonging.DEPLOYMENT}
_CONTEXT = ("prefect.flow.", "prefect.tag.", "prefect.worker.", "prefect.work-pool.", "prefect.work-queue.")
_OF_OURS = "roas."
_IN_A_RUN = {"prefect.task-run": Belonging.TASK_RUN, "prefect.artifact": Belonging.ARTIFACT}
_OF_A_WORKER = "prefect.worker."


def _claims_of_event(event: Any) -> Iterator[Claim]:
    try:
        resource, related = event["resource"], event.get("related") or []
        about = str(resource["prefect.resource.id"])
        related_resources = [(str(entry["prefect.resource.id"]), entry) for entry in related]
    except (TypeError, KeyError, AttributeError):
        raise AccessRefusedError("the event names no resource") from None
    for name, labels in ((about, resource), *related_resources):
        if (environment := labels.get(ENVIRONMENT_FACT)) is not None:
            yield Claim(Belonging.ENVIRONMENT, str(environment))
        kind, _, value = name.rpartition(".")
        if kind in _SPEAKS_FOR:
            yield _claim_by_id(_SPEAKS_FOR[kind], value)
        elif name.startswith(_OF_OURS):
            if ENVIRONMENT_FACT not in labels:
                raise AccessRefusedError("an event of ours names its environment")
        elif kind in _IN_A_RUN:
            # It may not be there yet; the flow's run, which is, speaks for it. By its events the server records it.
            yield _claim_by_id(_IN_A_RUN[kind], value, may_be_new=True)
            if not any(resource_id.startswith("prefect.flow-run.") for resource_id, _ in related_resources):
                raise AccessRefusedError("an event of a task or artifact names the run of its flow")
        elif not name.startswith(_OF_A_WORKER if name == about else _CONTEXT):
            raise AccessRefusedError(f"no host speaks for {kind}")
    if about.startswith("prefect.task-run."):
        # What stands there replaces what the resource says.
        payload = event.get("payload") or {}
        if (task_run_id := (payload.get("task_run") or {}).get("id")) is not None:
            yield _claim_by_id(Belonging.TASK_RUN, task_run_id, may_be_new=True)
        yield from _ids_in(payload)


def _channel(request: _Request) -> Iterator[Claim]:
    host = request.pool.removeprefix(USER_PREFIX)
    owner, separator, _ = request.words[0].rpartition(CHANNEL_SEPARATOR)
    if not separator or owner not in (host, SHARED_CHANNELS):
        begins = " or ".join(f"{prefix}{CHANNEL_SEPARATOR}" for prefix in (host, SHARED_CHANNELS))
        raise AccessRefusedError(f"a channel that a host may use has a name that begins with {begins}, then without --")
    yield from ()


def _rule(methods: str, path: str, claims: Callable[[_Request], Iterator[Claim]]) -> _Rule:
    return _Rule(tuple(methods.split()), re.compile(path), claims)


_RULES = (
    _rule("GET", r"/(?:health|ready|hello|version|admin/version|admin/storage|csrf-token)", _no_claims),
    _rule("GET", r"/collections/views/aggregate-worker-metadata", _no_claims),
    # A flow is a name; what it runs is said by the deployment.
    _rule("POST", r"/flows/", _no_claims),
    _rule("GET", rf"/flows/(?:name/)?{_NAME}", _no_claims),
    _rule("GET", rf"/work_pools/({_NAME})", _own_pool),
    _rule("POST", rf"/work_pools/({_NAME})/(?:get_scheduled_flow_runs|queues/filter)", _own_pool),
    _rule("POST", rf"/work_pools/({_NAME})/workers/(?:heartbeat|filter)", _own_pool),
    _rule("GET", rf"/work_pools/({_NAME})/queues/{_NAME}", _own_pool),
    _rule("GET", rf"/work_queues/({_ID})", _claims_by_name(Belonging.WORK_QUEUE)),
    _rule("POST", r"/deployments/", _new_deployment),
    _rule("PATCH", rf"/deployments/({_ID})", _change_of_deployment),
    _rule("GET DELETE", rf"/deployments/({_ID})", _claims_by_name(Belonging.DEPLOYMENT)),
    _rule(
        "POST",
        rf"/deployments/({_ID})/(?:create_flow_run|pause_deployment|resume_deployment)",
        _claims_by_name(Belonging.DEPLOYMENT),
    ),
    _rule(
        "GET POST PATCH DELETE", rf"/deployments/({_ID})/schedules(?:/{_ID})?", _claims_by_name(Belonging.DEPLOYMENT)
    ),
    _rule("GET", rf"/deployments/name/({_NAME}/{_NAME})", _claims_by_name(Belonging.DEPLOYMENT_NAME)),
    _rule("POST", "|".join(_SEARCHES), _no_claims),
    _rule("POST", r"/flow_runs/", _new_run),
    _rule("GET PATCH DELETE", rf"/flow_runs/({_ID})", _claims_by_name(Belonging.FLOW_RUN)),
    _rule("POST", rf"/flow_runs/({_ID})/(?:set_state|resume|input|input/filter)", _claims_by_name(Belonging.FLOW_RUN)),
    _rule("GET DELETE", rf"/flow_runs/({_ID})/input/{_NAME}", _claims_by_name(Belonging.FLOW_RUN)),
    _rule("GET", rf"/flow_runs/({_ID})/graph-v2", _claims_by_name(Belonging.FLOW_RUN)),
    _rule("PATCH", rf"/flow_runs/({_ID})/labels", _claims_by_name(Belonging.FLOW_RUN)),
    _rule("POST", r"/task_runs/", _new_task_run),
    _rule("GET PATCH", rf"/task_runs/({_ID})", _claims_by_name(Belonging.TASK_RUN)),
    _rule("POST", rf"/task_runs/({_ID})/set_state", _claims_by_name(Belonging.TASK_RUN)),
    _rule("POST", r"/logs/", _claims_of_flow_runs),
    _rule("POST", r"/artifacts/", _new_artifact),
    _rule("GET PATCH", rf"/artifacts/({_ID})", _claims_by_name(Belonging.ARTIFACT)),
    _rule("POST", r"/automations/", _new_automation),
    _rule("DELETE", rf"/automations/owned-by/prefect\.deployment\.({_ID})", _claims_by_name(Belonging.DEPLOYMENT)),
    _rule("POST", r"/events", _events),
    # The id of a lease is known to its holder alone.
    _rule("POST", rf"/v2/concurrency_limits/leases/{_ID}/renew", _no_claims),
    _rule("POST", r"/v2/concurrency_limits/decrement-with-lease", _no_claims),
    _rule("GET", rf"/block_types/slug/{_NAME}", _no_claims),
    _rule("GET", rf"/block_types/slug/{_NAME}/block_documents/name/({_NAME})", _channel),
)
