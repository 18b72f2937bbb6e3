"""The gate before an update, with a real engine and registry; the scanner is a stand-in."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from adapters.prometheus.exporter import StoreCollector
from core.deployment.plan import plan_id
from flows.deployment.startup import startup
from flows.deployment.update import update
from models.compose import OF_UPDATE, PlannedAction
from models.failures import BadInputError, GateRefusedError
from models.gates import GateOutcome
from tasks.deployment.gate import policies_to_judge, preview_gate, read_trial, try_gate
from tasks.deployment.services import read_plan
from tasks.reporting.read import read_explanation
from tasks.runtime.clients import find_environment
from tasks.runtime.project import Project
from tests.e2e.deployments.test_update import WELL, inspect, last, service
from tests.e2e.flows.conftest import Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.registry import Registry, image_id

pytestmark = [pytest.mark.engine, pytest.mark.flow]

NOT_ROOT = "{name: not-root, expression: \"service.user != ''\", message: it would run as root}"
AS_USER = "USER 1000"
AS_ROOT = "USER root"


async def started(place: Place, images: Registry, name: str, gate: str, *lines: str) -> str:  # noqa: F811
    """Start a service with a gate, then publish a new image of it; the id and start of its container."""
    images.publish(name, "ENV VERSION=1", AS_USER, WELL)
    place.declare(service("web", images.image(name)), gate=gate)
    await startup("test")
    images.publish(name, "ENV VERSION=2", *lines, WELL)
    return inspect(place, "web", "{{.Id}} {{.State.StartedAt}}")


def metrics(place: Place) -> dict[str, float]:  # noqa: F811
    with place.stores() as stores:
        return {
            f"{sample.name} {sample.labels.get('result', '')}".strip(): sample.value
            for family in StoreCollector(stores, place.settings).collect()
            for sample in family.samples
            if sample.name in ("roas_gate_refusals_total", "roas_updates_total")
        }


async def test_a_refused_update_touches_nothing_and_says_why(place: Place, images: Registry) -> None:  # noqa: F811
    policy = "{name: not-root, expression: \"service.user != 'root'\", message: it would run as root}"
    before = await started(place, images, "refused", f"{{policies: [{policy}]}}", AS_ROOT)
    name = images.image("refused")
    image = image_id(name)

    with pytest.raises(GateRefusedError, match="policy not-root: web: it would run as root"):
        await update("test")

    assert inspect(place, "web", "{{.Id}} {{.State.StartedAt}}") == before
    assert image_id(name) == image
    record = last(place)
    assert record.details["gate"]["outcome"] == "refused"
    assert record.details["gate"]["policies"] == [
        {"policy": "not-root", "outcome": "refused", "reason": "web: it would run as root"}
    ]
    assert record.details["undone"] == "no container was touched"
    assert "held_back" not in record.details
    assert record.details["advice"].startswith("No container was touched. Change what policy not-root names")
    with place.stores() as stores:
        assert not stores.errors.list_by_deployment(record.deployment_id)
        assert not stores.tickets.find(environment="test")
    why = read_explanation(record.deployment_id)
    assert why.headline == (
        "The gate refused the images before a container was touched: policy not-root: web: it would run as root"
    )
    assert "roas update --override-gate REASON test" in why.commands
    assert metrics(place)["roas_gate_refusals_total"] == metrics(place)["roas_updates_total refused"] == 1
    # A better image under the same name passes.
    images.publish("refused", "ENV VERSION=3", AS_USER, WELL)
    await update("test")
    assert "VERSION=3" in inspect(place, "web", "{{.Config.Env}}")
    assert last(place).details["gate"]["outcome"] == "passed"
    assert metrics(place)["roas_updates_total success"] == 1


@pytest.mark.campaign
async def test_an_override_goes_on_and_is_recorded(place: Place, images: Registry) -> None:  # noqa: F811
    await started(place, images, "override", "{policies: [{name: never, expression: 'false'}]}", AS_USER)

    with pytest.raises(BadInputError, match="needs a reason"):
        await update("test", override_gate="  ")
    await update("test", override_gate="it repairs the outage")

    assert "VERSION=2" in inspect(place, "web", "{{.Config.Env}}")
    gate = last(place).details["gate"]
    assert gate["outcome"] == "overridden"
    assert gate["override"]["reason"] == "it repairs the outage"
    assert gate["override"]["by"].startswith("person: ")
    assert gate["policies"][0]["outcome"] == "refused"


@pytest.mark.campaign
async def test_a_command_judges_the_document(place: Place, images: Registry) -> None:  # noqa: F811
    check = place.folder / "check.py"
    check.write_text(
        "#!/usr/bin/env python3\n"
        "import json, sys\n"
        "web = json.load(sys.stdin)['services'][0]\n"
        "print(web['name'], web['action'], web['new']['labels']['team'], web['running']['labels'].get('team'))\n"
        "sys.exit('VERSION' in web['new']['labels'])\n"
    )
    check.chmod(0o755)
    gate = "{policies: [{name: labels, command: [./check.py], failure: warn}]}"
    await started(place, images, "command", gate, "LABEL team=shop VERSION=2")

    await update("test")

    assert last(place).details["gate"]["outcome"] == "warned"
    assert last(place).details["gate"]["policies"][0]["reason"] == "web recreate shop None"


async def test_a_secret_reaches_no_policy_and_no_record(
    place: Place,  # noqa: F811
    images: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "hunter2-in-the-label")
    check = place.folder / "check.sh"
    seen = place.folder / "seen"
    check.write_text(f"#!/bin/sh\ncat > {seen}\nenv >> {seen}\necho hunter2-in-the-label\nexit 1\n")
    check.chmod(0o755)
    images.publish("secret", "ENV VERSION=1", WELL)
    place.declare(
        service("web", images.image("secret"), environment="{SHOP_TOKEN: '${SHOP_TOKEN}'}"),
        gate="{policies: [{name: leaks, command: [./check.sh]}]}",
        secrets="[{name: SHOP_TOKEN}]",
    )
    await startup("test")
    images.publish("secret", "ENV VERSION=2", "LABEL note=hunter2-in-the-label", WELL)

    with pytest.raises(GateRefusedError):
        await update("test")

    assert "hunter2" not in seen.read_text()
    assert "hunter2" not in json.dumps(last(place).details, default=str)


@pytest.mark.campaign
async def test_a_plan_says_which_policies_wait_for_the_image(place: Place, images: Registry) -> None:  # noqa: F811
    policies = [
        NOT_ROOT,
        "{name: own-registry, expression: \"service.image.startsWith('localhost:')\"}",
        "{name: no-privileges, expression: service.privileged, failure: warn}",
    ]
    gate = f"{{policies: [{', '.join(policies)}], scan: {{}}}}"
    await started(place, images, "plan", gate, AS_USER)
    environment = find_environment("test")

    plan = read_plan(Project(environment), OF_UPDATE)
    report = await asyncio.to_thread(preview_gate, Project(environment), plan)

    assert [(one.policy, one.outcome) for one in report.policies] == [
        ("not-root", GateOutcome.WAITS),
        ("own-registry", GateOutcome.PASSED),
        ("no-privileges", GateOutcome.WARNED),
    ]
    assert [one.outcome for one in report.scans] == [GateOutcome.WAITS]
    # Nothing was pulled for it.
    assert read_plan(Project(environment), OF_UPDATE) == plan
    await update("test", plan=plan_id(plan))
    assert last(place).details["gate"]["outcome"] == "warned"


@pytest.mark.campaign
async def test_a_policy_is_tried_without_an_update(place: Place, images: Registry) -> None:  # noqa: F811
    await started(place, images, "try", f"{{policies: [{NOT_ROOT}]}}", AS_ROOT)
    environment = find_environment("test")
    document = read_trial(Project(environment))

    async def outcome(expression: str | None) -> GateOutcome:
        policies = policies_to_judge(environment, expression)
        return (await asyncio.to_thread(try_gate, Project(environment), document, policies)).outcome

    # The engine has the first image still, which has a user.
    assert await outcome(None) is GateOutcome.PASSED
    assert await outcome("service.user == '0'") is GateOutcome.REFUSED
    assert document["services"][0]["action"] == PlannedAction.RECREATE
    with pytest.raises(BadInputError, match="line 1, column 14"):
        policies_to_judge(environment, "service.user !=")


def finding(number: int) -> dict[str, str]:
    return {
        "VulnerabilityID": f"CVE-2026-{number}",
        "PkgName": "openssl",
        "InstalledVersion": "3.0.1",
        "Severity": "CRITICAL",
    }


@pytest.fixture
def trivy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of reports by the first digits of an image's id; a stand-in for trivy prints them."""
    folder = tmp_path / "reports"
    folder.mkdir()
    program = tmp_path / "bin" / "trivy"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\nfor image; do :; done\necho $image >> {folder}/asked\n"
        f"cat {folder}/$image.json || {{ echo FATAL no database for $image >&2; exit 1; }}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return folder


