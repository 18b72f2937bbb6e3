"""Hooks of an update on a real engine: migrations, smoke tests, a canary; what fails goes back."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.deployment.canary import MEMORY
from core.monitoring.baselines import learn
from flows.deployment.rollback import rollback
from flows.deployment.startup import startup
from flows.deployment.update import update
from models.compose import OF_UPDATE, PlannedAction
from models.errors import Category
from models.evidence import EvidenceBundle
from models.failures import GateRefusedError, HookError, ImageFetchError, StartFailedError, ValidationFailedError
from models.operations import HOOK_BEGUN, Operation, OperationStatus
from models.records import EvaluationRecord, Explanation
from models.results import OperationResult
from tasks.deployment.hooks import proven_hook_images
from tasks.deployment.services import read_plan
from tasks.reporting.read import read_explanation
from tasks.runtime.project import open_project
from tests.e2e.flows.conftest import HEALTH, IMAGE, Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.e2e.flows.test_interruption import finished_steps, kill_at, roas, signal_at
from tests.support.brokers import running_broker
from tests.support.docker_command import docker_command
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.recorded_errors import error_of_web
from tests.support.registry import Registry, image_id

pytestmark = [pytest.mark.engine, pytest.mark.flow]

SMOKE = {
    "name": "smoke",
    "exec": {
        "service": "web",
        "command": ["sh", "-c", 'test "$VERSION" = 1 || { echo wrong answers from $VERSION; exit 4; }'],
    },
}
CANARY_SECONDS = 6


def declare(
    place: Place,  # noqa: F811
    version: int,
    *,
    job: str = "true",
    web: str = "touch /tmp/well; exec sleep 600",
    before: Sequence[dict[str, Any]] = (),
    after: Sequence[dict[str, Any]] = (),
    **fields: object,
) -> None:
    """An application whose version is a variable, and a job of a profile that is switched off."""
    for name in ("out", "kept"):
        (place.folder / name).mkdir(exist_ok=True)
    place.declare(
        f"""
        db:
          image: {IMAGE}
          pull_policy: never
          init: true
          command: [sh, -c, 'touch /tmp/well; exec sleep 600']
          healthcheck: {HEALTH}
          volumes: ['{place.folder}/kept:/kept']
        web:
          image: {IMAGE}
          pull_policy: never
          init: true
          mem_limit: 256m
          environment: {{VERSION: "{version}"}}
          command: [sh, -c, {json.dumps(web.replace("$", "$$"))}]
          healthcheck: {HEALTH}
          depends_on: {{db: {{condition: service_healthy}}}}
        migrate:
          image: {IMAGE}
          pull_policy: never
          init: true
          profiles: [tools]
          environment: {{VERSION: "{version}"}}
          command: [sh, -c, {json.dumps(job.replace("$", "$$"))}]
          volumes: ['{place.folder}/out:/out']
          depends_on: {{db: {{condition: service_healthy}}}}
        """,
        hooks=json.dumps({"before": list(before), "after": list(after)}),
        **fields,
    )


def migrate(**fields: Any) -> dict[str, Any]:
    return {"name": "migrate", "service": "migrate"} | fields


def lines(place: Place) -> list[str]:  # noqa: F811
    written = place.folder / "out" / "lines"
    return written.read_text().splitlines() if written.exists() else []


def version(place: Place) -> str:  # noqa: F811
    command = ["docker", "exec", place.container("web"), "printenv", "VERSION"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def last(place: Place) -> Operation:  # noqa: F811
    with place.stores() as stores:
        return stores.operations.history(environment="test")[0]


def bundles(place: Place) -> list[EvidenceBundle]:  # noqa: F811
    with place.stores() as stores:
        return stores.evidence.find(deployment_id=last(place).deployment_id)


def why(place: Place) -> Explanation:  # noqa: F811
    return read_explanation(last(place).deployment_id)


def nothing_is_left(place: Place) -> None:  # noqa: F811
    assert place.containers() == ["db", "web"]


async def test_a_migration_runs_before_the_change_and_a_smoke_test_after(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    job = "echo \"$VERSION\" >> /out/lines; printf 'schema is at 7 \\033[31mred\\033[0m\\n'"
    smoke = SMOKE | {"exec": {"service": "web", "command": ["sh", "-c", 'test "$VERSION" = 2']}}
    warm = {"name": "warm", "service": "web", "command": ["sh", "-c", "echo warmed"]}
    tell = {"name": "tell", "command": ["/bin/sh", "-c", "echo $ROAS_ENVIRONMENT $HOME"]}
    declare(place, 2, job=job, before=[migrate()], after=[smoke, warm, tell])
    plan = read_plan(open_project("test"), OF_UPDATE)

    result = await update("test")

    assert isinstance(result, OperationResult)
    assert result.success
    assert [(one.when, one.name) for one in plan.hooks] == [
        ("before", "migrate"), ("after", "smoke"), ("after", "warm"), ("after", "tell")
    ]  # fmt: skip
    assert [line.service for line in plan.changes] == ["web"]
    assert lines(place) == ["2"]
    assert version(place) == "2"
    hooks = {one["name"]: one for one in last(place).details["hooks"]}
    assert all(one["ok"] and one["exit_code"] == 0 for one in hooks.values())
    assert "schema is at 7 red" in hooks["migrate"]["lines"][-1]
    assert hooks["tell"]["lines"] == ["test"]
    assert {one.bundle_id for one in bundles(place)} >= {one["evidence"] for one in hooks.values()}
    nothing_is_left(place)

    # Nothing changes, so nothing runs.
    await update("test")
    assert lines(place) == ["2"]
    assert read_plan(open_project("test"), OF_UPDATE).hooks == ()


@pytest.mark.campaign
async def test_a_migration_that_fails_half_way_is_the_cause_and_changes_no_container(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    with place.stores() as stores:
        (release,) = stores.releases.latest("test")
    job = "echo half >> /out/lines; echo 'ERROR: relation \"orders\" does not exist' >&2; exit 3"
    declare(place, 2, job=job, before=[migrate()])

    with pytest.raises(StartFailedError, match=r"Hook migrate failed .*exit code 3.*orders"):
        await update("test")

    assert version(place) == "1"
    details = last(place).details
    assert details["rolled_back_to"] == release.release_id
    assert "hook migrate ended with exit code 3" in details["data"]
    assert "no snapshot was taken" in details["data"]
    explained = why(place)
    assert explained.headline.startswith("hook migrate failed")
    assert any('relation "orders" does not exist' in line.text for line in explained.lines)
    assert any("data may have changed" in one for one in explained.tried)
    with place.stores() as stores:
        (error,) = stores.errors.list_unresolved("test")
    assert (error.service, error.verdict.category) == ("migrate", Category.SCHEMA_NOT_MIGRATED)
    nothing_is_left(place)


@pytest.mark.campaign
async def test_all_data_is_saved_before_a_hook_that_may_change_it(place: Place) -> None:  # noqa: F811
    (place.folder / "kept").mkdir()
    (place.folder / "kept" / "orders").write_text("7")
    saved = f"{{save: [{{kind: files, volume: {place.folder}/kept}}]}}"
    declare(place, 1, data=saved)
    await startup("test")
    # The changed service does not mount it.
    declare(place, 2, job="exit 1", before=[migrate()], data=saved)

    with pytest.raises(StartFailedError, match="Hook migrate failed"):
        await update("test")

    details = last(place).details
    (snapshot,) = details["snapshots"]
    assert details["data"].endswith(f"snapshot {snapshot['id']} was taken before")


@pytest.mark.campaign
async def test_a_migration_that_hangs_is_stopped_at_its_limit(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    declare(place, 2, job="echo waiting for a lock; exec sleep 600", before=[migrate(timeout_seconds=2)])

    with pytest.raises(StartFailedError, match="did not end within 2 s, and was stopped"):
        await update("test")

    assert version(place) == "1"
    (run,) = last(place).details["hooks"]
    assert "waiting for a lock" in run["lines"][-1]
    nothing_is_left(place)


async def test_a_smoke_test_that_finds_wrong_answers_brings_the_old_version_back(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    declare(place, 2, after=[SMOKE])

    with pytest.raises(StartFailedError, match=r"Hook smoke failed .*exit code 4.*wrong answers from 2"):
        await update("test")

    assert version(place) == "1"
    assert last(place).details["undone"].endswith("2 services proven, also by hook smoke")
    runs = [(one["name"], one["when"], one["ok"]) for one in last(place).details["hooks"]]
    assert runs == [("smoke", "after", False), ("smoke", "after the rollback", True)]
    assert why(place).headline.startswith("hook smoke failed")
    nothing_is_left(place)


@pytest.mark.campaign(seconds=30)
async def test_old_code_on_migrated_data_is_not_called_proven_and_its_data_comes_back(place: Place) -> None:  # noqa: F811
    kept = place.folder / "kept"
    saved = f"{{save: [{{kind: files, volume: {kept}}}]}}"

    def take(number: int, **more: str) -> None:
        write = {"service": "db", "command": ["sh", "-c", f"echo {number} > /kept/schema"]}
        read = {"service": "db", "command": ["sh", "-c", f'test "$(cat /kept/schema)" = {number} || exit 5']}
        before, after = [{"name": "migrate", "exec": write}], [{"name": "smoke", "exec": read}]
        declare(place, number, before=before, after=after, data=saved, **more)

    take(0)
    (kept / "schema").write_text("0")
    await startup("test")
    take(1)
    await update("test")
    earliest = last(place).details["snapshots"]
    # A person runs the version of before, and its smoke test.
    take(2, web="exit 3")
    with (place.folder / "test.yaml").open() as file:
        hooks_of_one = file.read().replace("= 2 ||", "= 1 ||")
    (place.folder / "test.yaml").write_text(hooks_of_one)

    with pytest.raises(StartFailedError, match="web"):
        await update("test")

    failed = last(place)
    (snapshot,) = failed.details["snapshots"]
    assert version(place) == "1"
    assert "2 services are healthy, but not proven: hook smoke failed" in failed.details["undone"]
    assert failed.details["data"].endswith(f"hook migrate ended well; snapshot {snapshot['id']} was taken before")
    assert why(place).commands[0].endswith(f": roas snapshot restore test {snapshot['id']}")

    result = await rollback("test", with_data=True)

    assert result.reason.endswith("2 services proven, also by hook smoke")
    assert last(place).details["data_of"] == snapshot["id"] != earliest[0]["id"]
    assert ((kept / "schema").read_text().strip(), version(place)) == ("1", "1")
    # Its data is back, so the next one goes further back.
    with pytest.raises(StartFailedError, match=r"serves again: 2 services are healthy, but not proven: hook smoke"):
        await rollback("test", with_data=True)
    assert last(place).details["data_of"] == earliest[0]["id"]
    assert ((kept / "schema").read_text().strip(), version(place)) == ("0", "0")


@pytest.mark.campaign
async def test_a_hook_that_warns_fails_nothing(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    declare(place, 2, after=[SMOKE | {"failure": "warn"}])

    await update("test")

    operation = last(place)
    (run,) = operation.details["hooks"]
    assert operation.status is OperationStatus.SUCCESS
    assert (run["ok"], run["warns"], run["exit_code"]) == (False, True, 4)
    assert version(place) == "2"


@pytest.mark.campaign
async def test_what_a_hook_prints_of_a_secret_is_not_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("SHOP_TOKEN", "tr-4471-secret-value")
    declare(place, 1, secrets="[{name: SHOP_TOKEN}]")
    await startup("test")
    job = "echo token tr-4471-secret-value is refused; exit 1"
    declare(place, 2, job=job, before=[migrate()], secrets="[{name: SHOP_TOKEN}]")

    with pytest.raises(StartFailedError):
        await update("test")

    kept = json.dumps(last(place).details) + repr(bundles(place)) + repr(why(place))
    assert "is refused" in kept
    assert "tr-4471-secret-value" not in kept


@pytest.mark.campaign
async def test_a_hook_of_a_service_that_does_not_exist_touches_nothing(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    declare(place, 2, before=[{"name": "schema", "service": "schemer"}])

    await update("test", return_state=True)

    assert "Hook schema names schemer, which is no service" in last(place).details["reason"]
    assert last(place).details["error"] == ValidationFailedError.__name__
    assert version(place) == "1"


@pytest.mark.campaign
async def test_a_migration_needs_what_its_service_depends_on(place: Place) -> None:  # noqa: F811
    declare(place, 1, before=[migrate()])

    with pytest.raises(HookError, match="migrate depends on db, which does not run"):
        await update("test")

    assert place.containers() == []


def remember_memory(place: Place, percent: float) -> None:  # noqa: F811
    """Let monitoring have learnt over two days that the service uses so much memory."""
    now = datetime.now(UTC)
    state, at = None, now - timedelta(days=2)
    while at < now - timedelta(hours=1):
        state = learn(state, at, percent + 0.1 * (at.minute % 3))
        at += timedelta(minutes=5)
    assert state is not None
    with place.stores() as stores:
        stores.evaluations.record(
            EvaluationRecord(environment="test", evaluated_at=now, states={("web", MEMORY): state}), expecting=None
        )


CANARY = {"name": "canary", "canary": {"minutes": CANARY_SECONDS / 60}}


LONG_CANARY = {"name": "canary", "canary": {"minutes": 2}}
"""Longer than any failure that ends it takes."""


async def canary_begun(place: Place) -> asyncio.Task[Any]:  # noqa: F811
    """An update whose canary observes."""
    running = asyncio.create_task(update("test"))
    while not ((HOOK_BEGUN, "canary") in finished_steps(operation) if (operation := begun(place)) else False):
        assert not running.done(), running.result()
        await asyncio.sleep(0.1)
    return running


def is_wrong(place: Place) -> bool:  # noqa: F811
    """Whether an error is on record."""
    with place.stores() as stores:
        return bool(stores.errors.list_unresolved("test"))


def of_web(place: Place) -> str:  # noqa: F811
    """The id of web's container; empty while there is none."""
    command = ["docker", "inspect", "-f", "{{.Id}}", place.container("web")]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def begun(place: Place) -> str | None:  # noqa: F811
    with place.stores() as stores:
        found = stores.operations.list_running("test")
    return found[0].deployment_id if found else None


