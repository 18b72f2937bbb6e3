"""Evidence of real failures: taken before anything is lost, redacted, found again by `roas why`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from flows.deployment.startup import startup
from models.errors import Category
from models.evidence import EvidenceBundle, EvidenceOccasion, MemoryGrade
from models.failures import StartFailedError
from models.operations import Operation
from tasks.deployment.services import read_application
from tasks.errors.evidence import take_evidence
from tasks.runtime.clients import find_environment
from tasks.runtime.project import Project, open_project
from tests.e2e.flows.conftest import IMAGE, Place, well
from tests.support.warm import warm_commands

pytestmark = [pytest.mark.engine, pytest.mark.flow]

SECRET = "correct-horse/battery=staple"
ROAS = Path(sys.executable).with_name("roas")


async def failed(place: Place, service: str) -> tuple[Operation, EvidenceBundle]:
    """Start, which must fail; the recorded operation and the evidence of one service's failure."""
    with pytest.raises(StartFailedError):
        await startup("test")
    with place.stores() as stores:
        (operation,) = stores.operations.history(environment="test", limit=1)
        kept = stores.evidence.find(deployment_id=operation.deployment_id)
        (bundle,) = [one for one in kept if one.service == service and one.occasion is EvidenceOccasion.FAILURE]
        return operation, bundle


def why(place: Place, *words: str) -> str:
    context_of_step = os.environ | warm_commands() | {"ROAS_DATA_DIR": str(place.settings.data_dir)}
    done = subprocess.run([ROAS, "why", *words], capture_output=True, text=True, check=False, env=context_of_step)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_crash_is_explained_by_its_own_words_and_linked_everywhere(place: Place) -> None:
    place.declare(
        well("base")
        + f"top:\n  image: {IMAGE}\n  command: [sh, -c, 'echo reading; echo address already in use; exit 3']\n"
        + "  deploy: {update_config: {delay: 5s}}\n"
        + "  depends_on: {base: {condition: service_healthy}}\n"
        + well("late", depends_on="{top: {condition: service_started}}")
    )

    operation, bundle = await failed(place, "top")

    assert bundle.first_cause.startswith("top ended with exit code 3")
    assert "address already in use" in bundle.first_cause
    assert {one.service: one.state for one in bundle.containers} == {"top": "exited", "base": "running"}
    own = next(log for log in bundle.logs if log.service == "top")
    assert [line.partition(" ")[2] for line in own.lines] == ["reading", "address already in use"]
    assert "die" in [event.action for event in bundle.events if event.service == "top"]
    assert bundle.host is not None
    left = "deploy.update_config.delay is left aside: the next container follows once one is proven"
    assert bundle.missing == (f"top: {left}",)
    with place.stores() as stores:
        (error,) = stores.errors.list_unresolved("test")
        assert error.verdict.category is Category.PORT_CONFLICT
        assert error.evidence["bundles"] == [bundle.bundle_id]
        assert bundle.error_id == error.error_id
        (ticket,) = stores.tickets.find(environment="test")
        assert ticket.evidence == (bundle.bundle_id,)
    shown = why(place)
    assert len(shown.splitlines()) <= 24
    assert "top ended with exit code 3" in shown
    assert "| address already in use" in shown
    assert f"roas resolve {ticket.ticket_id}" in shown
    assert why(place, "test").splitlines()[0] == shown.splitlines()[0]
    assert "reading" in why(place, "--evidence")
    reported = json.loads(why(place, operation.deployment_id, "--json"))
    assert reported["service"] == "top"
    assert reported["since"] is not None


@pytest.mark.campaign
async def test_a_kill_for_memory_is_proven_by_its_signs(place: Place) -> None:
    place.declare(
        "eater:\n  image: roas/sample-bot:local\n  network_mode: none\n  mem_limit: 16m\n  memswap_limit: 16m\n"
        "  command: [python3, -c, 'x = bytearray(300_000_000)']\n  healthcheck: {disable: true}\n"
    )

    _, bundle = await failed(place, "eater")

    (container,) = bundle.containers
    assert container.exit_code == 137
    assert container.memory.grade is MemoryGrade.PROVEN
    assert "killed for using too much memory (limit 16 MiB)" in bundle.first_cause
    with place.stores() as stores:
        assert stores.errors.list_unresolved("test")[0].verdict.category is Category.OOM_KILLED


@pytest.mark.campaign
async def test_every_answer_of_a_failing_health_check_is_kept(place: Place) -> None:
    check = "n=$$(cat /tmp/n 2>/dev/null || echo 1); echo $$((n + 1)) > /tmp/n; echo answer $$n; exit 1"
    place.declare(
        f"base:\n  image: {IMAGE}\n  init: true\n  command: [sleep, '600']\n"
        f"  healthcheck: {{test: [CMD-SHELL, '{check}'], interval: 400ms, timeout: 30s, retries: 9}}\n"
    )

    _, bundle = await failed(place, "base")

    answers = [probe.output for probe in bundle.probes]
    assert answers == [f"exit code 1: answer {number}" for number in range(1, len(answers) + 1)]
    assert len(answers) >= 9
    assert bundle.first_cause.startswith("base fails its health check: exit code 1: answer ")


