"""What a host may ask of the control plane, and what has to belong to it."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.runtime.host_access import (
    AccessRefusedError,
    Belonging,
    Claim,
    claims_of,
    event_claims,
    may_open_socket,
    narrow_body,
)
from models.enrolment import pool_of, run_tag

POOL = "host-alpha"
# The same in each process of a test run: they stand in the names of tests.
RUN, TASK, DEPLOYMENT = (str(UUID(int=number)) for number in (0xA, 0xB, 0xC))
NEW_RUN, NEW_TASK = Claim(Belonging.FLOW_RUN, RUN, may_be_new=True), Claim(Belonging.TASK_RUN, TASK, may_be_new=True)
AUTOMATION = {
    "owner_resource": f"prefect.deployment.{DEPLOYMENT}",
    "trigger": {"type": "event", "match": {"roas.environment": "shop", "roas.handled": "no"}},
    "actions": [
        {
            "type": "run-deployment",
            "source": "selected",
            "deployment_id": DEPLOYMENT,
            "parameters": {"environment": "shop", "text": "{{ event.payload.text }}"},
        }
    ],
}


def asked(method: str, path: str, body: Any = None) -> frozenset[Claim]:
    return claims_of(method, path, json.dumps(body).encode(), POOL)


@pytest.mark.parametrize(("user", "pool"), [("host-alpha", POOL), ("roas", None), ("", None), ("host-", None)])
def test_hosts_are_known_by_their_user(user: str, pool: str | None) -> None:
    assert pool_of(user) == pool


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", f"/{word}") for word in ("health", "ready", "hello", "version", "csrf-token")),
        *(("GET", path) for path in ("/admin/version", "/admin/storage")),
        ("GET", "/collections/views/aggregate-worker-metadata"),
        ("POST", "/flows/"),
        ("GET", "/flows/name/start"),
        ("GET", f"/flows/{RUN}"),
        ("GET", f"/work_pools/{POOL}"),
        *(("POST", f"/{kind}/filter") for kind in ("flow_runs", "deployments")),
        ("POST", "/flow_runs/count"),
        ("POST", f"/v2/concurrency_limits/leases/{RUN}/renew"),
        ("POST", "/v2/concurrency_limits/decrement-with-lease"),
        ("GET", "/block_types/slug/slack-webhook"),
    ],
)
def test_what_belongs_to_nobody_or_the_pool_itself_claims_nothing(method: str, path: str) -> None:
    assert asked(method, path) == frozenset()
    with pytest.raises(AccessRefusedError):
        asked("DELETE", path)
    with pytest.raises(AccessRefusedError):
        asked(method, f"/x{path}")


@pytest.mark.parametrize(
    ("method", "path", "body", "claims"),
    [
        ("GET", f"/flow_runs/{RUN}", None, {Claim(Belonging.FLOW_RUN, RUN)}),
        ("POST", f"/flow_runs/{RUN}/set_state", {}, {Claim(Belonging.FLOW_RUN, RUN)}),
        ("PATCH", f"/deployments/{DEPLOYMENT}", {"work_pool_name": POOL}, {Claim(Belonging.DEPLOYMENT, DEPLOYMENT)}),
        ("GET", "/deployments/name/startup/shop", None, {Claim(Belonging.DEPLOYMENT_NAME, "startup/shop")}),
        (
            "POST",
            "/logs/",
            [{"flow_run_id": RUN}, {"flow_run_id": None, "task_run_id": TASK}, {"flow_run_id": None}],
            {Claim(Belonging.FLOW_RUN, RUN), Claim(Belonging.TASK_RUN, TASK), NEW_RUN, NEW_TASK},
        ),
        (
            "POST",
            "/logs/",
            [{"flow_run_id": RUN, "task_run_id": TASK}],
            {Claim(Belonging.FLOW_RUN, RUN), NEW_RUN, NEW_TASK},
        ),
        (
            "POST",
            "/artifacts/",
            {"flow_run_id": RUN, "task_run_id": TASK, "data": {"deployment_id": "d-1"}},
            {Claim(Belonging.FLOW_RUN, RUN), NEW_RUN, NEW_TASK},
        ),
        ("POST", "/task_runs/", {"id": TASK, "flow_run_id": RUN}, {Claim(Belonging.FLOW_RUN, RUN), NEW_RUN, NEW_TASK}),
        (
            "POST",
            f"/flow_runs/{RUN}/set_state",
            {"state": {"type": "RUNNING", "state_details": {"task_run_id": TASK}}},
            {Claim(Belonging.FLOW_RUN, RUN), NEW_TASK},
        ),
        ("POST", "/flow_runs/", {}, set()),
        (
            "POST",
            "/artifacts/",
            {"key": "watch-my-shop", "metadata_": {"roas.environment": "my_shop"}},
            {Claim(Belonging.ENVIRONMENT, "my_shop")},
        ),
        ("POST", "/flow_runs/", {"parent_task_run_id": TASK}, {Claim(Belonging.TASK_RUN, TASK), NEW_TASK}),
    ],
)
def test_a_request_claims_what_it_names(method: str, path: str, body: Any, claims: set[Claim]) -> None:
    assert asked(method, path, body) == claims


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/work_pools/host-beta", None),
        ("GET", "/work_pools/", None),
        ("POST", "/work_pools/", {"name": POOL}),
        ("DELETE", f"/work_pools/{POOL}", None),
        ("PATCH", f"/deployments/{DEPLOYMENT}", {"work_pool_name": "host-beta"}),
        ("POST", "/deployments/", {"name": "shop", "flow_id": RUN}),
        ("POST", "/deployments/", {"name": "a/b", "flow_id": RUN, "work_pool_name": POOL}),
        ("POST", "/deployments/", {"name": "shop", "flow_id": RUN.upper(), "work_pool_name": POOL}),
        ("POST", "/deployments/", {"name": "shop", "flow_id": RUN.replace("-", ""), "work_pool_name": POOL}),
        ("GET", f"/flow_runs/{RUN.upper()}", None),
        ("POST", "/flow_runs/", {"work_pool_name": "host-beta"}),
        ("POST", "/task_runs/", {}),
        ("POST", "/artifacts/", {"key": "x"}),
        ("POST", "/artifacts/", {"key": "watch-other", "metadata_": {"roas.environment": "my_shop"}}),
        ("POST", "/artifacts/", {"key": "watch-x", "metadata_": 5}),
        ("POST", "/logs/", {"flow_run_id": RUN}),
        ("POST", "/logs/", [{"flow_run_id": f"urn:uuid:{RUN}"}]),
        ("POST", "/automations/", {"name": "x"}),
        ("POST", "/automations/", {"owner_resource": f"prefect.deployment.{DEPLOYMENT}", "actions": ["x"]}),
        (
            "POST",
            "/automations/",
            {"owner_resource": f"prefect.deployment.{DEPLOYMENT}", "actions": [{"type": "call-webhook"}]},
        ),
        ("GET", "/block_types/slug/slack-webhook/block_documents/name/beta-alerts", None),
        ("GET", "/block_documents/", None),
    ],
)
def test_what_is_anothers_or_not_listed_is_refused(method: str, path: str, body: Any) -> None:
    with pytest.raises(AccessRefusedError):
        asked(method, path, body)


def test_a_flow_may_have_a_parameter_that_is_called_as_an_id() -> None:
    schema = {"type": "object", "properties": {"deployment_id": {"type": "string"}, "flow_run_id": {"type": "string"}}}
    body = {"name": "shop", "flow_id": RUN, "work_pool_name": POOL, "parameter_openapi_schema": schema}

    (claim,) = asked("POST", "/deployments/", body)

    assert claim.kind is Belonging.NEW_DEPLOYMENT


def test_a_body_that_is_no_json_is_refused() -> None:
    with pytest.raises(AccessRefusedError, match="not JSON"):
        claims_of("POST", "/logs/", b"[" * 100_000, POOL)


def test_an_automation_claims_the_environment_that_it_matches() -> None:
    assert asked("POST", "/automations/", AUTOMATION) == {
        Claim(Belonging.DEPLOYMENT, DEPLOYMENT),
        Claim(Belonging.ENVIRONMENT, "shop"),
    }


@pytest.mark.parametrize(
    "trigger",
    [
        None,
        {"type": "event"},
        {"type": "event", "match": {"prefect.resource.id": "prefect.flow-run.*"}},
        {"type": "event", "match": {"roas.environment": "*"}},
        {"type": "event", "match": {"roas.environment": "!shop"}},
        {"type": "event", "match": {"roas.environment": ["shop", "*"]}},
        {"type": "compound", "match": {"roas.environment": "shop"}, "triggers": [{"type": "event"}]},
    ],
)
def test_an_automation_that_others_events_trigger_is_refused(trigger: Any) -> None:
    with pytest.raises(AccessRefusedError):
        asked("POST", "/automations/", AUTOMATION | {"trigger": trigger})


@pytest.mark.parametrize(
    "parameters",
    [
        {"text": "{{ flow_run.parameters }}"},
        {"text": ["{% for one in flow_run.parameters %}{{ one }}{% endfor %}"]},
        {"text": {"__prefect_kind": "jinja", "template": "x"}},
        {"text": {"__prefect_kind": "workspace_variable", "variable_name": "x"}},
    ],
)
def test_a_template_that_copies_what_is_anothers_is_refused(parameters: dict[str, Any]) -> None:
    action = AUTOMATION["actions"][0] | {"parameters": parameters}  # type: ignore[index]
    with pytest.raises(AccessRefusedError, match="templates"):
        asked("POST", "/automations/", AUTOMATION | {"actions": [action]})


@pytest.mark.parametrize("path", ["/flow_runs/", f"/deployments/{DEPLOYMENT}/create_flow_run"])
def test_a_run_gets_no_variable_and_no_block_of_the_control_plane(path: str) -> None:
    for body in (
        {"parameters": {"x": {"__prefect_kind": "workspace_variable", "variable_name": "x"}}},
        {"infrastructure_document_id": RUN},
    ):
        with pytest.raises(AccessRefusedError):
            asked("POST", path, body)


@pytest.mark.parametrize("path", ["/flow_runs/", f"/deployments/{DEPLOYMENT}/create_flow_run"])
def test_a_key_by_which_a_run_is_made_once_is_its_host_s_own(path: str) -> None:
    passed_on = narrow_body("POST", path, b'{"idempotency_key": "nightly"}', POOL)
    assert json.loads(passed_on)["idempotency_key"] == f"{POOL} nightly"


@pytest.mark.parametrize(
    "name",
    [
        *("alpha-alerts", "alpha-2--alerts", "alpha-2-alerts", "fleet-alerts", "fleet-x--alerts", "beta--alerts"),
        *("alpha--2--alerts", "fleet--x--alerts"),
    ],
)
def test_channels_of_another_host_are_not_read(name: str) -> None:
    with pytest.raises(AccessRefusedError, match="begins with alpha-- or fleet--"):
        asked("GET", f"/block_types/slug/slack-webhook/block_documents/name/{name}")


def test_a_host_with_two_hyphens_in_its_name_reads_its_channels() -> None:
    path = "/block_types/slug/slack-webhook/block_documents/name/alpha--2--alerts"
    assert claims_of("GET", path, b"", "host-alpha--2") == frozenset()


@pytest.mark.parametrize("name", ["alpha--alerts", "fleet--alerts"])
def test_channels_of_its_own_and_of_all_are_read(name: str) -> None:
    assert asked("GET", f"/block_types/slug/slack-webhook/block_documents/name/{name}") == frozenset()


@pytest.mark.parametrize(("method", "path"), [("POST", "/flow_runs/"), ("PATCH", f"/flow_runs/{RUN}")])
def test_a_run_shows_whose_it_is_whatever_its_host_says(method: str, path: str) -> None:
    given = json.dumps({"name": "start shop", "tags": ["shop", run_tag("host-beta")]}).encode()
    assert json.loads(narrow_body(method, path, given, POOL)) == {"name": "start shop", "tags": ["shop", run_tag(POOL)]}


def test_a_change_without_tags_is_passed_on_as_it_is() -> None:
    assert narrow_body("PATCH", f"/flow_runs/{RUN}", b'{"name": "x"}', POOL) == b'{"name": "x"}'


def test_a_host_opens_three_sockets() -> None:
    assert may_open_socket("/events/in", POOL)
    assert may_open_socket("/events/out", POOL)
    assert may_open_socket(f"/work_pools/{POOL}/workers/connect", POOL)
    assert not may_open_socket("/work_pools/host-beta/workers/connect", POOL)
    assert not may_open_socket("/logs/out", POOL)


@pytest.mark.parametrize("given", [{}, {"work_pools": {"name": {"any_": ["host-beta"]}}}, {"limit": 3}])
def test_a_search_finds_what_is_its_own(given: dict[str, Any]) -> None:
    body = json.dumps(given).encode()
    passed_on = json.loads(narrow_body("POST", "/flow_runs/filter", body, POOL))
    assert passed_on == given | {"work_pools": {"name": {"any_": [POOL]}}}
    assert narrow_body("POST", "/logs/", body, POOL) == body


def event(resource: dict[str, str], *related: str) -> str:
    others = [{"prefect.resource.id": one, "prefect.resource.role": "x"} for one in related]
    return json.dumps({"event": "x", "resource": resource, "related": others})


def test_an_event_claims_the_runs_and_environments_that_it_names() -> None:
    run = {"prefect.resource.id": f"prefect.flow-run.{RUN}"}
    assert event_claims(event(run, f"prefect.deployment.{DEPLOYMENT}", "prefect.flow.x")) == {
        Claim(Belonging.FLOW_RUN, RUN),
        Claim(Belonging.DEPLOYMENT, DEPLOYMENT),
    }
    ours = {"prefect.resource.id": "roas.shop.web", "roas.environment": "shop"}
    assert event_claims(event(ours)) == {Claim(Belonging.ENVIRONMENT, "shop")}
    task = {"prefect.resource.id": f"prefect.task-run.{TASK}"}
    assert event_claims(event(task, f"prefect.flow-run.{RUN}")) == {Claim(Belonging.FLOW_RUN, RUN), NEW_TASK}
    taken = json.loads(event({"prefect.resource.id": f"prefect.task-run.{RUN}"}, f"prefect.flow-run.{RUN}"))
    taken["payload"] = {"task_run": {"id": TASK, "flow_run_id": RUN}}
    assert event_claims(json.dumps(taken)) >= {NEW_TASK, NEW_RUN}


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "no JSON",
        event({"prefect.resource.id": "roas.shop.web"}),
        event({"prefect.resource.id": f"prefect.task-run.{TASK}"}),
        event({"prefect.resource.id": "prefect.artifact.x"}),
        event({"prefect.resource.id": "prefect.work-pool.x"}),
        event({"prefect.resource.id": f"prefect.flow-run.{RUN}"}, "prefect.automation.x"),
        event({"prefect.resource.id": f"prefect.flow-run.{RUN.upper()}"}),
    ],
)
def test_an_event_for_which_no_host_speaks_is_refused(text: str) -> None:
    with pytest.raises(AccessRefusedError):
        event_claims(text)


@given(st.text(max_size=60), st.binary(max_size=60))
def test_whatever_is_asked_is_claimed_or_refused(path: str, body: bytes) -> None:
    for method in ("GET", "POST", "PATCH", "DELETE", "PUT"):
        try:
            found = claims_of(method, f"/{path}", body, POOL)
        except AccessRefusedError:
            continue
        assert isinstance(found, frozenset)
