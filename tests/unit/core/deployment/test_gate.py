"""The gate before an update: the document, the outcome of policies, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.deployment.gate import (
    advice,
    gate_document,
    is_about_one_service,
    not_fetched,
    outcomes_of_policies,
    record_gate,
    refusal,
    scan_text,
    waits_for_images,
    warnings,
)
from models.compose import (
    Application,
    FetchKind,
    ImageFact,
    ImageFetch,
    Plan,
    PlannedAction,
    PlannedService,
    ServiceDeclaration,
)
from models.gates import GateOutcome, GatePolicy, GateReport, ImageFinding, PolicyAnswer, PolicyResult, ScanDifference

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
IMAGE = ImageFact(
    reference="shop/web:1",
    image_id="sha256:" + "a" * 64,
    digests=("shop/web@sha256:" + "b" * 64,),
    created_at=NOW - timedelta(hours=36),
    user="1000",
    label_values={"org.opencontainers.image.version": "2"},
    size_bytes=3 * 1024 * 1024,
)
WEB = ServiceDeclaration(name="web", image="shop/web:1", capabilities_added=("NET_ADMIN",))
DB = ServiceDeclaration(name="db", image="postgres:17", user="postgres", privileged=True)
APPLICATION = Application(project="shop", services={"web": WEB, "db": DB})
PLAN = Plan(
    project="shop",
    services=(
        PlannedService(service="db", action=PlannedAction.KEEP, because="it runs as declared"),
        PlannedService(service="web", action=PlannedAction.RECREATE, because="its image moved"),
    ),
    waves=(("db",), ("web",)),
)
POLICY = GatePolicy(name="no-root", expression="service.user != ''")


def document(**more: Any) -> dict[str, Any]:
    images = {"web": IMAGE, "db": replace(IMAGE, user="")}
    return gate_document("shop", APPLICATION, PLAN, new=images, running={"db": IMAGE}, now=NOW, **more)


def test_the_document_tells_of_services_and_their_images() -> None:
    found = document()
    db, web = found["services"]

    assert found["version"] == 1
    assert found["environment"] == {"name": "shop", "project": "shop"}
    assert found["plan"]["changes"] == ["web"]
    assert (web["action"], web["reason"], web["interruption"]) == ("recreate", "its image moved", "none")
    assert web["capabilities"] == {"added": ["NET_ADMIN"], "dropped": []}
    assert web["new"]["age_days"] == 1.5
    assert web["new"]["size_mib"] == 3.0
    assert web["new"]["digest"] == "sha256:" + "b" * 64
    assert web["new"]["labels"] == {"org.opencontainers.image.version": "2"}
    assert web["running"] is None
    assert db["privileged"]


def test_a_digest_is_that_of_the_repository_which_the_service_names() -> None:
    images = {"web": replace(IMAGE, digests=("gone.test/web@sha256:" + "c" * 64, *IMAGE.digests))}

    found = gate_document("shop", APPLICATION, PLAN, new=images, running=images, now=NOW)

    assert found["services"][1]["new"]["digest"] == "sha256:" + "b" * 64
    assert found["services"][1]["running"]["digest"] == "sha256:" + "b" * 64


def test_a_service_without_a_user_has_that_of_its_image() -> None:
    db, web = document()["services"]
    assert (db["user"], web["user"]) == ("postgres", "1000")


def test_what_is_not_fetched_has_neither_image_nor_its_user() -> None:
    db, web = document(pending=["web", "db"])["services"]
    assert web.keys() & {"new", "user"} == set()
    assert db["user"] == "postgres"


def test_images_that_may_change_are_not_fetched_yet() -> None:
    fetches = (
        ImageFetch(service="same", kind=FetchKind.PULL),
        ImageFetch(service="moved", kind=FetchKind.PULL, changes="image moved"),
        ImageFetch(service="unknown", kind=FetchKind.BUILD, settled=False),
        ImageFetch(service="held", kind=FetchKind.PULL, settled=False, held_back=True),
    )
    assert not_fetched(replace(PLAN, fetches=fetches)) == {"moved", "unknown"}


@pytest.mark.parametrize(
    ("expression", "is_about_one"),
    [
        ("!service.privileged", True),
        ("service.name == 'db' || service.user != ''", True),
        ("services.all(s, !s.privileged)", False),
        ("services.all(service, !service.privileged)", False),
        ("plan.service == 'x'", False),
        ("services[0].name == 'service'", False),
    ],
)
def test_an_expression_on_service_is_asked_of_each(expression: str, is_about_one: bool) -> None:
    assert is_about_one_service(expression) is is_about_one


def outcome(policy: GatePolicy, answer: PolicyAnswer, pending: tuple[str, ...] = ()) -> PolicyResult:
    return outcomes_of_policies([policy], {policy.name: answer}, pending=pending)[0]


def test_a_policy_that_is_met_passes() -> None:
    assert outcome(POLICY, PolicyAnswer(met=True)).outcome is GateOutcome.PASSED


def test_a_policy_that_is_not_met_refuses_and_names_the_services() -> None:
    found = outcome(POLICY, PolicyAnswer(met=False, services=("web",)))
    assert found.outcome is GateOutcome.REFUSED
    assert found.reason == "web: service.user != '' is false"


def test_its_own_message_is_said_instead() -> None:
    policy = GatePolicy(name="no-root", expression="false", message="run as another user", failure="warn")
    found = outcome(policy, PolicyAnswer(met=False))
    assert (found.outcome, found.reason) == (GateOutcome.WARNED, "run as another user")


def test_a_policy_that_cannot_be_judged_is_not_met() -> None:
    found = outcome(POLICY, PolicyAnswer(met=None, reason="it took longer than 10 s"))
    assert found.outcome is GateOutcome.REFUSED
    assert found.reason == "it could not be judged: it took longer than 10 s"
    assert outcomes_of_policies([POLICY], {})[0].outcome is GateOutcome.REFUSED


def test_a_policy_waits_for_an_image_that_it_needs() -> None:
    answer = PolicyAnswer(met=None, reason="there is no field new", missing="new")
    found = outcome(POLICY, answer, pending=("web",))
    assert (found.outcome, found.reason) == (GateOutcome.WAITS, "it needs the new image of web")


def test_a_field_that_never_exists_is_not_waited_for() -> None:
    answer = PolicyAnswer(met=None, reason="there is no field nwe", missing="nwe")
    assert outcome(POLICY, answer, pending=("web",)).outcome is GateOutcome.REFUSED
    assert outcome(POLICY, replace(answer, missing="new")).outcome is GateOutcome.REFUSED


def test_commands_and_questions_for_a_field_wait_for_all_images() -> None:
    asks = GatePolicy(name="asks", expression="services.all(s, has(s.new) && s.new.age_days < 30.0)")
    command = GatePolicy(name="command", command=("true",))
    assert waits_for_images(asks, ["web"])
    assert waits_for_images(command, ["web"])
    assert not waits_for_images(POLICY, ["web"])
    assert not waits_for_images(command, [])
    assert outcome(command, PolicyAnswer(met=None), pending=("web",)).outcome is GateOutcome.WAITS


def test_what_a_command_prints_is_shown_on_one_line_without_escape_sequences() -> None:
    policy = GatePolicy(name="command", command=("check",))
    found = outcome(policy, PolicyAnswer(met=False, reason="no\n\x1b]0;title\x07way " + "x" * 1000))
    assert found.reason.startswith(r"no \x1b]0;title\x07way xxx")
    assert len(found.reason) == 400


FINDING = ImageFinding(finding_id="CVE-2026-1", package="openssl", version="3.0.1", severity="critical")
REFUSED = ScanDifference(
    service="web", outcome=GateOutcome.REFUSED, program="trivy", counting=(FINDING,), appeared=1, fixed=3
)


def test_a_refusal_names_every_policy_and_finding() -> None:
    report = GateReport(
        environment="shop",
        policies=(
            PolicyResult(policy="no-root", outcome=GateOutcome.REFUSED, reason="web runs as root"),
            PolicyResult(policy="age", outcome=GateOutcome.WARNED, reason="it is old"),
            PolicyResult(policy="other", outcome=GateOutcome.PASSED),
        ),
        scans=(REFUSED,),
    )
    assert report.outcome is GateOutcome.REFUSED
    assert refusal(report) == (
        "The gate of shop refused the update: policy no-root: web runs as root; "
        "web: 3 fixed, 1 new: CVE-2026-1 (critical) in openssl 3.0.1."
    )
    assert warnings(report) == ("policy age is not met: it is old",)
    assert record_gate(report).model_dump(mode="json")["policies"][0] == {
        "policy": "no-root",
        "outcome": "refused",
        "reason": "web runs as root",
    }
    assert record_gate(report).scans[0].counting[0]["id"] == "CVE-2026-1"


def test_a_gate_of_which_all_passes_refuses_nothing() -> None:
    report = GateReport(environment="shop", policies=(PolicyResult(policy="p", outcome=GateOutcome.PASSED),))
    assert report.outcome is GateOutcome.PASSED
    assert refusal(report) == ""


def test_many_findings_are_counted() -> None:
    many = tuple(replace(FINDING, finding_id=f"CVE-2026-{number}") for number in range(5))
    said = scan_text(replace(REFUSED, counting=many, appeared=9))
    assert said.startswith("web: 3 fixed, 9 new, of which count: CVE-2026-0 (critical) in openssl 3.0.1, CVE-2026-1")
    assert said.endswith(" and 2 more")
    assert scan_text(replace(REFUSED, counting=(), appeared=2)) == "web: 3 fixed, 2 new"
    assert scan_text(replace(REFUSED, problem="trivy is not installed")) == (
        "web: its image was not scanned: trivy is not installed"
    )


def test_the_advice_on_a_refusal_is_what_its_policies_and_scans_ask_for() -> None:
    refused = PolicyResult(policy="no-privileged", outcome=GateOutcome.REFUSED, reason="web: it is privileged")
    said = advice(GateReport(environment="shop", policies=(refused,)), "roas update --override-gate REASON shop")
    assert "Change what policy no-privileged names" in said
    assert "image without" not in said
    assert said.endswith("`roas update --override-gate REASON shop`.")