def report(folder: Path, image_id: str, *numbers: int) -> None:
    found: dict[str, Any] = {"Results": [{"Vulnerabilities": [finding(number) for number in numbers]}]}
    (folder / f"{image_id.removeprefix('sha256:')[:12]}.json").write_text(json.dumps(found))


@pytest.mark.campaign
async def test_the_difference_of_two_scans_decides(place: Place, images: Registry, trivy: Path) -> None:  # noqa: F811
    await started(place, images, "scan", "{scan: {program: trivy}}", AS_USER)
    old = inspect(place, "web", "{{.Image}}")
    new = image_id(images.image("scan").replace("localhost", "127.0.0.1"))
    report(trivy, old, 1, 2, 3)
    report(trivy, new, 3, 4)

    with pytest.raises(GateRefusedError, match=r"web: 2 fixed, 1 new: CVE-2026-4 \(critical\) in openssl 3\.0\.1"):
        await update("test")
    assert inspect(place, "web", "{{.Image}}") == old

    # What became known of both images since then is not new.
    report(trivy, old, 1, 2, 3, 4)
    await update("test")
    assert inspect(place, "web", "{{.Image}}") == new
    assert last(place).details["gate"]["scans"][0]["text"] == "web: 2 fixed, 0 new"
    asked = (trivy / "asked").read_text().split()
    # The earlier image was kept from the first update, and scanned again before it could refuse.
    assert asked == [new[7:19], old[7:19], new[7:19], old[7:19]]


@pytest.mark.campaign
async def test_a_scanner_without_a_database_warns_or_refuses(
    place: Place,  # noqa: F811
    images: Registry,
    trivy: Path,
) -> None:
    await started(place, images, "offline", "{scan: {program: trivy, unavailable: refuse}}", AS_USER)

    with pytest.raises(
        GateRefusedError, match="web: its image was not scanned: trivy ended with exit code 1: no database"
    ):
        await update("test")
    place.declare(service("web", images.image("offline")), gate="{scan: {program: trivy}}")
    await update("test")

    assert last(place).details["gate"]["outcome"] == "warned"
    assert "VERSION=2" in inspect(place, "web", "{{.Config.Env}}")
