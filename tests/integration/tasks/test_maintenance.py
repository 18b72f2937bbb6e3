"""The record of a host's maintenance on the disk, its pauses, its work, and an unannounced boot."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.host.processes import boot_id
from adapters.stores import Stores
from models.failures import BadInputError
from models.maintenance import MaintainedEnvironment, Maintenance, Stage
from models.operations import Operation, OperationStatus, OperationType
from models.operations.record import OperationRecord
from models.settings import current_settings
from tasks.deployment.maintenance import (
    begin_quiet,
    close_maintenance,
    do_work,
    end_quiet,
    keep_maintenance,
    note_boot,
    plan_maintenance,
    read_maintenance,
    why_not_up,
)

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
SHOP = MaintainedEnvironment(name="shop", services=("web",), after="shop-stop", start_id="shop-start")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ROAS_CONFIG", str(tmp_path / "environments"))
    (tmp_path / "environments").mkdir()
    return tmp_path / "maintenance/open.json"


def declare(place: Path, name: str, **fields: str) -> None:
    lines = {"name": name, "project": name, "compose_files": "[compose.yaml]"} | fields
    text = "".join(f"{key}: {value}\n" for key, value in lines.items())
    (place.parent.parent / "environments" / f"{name}.yaml").write_text(text)


def planned(*environments: MaintainedEnvironment, **values: object) -> Maintenance:
    plan = plan_maintenance("kernel", HOUR)
    return plan.model_copy(update={"environments": environments or (SHOP,), **values})


def test_the_record_is_private_and_stays_until_it_is_closed(place: Path) -> None:
    assert read_maintenance() is None
    plan = keep_maintenance(planned())
    assert place.stat().st_mode & 0o777 == 0o600
    assert read_maintenance() == plan
    close_maintenance(plan)
    assert (read_maintenance(), read_maintenance("last.json")) == (None, plan)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b'{"stage": "resting"}'])
def test_a_damaged_record_is_named_and_kept(place: Path, damage: bytes) -> None:
    keep_maintenance(planned())
    place.write_bytes(damage)
    with pytest.raises(BadInputError, match=r"cannot be read from .*maintenance/open\.json"):
        read_maintenance()
    assert place.read_bytes() == damage


def test_a_record_of_another_host_is_refused_and_one_of_another_version_is_read(place: Path) -> None:
    plan = keep_maintenance(planned())
    stored = json.loads(place.read_text())
    del stored["output"], stored["worked"]
    place.write_text(json.dumps(stored | {"later": 1}))
    assert read_maintenance() == plan
    place.write_text(json.dumps(stored | {"host_id": "h-other", "host": "other"}))
    with pytest.raises(BadInputError, match="of a maintenance of other, which is another host"):
        read_maintenance()


async def test_only_its_own_pauses_end_and_what_was_paused_stays_as_it_was() -> None:
    names = ("blog", "shop", "wiki")
    plan = planned(*(SHOP.model_copy(update={"name": name}) for name in names))
    with Stores.open(current_settings()) as stores:
        stores.pauses.pause("blog", None, None, "before", "ann")
        await begin_quiet(plan)
        paused = {pause.environment: (pause.reason, pause.until) for pause in stores.pauses.active(NOW)}
        assert paused == {"blog": ("before", None), "shop": (plan.title, plan.until), "wiki": (plan.title, plan.until)}
        stores.pauses.pause("wiki", None, None, "in between", "ann")
        await begin_quiet(plan)
        assert await why_not_up(SHOP.model_copy(update={"name": "wiki"}), plan) == "it was not stopped"
        await end_quiet(plan)
        await end_quiet(plan)
        left = {pause.environment: pause.reason for pause in stores.pauses.active(NOW)}
        assert left == {"blog": "before", "wiki": "in between"}


async def test_work_says_how_it_ended_and_keeps_its_last_lines_without_secrets_or_our_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2-hunter2")
    until = datetime.now(UTC) + HOUR
    shell = ["/bin/sh", "-c"]
    text = "seq 1 30; echo password=s3cr3t-s3cr3t; echo [$DB_PASSWORD]; exit 3"
    worked, failed, output = await do_work([*shell, text], until)
    assert (worked, failed, len(output), output[-1]) == ("the command ended with exit code 3", True, 20, "[]")
    assert "s3cr3t" not in " ".join(output)
    assert await do_work([*shell, "true"], until) == ("the command ended with exit code 0", False, ())
    killed = await do_work([*shell, "exec sleep 600"], datetime.now(UTC))
    assert killed == ("the command was killed at the end of its time", True, ())
    absent = await do_work(["/no/such/program"], until)
    assert absent == ("/no/such/program could not be run: No such file or directory", True, ())


def record(
    stores: Stores, name: str, kind: OperationType = OperationType.START, *, interrupted: str = "", ends: bool = True
) -> None:
    operation = Operation(
        deployment_id=f"{name}-1",
        operation_type=kind,
        environment=name,
        status=OperationStatus.RUNNING,
        started_at=NOW,
        user_agent="person: root",
    )
    stores.operations.begin(operation)
    if ends:
        status = OperationStatus.FAILED if interrupted else OperationStatus.SUCCESS
        stores.operations.finish(operation.deployment_id, status, NOW, OperationRecord(interrupted=interrupted))


async def test_an_unannounced_boot_brings_up_what_was_to_run_and_is_noted_once(place: Path) -> None:
    needs = {
        "shop": {"needs": "[data/db]"},
        "by-hand": {"recovery": "{automatic: false}"},
        "shown": {"recovery": "{dry_run: true}"},
        "worked-on": {"maintenance": "[{from: '00:00', to: '00:00'}]"},
        "broken": {"services": "7"},
    }
    for name in ("shop", "data", "stopped", "paused", "cut", "running", "never", *needs):
        declare(place, name, **needs.get(name, {}))
    with Stores.open(current_settings()) as stores:
        for name in ("shop", "data", "paused", "by-hand", "shown", "worked-on", "broken"):
            record(stores, name)
        record(stores, "stopped", OperationType.STOP)
        record(stores, "cut", interrupted="its runner is gone")
        record(stores, "running", ends=False)
        stores.pauses.pause("paused", None, None, "mine", "ann")
        assert await note_boot() is None, "the first agent only notes the boot"
        assert await note_boot() is None, "the machine has not booted"
        place.with_name("boot").write_text("an earlier boot")
        left = await note_boot()
        assert left is not None
        assert left == read_maintenance()
        assert left.stage is Stage.STARTING
        assert [(one.name, one.services, one.after) for one in left.environments] == [
            ("shop", (), "shop-1"), ("data", (), "data-1"),
        ]  # fmt: skip
        assert place.with_name("boot").read_text() == boot_id()
        place.with_name("boot").write_text("an earlier boot")
        assert await note_boot() is None, "one is open"
        assert read_maintenance() == left