@pytest.mark.campaign
async def test_what_a_dependency_did_first_is_the_cause(place: Place) -> None:
    place.declare(
        f"base:\n  image: {IMAGE}\n  init: true\n"
        "  command: [sh, -c, 'sleep 1; echo Fatal error loading the DB; exit 1']\n"
        f"top:\n  image: {IMAGE}\n  init: true\n  command: [sh, -c, 'sleep 2; echo lost base; exit 4']\n"
        "  depends_on: {base: {condition: service_started}}\n",
        stabilisation_seconds=5,
        services="{base: {required: false}}",
    )

    _, bundle = await failed(place, "top")

    assert bundle.cause_service == "base"
    assert "Fatal error loading the DB" in bundle.first_cause
    assert "top needs it" in bundle.first_cause
    shown = why(place)
    assert shown.index("base ended") < shown.index("top: it ended with exit code 4")


async def test_a_planted_secret_is_in_no_store_and_on_no_page(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_TEST_SECRET", SECRET)
    place.declare(
        f"base:\n  image: {IMAGE}\n  init: true\n  environment: [APP_TEST_SECRET]\n"
        "  command: [sh, -c, 'echo login with $$APP_TEST_SECRET; sleep 600']\n"
        "  healthcheck: {test: [CMD-SHELL, 'echo refused $$APP_TEST_SECRET password=hunter2hunter2; exit 1'], "
        "interval: 300ms, timeout: 30s, retries: 2}\n",
        secrets="[{name: APP_TEST_SECRET}]",
    )

    operation, bundle = await failed(place, "base")

    assert "login with [redacted]" in bundle.logs[0].lines[0]
    assert "refused [redacted] password=[redacted]" in bundle.probes[0].output
    async with get_client() as client:
        named = ArtifactFilter(key=ArtifactFilterKey(any_=["evidence-test"]))
        pages = await client.read_artifacts(artifact_filter=named)
    assert any(bundle.bundle_id in str(one.data) for one in pages)
    written = [file.read_bytes() for file in place.settings.data_dir.rglob("*") if file.is_file()]
    shown = [why(place), why(place, operation.deployment_id, "--json"), *(str(one.data) for one in pages)]
    for secret in (SECRET, "hunter2hunter2"):
        assert not any(secret.encode() in content for content in written)
        assert not any(secret in text for text in shown)


@pytest.mark.campaign
async def test_evidence_before_a_replacement_outlives_the_container(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")
    declared = find_environment("test")

    (bundle_id,) = await take_evidence(
        Project(declared),
        await read_application(Project(declared)),
        ["base"],
        deployment_id="test-next",
        reason="it is to be replaced",
    )

    for seen in Project(declared).inspect_containers():
        Project(declared).engine.containers.stop(seen.container_id, timedelta())
        Project(declared).engine.containers.remove(seen.container_id)
    with place.stores() as stores:
        (bundle,) = stores.evidence.find(deployment_id="test-next")
    assert bundle.bundle_id == bundle_id
    assert bundle.occasion is EvidenceOccasion.REPLACEMENT
    assert bundle.first_cause == "base shows no failure of its own: it was running and healthy"
    assert bundle.probes[-1].ok


@pytest.mark.campaign
async def test_an_engine_that_is_away_is_named_as_missing_and_fails_nothing(place: Place) -> None:
    place.declare(well("base"), engine=f"unix://{place.folder}/no.sock")

    ids = await take_evidence(open_project("test"), None, ["base"], deployment_id="test-1", reason="it failed")

    with place.stores() as stores:
        (bundle,) = stores.evidence.find(deployment_id="test-1")
    assert [bundle.bundle_id] == ids
    assert bundle.first_cause == "base has no container"
    assert [what.partition(":")[0] for what in sorted(bundle.missing)] == ["containers", "events of the engine"]


@pytest.mark.campaign
async def test_a_container_that_was_never_started_has_no_log_and_says_why(place: Place) -> None:
    place.declare(f"base:\n  image: {IMAGE}\n  command: [/no/such/program]\n")

    _, bundle = await failed(place, "base")

    assert bundle.first_cause.startswith("base could not be started:")
    assert "/no/such/program" in bundle.first_cause


def test_without_a_failure_there_is_nothing_to_explain(place: Place) -> None:
    done = subprocess.run([ROAS, "why"], capture_output=True, text=True, check=False, env=os.environ | warm_commands())

    assert done.returncode == 1
    assert "No operation has failed" in done.stderr
