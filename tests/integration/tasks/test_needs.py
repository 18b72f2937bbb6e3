"""Needs of environments by their files and by what the stores have, without an engine."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapters.config.needs import declared_needs
from adapters.stores import Stores
from cli.main import roas
from models.failures import EnvironmentFileError
from models.health import Health, HealthReport, ServiceHealth, ServiceVerdict
from models.operations import OperationStatus, OperationType
from models.operations.record import OperationRecord
from models.settings import current_settings
from tasks.reporting.environment_view import read_environment_view
from tasks.reporting.needs import recorded_need, recorded_needs
from tasks.runtime.stores import open_stores
from tests.integration.stores.values import operation

DB = ServiceVerdict(service="db", health=ServiceHealth.HEALTHY, reason="its check passes")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path))
    return tmp_path


def declare(folder: Path, name: str, *needs: str, more: str = "") -> None:
    (folder / "compose.yaml").write_text("services: {web: {image: none}}\n")
    body = f"project: {name}\ncompose_files: [compose.yaml]\nengine: unix:///nowhere.sock\n"
    (folder / f"{name}.yaml").write_text(f"{body}needs: [{', '.join(needs)}]\n{more}")


def judge(stores: Stores, ago: timedelta, *services: ServiceVerdict) -> None:
    report = HealthReport(
        environment="data", overall=Health.HEALTHY, checked_at=datetime.now(UTC) - ago, services=services
    )
    stores.health.record(report)


def begun(stores: Stores, name: str = "data", kind: OperationType = OperationType.START) -> None:
    made = operation(
        f"{name}-{kind}",
        environment=name,
        operation_type=kind,
        status=OperationStatus.RUNNING,
        started_at=datetime.now(UTC),
    )
    stores.operations.begin(made)
    stores.operations.finish(made.deployment_id, OperationStatus.SUCCESS, datetime.now(UTC), OperationRecord())


def test_a_need_elsewhere_is_judged_by_its_record() -> None:
    stores = open_stores()
    assert (never := recorded_need("data/db")).up is None
    assert "no environment data is known here" in never.reason
    begun(stores)
    assert recorded_need("data/db").reason == "its health was judged last never"
    judge(stores, timedelta(hours=1), DB)
    assert (old := recorded_need("data/db")).up is None
    assert old.coming, "a start waits for the next judgement"
    judge(stores, timedelta(minutes=1), DB)
    assert recorded_need("data/db").up is True
    judge(stores, timedelta(seconds=1), replace(DB, health=ServiceHealth.UNHEALTHY, reason="its check fails"))
    assert recorded_need("data/db").words == "data/db, which is down (db is unhealthy: its check fails)"
    begun(stores, kind=OperationType.STOP)
    assert (stopped := recorded_need("data")).up is False
    assert not stopped.coming


def test_validation_names_a_needed_service_that_its_environment_does_not_have(folder: Path) -> None:
    declare(folder, "data")
    declare(folder, "shop", "data/web", "data/nope", "elsewhere/db")
    said = " ".join(CliRunner().invoke(roas, ["validate", "shop"]).output.split())
    assert "critical needs: shop needs data/nope, but data has no service nope: it has web." in said
    assert "data/web, but" not in said
    assert "elsewhere" not in said, "it may be of another host"


def test_a_file_that_cannot_be_read_has_no_needs_and_hides_no_others(folder: Path) -> None:
    declare(folder, "shop", "data/db")
    for name, body in {
        "torn": "needs: [a",
        "other": "- a\n",
        "text": "needs: data\n",
        "odd": "needs: [{a: b}]\n",
    }.items():
        (folder / f"{name}.yaml").write_text(body)
    (folder / "gone.yaml").symlink_to(folder / "nowhere")
    assert declared_needs(current_settings()) == {"shop": ("data/db",)}
    assert recorded_needs("torn") == ()


def test_status_why_and_the_page_name_what_is_down_and_who_needs_it(folder: Path) -> None:
    stores = open_stores()
    declare(folder, "shop", "data/db")
    declare(folder, "data")
    begun(stores)
    begun(stores, "shop")
    judge(stores, timedelta(seconds=1), replace(DB, health=ServiceHealth.STOPPED, reason="exited"))
    for command in ("status", "why"):
        output = CliRunner().invoke(roas, [command, "shop"]).output
        assert "it needs data/db, which is down (db is stopped: exited)" in " ".join(output.split()), command
    assert [need.up for need in read_environment_view("shop").needs] == [False]
    assert read_environment_view("data").needed_by == ("shop",)


@pytest.mark.parametrize("command", [["validate"], ["plan"]])
def test_a_circle_is_refused_with_its_line_and_does_not_hinder_reading(folder: Path, command: list[str]) -> None:
    declare(folder, "shop", "data/db")
    declare(folder, "data", "base")
    declare(folder, "base", "shop/web")
    refused = CliRunner().invoke(roas, [*command, "data"])
    assert isinstance(refused.exception, EnvironmentFileError)
    assert str(refused.exception) == (
        f"{folder}/data.yaml:4: needs: data needs base, and base needs shop, and shop needs data: a circle. "
        "Leave one of these needs out."
    )
    assert CliRunner().invoke(roas, ["status"]).exit_code == 0


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ("[shop/web]", "needs: shop cannot need itself: services.NAME.dependencies is for its own services."),
        ("[Data]", "needs.0: not a usable value; allowed are ENVIRONMENT and ENVIRONMENT/SERVICE."),
        ("data", "needs: Input should be a valid tuple."),
    ],
)
def test_bad_needs_are_refused_where_they_stand(folder: Path, needs: str, said: str) -> None:
    declare(folder, "shop")
    file = folder / "shop.yaml"
    file.write_text(file.read_text().replace("needs: []", f"needs: {needs}"))
    refused = CliRunner().invoke(roas, ["validate", "shop"])
    assert f"{file}:4: {said}" in str(refused.exception)