@pytest.mark.campaign
async def test_a_canary_whose_memory_grows_goes_back(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    remember_memory(place, 2.0)
    leak = "touch /tmp/well; head -c 120M /dev/zero | { sleep 1; tail -c 110M | { sleep 600; cat; }; }"
    declare(place, 2, web=leak, after=[LONG_CANARY])

    with pytest.raises(StartFailedError, match=r"memory of web: .* above its bound 3 times in a row .*learnt"):
        await update("test")

    details = last(place).details
    assert details["canary"]["passed"] is False
    assert details["canary"]["figures"]["web"][MEMORY]["highest"] > 40
    assert version(place) == "1"
    nothing_is_left(place)


@pytest.mark.campaign
async def test_a_canary_as_usual_passes_with_its_figures(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    remember_memory(place, 2.0)
    declare(place, 2, after=[CANARY])

    await update("test")

    canary = last(place).details["canary"]
    assert canary["passed"] is True
    assert canary["figures"]["web"][MEMORY]["learnt"] is True
    # How many there are depends on how quickly the engine answers.
    assert canary["figures"]["web"]["observations"] > 1
    assert "nothing is learnt yet of the answers of web" in canary["verdict"]
    assert version(place) == "2"


@pytest.mark.campaign
async def test_a_canary_whose_log_tells_of_failures_goes_back(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    noisy = "touch /tmp/well; while sleep 0.2; do echo 'ERROR payment refused'; done"
    declare(place, 2, web=noisy, after=[CANARY])

    with pytest.raises(StartFailedError, match=r"web writes .* lines a minute that tell of failures"):
        await update("test")

    assert version(place) == "1"


@pytest.mark.campaign
async def test_a_canary_whose_log_matches_a_new_pattern_once_goes_back(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    late = "touch /tmp/well; sleep 3; echo 'FATAL: password authentication failed for user app'; exec sleep 600"
    declare(place, 2, web=late, after=[LONG_CANARY])

    with pytest.raises(StartFailedError, match=r"web logs what it did not log before .*password authentication"):
        await update("test")

    assert version(place) == "1"
    assert last(place).details["canary"]["passed"] is False


@pytest.mark.campaign
async def test_a_canary_whose_service_is_restarted_goes_back(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    declare(place, 2, after=[LONG_CANARY])
    running = await canary_begun(place)
    container = of_web(place)
    # Again where the canary had not counted the restarts yet, and not beside the rollback that follows the error.
    while not running.done() and not is_wrong(place):
        restart = ["docker", "restart", "-t", "0", container]
        await asyncio.to_thread(subprocess.run, restart, capture_output=True, check=False)
        await asyncio.wait({running}, timeout=2)

    with pytest.raises(StartFailedError, match="web was restarted during the canary"):
        await running

    assert version(place) == "1"


@pytest.mark.campaign
async def test_a_canary_whose_service_has_an_error_on_record_goes_back(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    declare(place, 2, after=[LONG_CANARY])
    running = await canary_begun(place)
    later = datetime.now(UTC) + timedelta(seconds=1)
    with place.stores() as stores:
        stores.errors.record(
            error_of_web("payment provider refused: 503", environment="test", first_seen=later, last_seen=later)
        )

    with pytest.raises(StartFailedError, match=r"an error of web was recorded during the canary: .*payment provider"):
        await running

    assert version(place) == "1"


@pytest.mark.campaign
async def test_a_canary_whose_runner_is_killed_is_taken_up_again(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    declare(place, 2, after=[LONG_CANARY])
    operation = kill_at("update", "after", HOOK_BEGUN, "canary")
    assert version(place) == "2"
    declare(place, 2, after=[CANARY])

    result = await update("test", deployment_id=operation)

    assert isinstance(result, OperationResult)
    assert result.success
    assert last(place).details["canary"]["passed"] is True
    assert version(place) == "2"
    nothing_is_left(place)


@pytest.mark.campaign
async def test_ctrl_c_in_a_hook_ends_its_container_and_leaves_the_old_version(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    declare(place, 2, job="echo ran >> /out/lines; exec sleep 600", before=[migrate()])

    operation = await signal_at(
        roas("update", "test"), lambda _operation, _done: lines(place) == ["ran"], signal.SIGINT
    )

    record = last(place)
    assert (record.deployment_id, record.status) == (operation, OperationStatus.FAILED)
    assert record.details["undone"].startswith("rolled back")
    assert "data may have changed" in record.details["data"]
    assert version(place) == "1"
    nothing_is_left(place)


@pytest.mark.campaign
async def test_hooks_run_new_images_and_a_failed_one_holds_them_back(place: Place, images: Registry) -> None:  # noqa: F811
    def published(number: int) -> str:
        well = 'CMD ["sh", "-c", "touch /tmp/well; exec sleep 600"]'
        images.publish("tool", f"ENV TOOL={number}", 'CMD ["sh", "-c", "echo tool $TOOL"]')
        return images.publish("web", f"ENV VERSION={number}", well)

    def declared(wanted: str) -> None:
        check = ["sh", "-c", f'echo version $VERSION; test "$VERSION" {wanted}']
        place.declare(
            f"""
            web: {{image: "{images.image("web")}", init: true, healthcheck: {HEALTH}}}
            check: {{image: "{images.image("web")}", profiles: [tools], init: true, command: {json.dumps(check)}}}
            tool: {{image: "{images.image("tool")}", profiles: [tools], init: true}}
            """.replace("$VERSION", "$$VERSION"),
            hooks="{before: [{name: tool, service: tool}, {name: check, service: check}]}",
        )

    published(1)
    declared("= 1")
    await startup("test")
    bad = published(2)

    with pytest.raises(StartFailedError, match="Hook check failed"):
        await update("test")

    tool, check = last(place).details["hooks"]
    assert (tool["lines"], check["lines"]) == (["tool 2"], ["version 2"])
    assert last(place).details["held_back"]["web"].endswith(bad)
    assert version(place) == "1"
    # No later update takes it, so no hook runs.
    await update("test")
    assert "hooks" not in last(place).details

    published(3)
    declared("-gt 1")
    await update("test")
    assert version(place) == "3"
    assert await proven_hook_images("test") == last(place).details["hook_images"]
    assert set(last(place).details["hook_images"]) == {"tool"}


@pytest.mark.campaign(seconds=20)
async def test_a_failed_image_that_hooks_alone_run_is_held_back_itself(place: Place, images: Registry) -> None:  # noqa: F811
    def published(number: int, tool: str) -> str:
        images.publish("web2", f"ENV VERSION={number}", 'CMD ["sh", "-c", "touch /tmp/well; exec sleep 600"]')
        return images.publish("tool2", f"ENV TOOL={number}", f'CMD ["sh", "-c", "{tool}"]')

    published(1, "true")
    place.declare(
        f"""
        web: {{image: "{images.image("web2")}", init: true, healthcheck: {HEALTH}}}
        tool: {{image: "{images.image("tool2")}", profiles: [tools], init: true}}
        """,
        hooks="{before: [{name: tool, service: tool}]}",
    )
    await startup("test")
    bad = published(2, "echo no such table; exit 1")
    with pytest.raises(StartFailedError, match="Hook tool failed"):
        await update("test")
    assert list(last(place).details["held_back"]) == ["tool"]
    assert last(place).details["held_back"]["tool"].endswith(bad)

    # It runs no second time, and says who lets it.
    with pytest.raises(ImageFetchError, match=r"tool: image .* is held back, because tool failed with it"):
        await update("test")
    assert "hooks" not in last(place).details
    assert version(place) == "1"

    published(3, "true")
    await update("test")
    assert version(place) == "3"


@pytest.mark.campaign
async def test_the_gate_judges_an_image_that_a_hook_alone_runs(place: Place, images: Registry) -> None:  # noqa: F811
    well = 'CMD ["sh", "-c", "touch /tmp/well; exec sleep 600"]'
    images.publish("gated", "ENV VERSION=1", "USER 1000", well)
    images.publish("gated-tool", "USER 1000", 'CMD ["true"]')
    place.declare(
        f"""
        web: {{image: "{images.image("gated")}", init: true, healthcheck: {HEALTH}}}
        tool: {{image: "{images.image("gated-tool")}", profiles: [tools], init: true}}
        """,
        hooks="{before: [{name: tool, service: tool}]}",
        gate="{policies: [{name: not-root, expression: \"service.user == '1000'\", message: it runs as root}]}",
    )
    await startup("test")
    images.publish("gated", "ENV VERSION=2", "USER 1000", well)
    images.publish("gated-tool", "ENV VERSION=2", 'CMD ["true"]')
    names = [images.image("gated"), images.image("gated-tool")]
    before = [image_id(name) for name in names]
    assert before[1] == ""

    for earlier in ("", "an earlier image"):
        if earlier:
            docker_command("tag", IMAGE, names[1])
            before[1] = image_id(IMAGE)
        with pytest.raises(GateRefusedError, match="not-root: tool: it runs as root"):
            await update("test")

        assert version(place) == "1"
        assert "hooks" not in last(place).details
        assert [image_id(name) for name in names] == before
        assert names[1] in last(place).details["image_names_restored"]


@pytest.mark.campaign
async def test_hooks_run_behind_the_engine_broker(place: Place) -> None:  # noqa: F811
    roots = [place.folder / name for name in ("out", "kept")]
    for root in roots:
        root.mkdir()
    with running_broker(place.folder, place.project, roots=[f"{root}:rw" for root in roots]) as socket:
        engine = {"engine": f"unix://{socket}"}
        declare(place, 1, **engine)
        await startup("test")
        inside = {"name": "inside", "exec": {"service": "web", "command": ["true"]}}
        declare(place, 2, job="echo ran >> /out/lines", before=[migrate()], after=[inside], **engine)

        await update("test")

    assert lines(place) == ["ran"]
    assert [one["ok"] for one in last(place).details["hooks"]] == [True, True]
    nothing_is_left(place)


def killed_in_the_hook(place: Place) -> str:  # noqa: F811
    """Update in a process of its own, and kill it while the hook runs; the id of the operation."""
    return kill_at("update", when=lambda: lines(place) != [])


@pytest.mark.campaign
async def test_a_migration_outlives_a_killed_runner_and_runs_once(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    go_on = place.folder / "out" / "go-on"
    job = "echo ran >> /out/lines; while [ ! -e /out/go-on ]; do sleep 0.1; done; echo done >> /out/lines"
    declare(place, 2, job=job, before=[migrate()])
    operation = killed_in_the_hook(place)
    go_on.touch()

    result = await update("test", deployment_id=operation)

    assert isinstance(result, OperationResult)
    assert result.success
    assert lines(place) == ["ran", "done"]
    assert ("run as a hook", "migrate") in finished_steps(operation)
    assert version(place) == "2"
    nothing_is_left(place)


@pytest.mark.campaign
async def test_an_interrupted_command_fails_the_update_unless_it_may_run_again(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    out = place.folder / "out" / "lines"
    once = ["/bin/sh", "-c", f"echo ran >> {out}; test -e {out.parent}/go-on || exec sleep 600"]
    declare(place, 2, before=[{"name": "schema", "command": once}])
    operation = killed_in_the_hook(place)

    with pytest.raises(HookError, match=r"Hook schema .* was interrupted: .* whether it finished is not known"):
        await update("test", deployment_id=operation)

    assert lines(place) == ["ran"]
    assert version(place) == "1"
    assert last(place).details["undone"].startswith("rolled back")

    out.unlink()
    declare(place, 2, before=[{"name": "schema", "command": once, "again": True}])
    operation = killed_in_the_hook(place)
    (out.parent / "go-on").touch()
    await update("test", deployment_id=operation)
    assert lines(place) == ["ran", "ran"]
    assert version(place) == "2"


@pytest.mark.campaign
async def test_an_update_killed_after_its_changes_still_runs_its_smoke_test(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    # It may have begun already when the update is killed.
    declare(place, 2, before=[migrate()], after=[SMOKE | {"again": True}])
    operation = kill_at("update", "after", "proven", "web")

    with pytest.raises(StartFailedError, match="Hook smoke failed"):
        await update("test", deployment_id=operation)

    assert version(place) == "1"
    hooks = [(one["name"], one["when"]) for one in last(place).details["hooks"]]
    assert hooks == [("migrate", "before"), ("smoke", "after"), ("smoke", "after the rollback")]


@pytest.mark.campaign
async def test_a_hook_of_an_update_that_does_not_go_on_is_ended_by_the_next_start(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    declare(place, 2, job="echo ran >> /out/lines; exec sleep 600", before=[migrate()])
    killed_in_the_hook(place)
    assert place.containers() == ["db", "migrate", "web"]

    await startup("test")

    nothing_is_left(place)
    assert read_plan(open_project("test"), OF_UPDATE).service("web").action is PlannedAction.KEEP
