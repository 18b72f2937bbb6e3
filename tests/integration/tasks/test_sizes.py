"""Sizes read from real stores, judged by Compose itself, and written into the files at once or not at all."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.host.private_files import replace_content
from adapters.stores import Stores
from core.common.sketches import Sketch
from models.environments import Environment
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.evidence import ContainerEvidence, EvidenceBundle, EvidenceOccasion
from models.failures import BadInputError, EnvironmentFileError
from models.metrics import Metric
from tasks.reporting.sizes import read_sizes, write_if_unchanged
from tasks.runtime.stores import open_stores
from tests.support.agents import agent, answer_of

NOW = datetime(2026, 12, 2, 12, tzinfo=UTC)
MIB = 1024 * 1024
BODY = "{image: nginx, deploy: {resources: {limits: {memory: 16M}}}}"
Declare = Callable[[str], Environment]


@pytest.fixture(autouse=True)
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stores:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    return open_stores()


@pytest.fixture
def declare(tmp_path: Path) -> Declare:
    file = tmp_path / "compose.yaml"

    def write(text: str) -> Environment:
        file.write_text(text)
        return Environment(name="shop", project="shop", compose_files=(file,))

    return write


def measure(stores: Stores, *services: str, hours: int = 30, memory_mib: float = 40, until: datetime = NOW) -> None:
    values = {"memory_bytes": memory_mib * MIB, "cpu_usage": 10.0}
    stores.metrics.add(
        [
            Metric(
                environment="shop", service=service, name=name, value=value, sampled_at=until - timedelta(hours=hour)
            )
            for service in services
            for name, value in values.items()
            for hour in range(hours)
        ]
    )


def kill(stores: Stores, service: str, limit_mib: int) -> None:
    """Record a kill for memory with its evidence."""
    error = RecordedError(
        error_id=f"err-{service}",
        environment="shop",
        service=service,
        text="exited with code 137",
        verdict=Verdict(
            category=Category.OOM_KILLED,
            severity=Severity.HIGH,
            strategy=Strategy.RESTART_SERVICE,
            confidence=1,
            reason="",
            template="",
        ),
        source="watch",
        first_seen=NOW,
        last_seen=NOW,
    )
    stores.errors.record(error)
    container = ContainerEvidence(
        service=service,
        name=service,
        container_id="a",
        image="nginx",
        state="exited",
        memory_limit_bytes=limit_mib * MIB,
    )
    bundle = EvidenceBundle(
        bundle_id=f"ev-{service}", environment="shop", service=service, taken_at=NOW, occasion=EvidenceOccasion.FAILURE,
        reason="failed", first_cause="killed", cause_service=service, containers=(container,),
    )  # fmt: skip
    stores.evidence.keep(bundle)
    stores.evidence.link([bundle.bundle_id], error.error_id)


def test_hours_are_those_summed_up_and_the_samples_since(stores: Stores, tmp_path: Path) -> None:
    measure(stores, "web", hours=3)
    early = NOW - timedelta(hours=5)
    with closing(sqlite3.connect(tmp_path / "data" / "monitoring.db")) as connection, connection:
        (series,) = connection.execute("SELECT id FROM metric_series WHERE metric = 'memory_bytes'").fetchone()
        row = (round(early.timestamp() * 1000), series, 1, 1, 9, 9, Sketch.from_values([9]).to_bytes())
        columns = "bucket, series, n, minimum, maximum, total, sketch"
        connection.execute(f"INSERT INTO metric_hours ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    (service, hours) = stores.metrics.hours_of_services("shop", "memory_bytes", NOW - timedelta(days=1), NOW).popitem()
    assert service == "web"
    assert sorted((NOW - hour) // timedelta(hours=1) for hour in hours) == [0, 1, 2, 5]
    assert hours[early] == (9, Sketch.from_values([9]))


def test_the_change_is_printed_and_written_only_when_asked(stores: Stores, declare: Declare, tmp_path: Path) -> None:
    text = (
        "# mine\nservices:\n  web:  # front\n    mem_limit: 16M  # small\n    image: nginx\n  db:\n    image: nginx\n"
    )
    environment = declare(text)
    measure(stores, "web", "db")
    file = environment.compose_files[0]
    file.chmod(0o640)

    report = read_sizes(environment, ("web",), NOW)
    (proposal,) = report.proposals
    assert proposal.changes
    assert proposal.proposed.memory_limit_bytes == 46 * MIB
    assert "-    mem_limit: 16M  # small\n+    mem_limit: 46M  # small\n" in report.diff
    assert file.read_text() == text

    written = read_sizes(environment, (), NOW, write=True)
    assert written.written == (str(file),)
    assert file.read_text().startswith(
        "# mine\nservices:\n  web:  # front\n    mem_limit: 46M  # small\n    image: nginx\n    cpus: 0.5\n"
    )
    assert file.stat().st_mode & 0o777 == 0o640
    again = read_sizes(environment, (), NOW, write=True)
    assert (again.diff, again.written) == ("", ())
    assert not any(proposal.changes or proposal.because for proposal in again.proposals)
    assert {path.name for path in tmp_path.iterdir()} == {"compose.yaml", "data"}


def test_a_kill_for_memory_raises_the_limit_that_the_evidence_shows(stores: Stores, declare: Declare) -> None:
    environment = declare(f"services:\n  web: {BODY}\n  db: {BODY}\n")
    measure(stores, "web", "db", hours=2, memory_mib=15)
    kill(stores, "web", 16)
    db, web = read_sizes(environment, (), NOW).proposals
    assert (web.kills.count, web.kills.limit_bytes) == (1, 16 * MIB)
    assert web.proposed.memory_limit_bytes == 134 * MIB
    assert db.because == "measured in 2 hours, and 24 are needed"
    assert read_sizes(environment, ("web",), NOW + timedelta(days=15)).proposals[0].kills.count == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("services:\n  web: &web\n    image: nginx\n  db: *web\n", "services.db would change, too"),
        (
            "services:\n  web:\n    image: nginx\n  db:\n    extends: {service: web}\n    image: nginx\n",
            "services.db would change, too",
        ),
        (
            "x-b: &b {deploy: {replicas: 2}}\nservices:\n  web:\n    <<: *b\n    image: nginx\n",
            "services.web would change, too",
        ),
    ],
)
def test_what_would_change_more_than_the_size_is_left_alone(
    stores: Stores, declare: Declare, text: str, why: str
) -> None:
    environment = declare(text)
    measure(stores, "web")
    report = read_sizes(environment, ("web",), NOW, write=True)
    (proposal,) = report.proposals
    assert why in proposal.because
    assert not proposal.changes
    assert report.diff == ""
    assert environment.compose_files[0].read_text() == text


def test_a_service_of_an_included_file_is_left_alone(stores: Stores, declare: Declare, tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("services: {web: {image: nginx}}")
    environment = declare("include: [more.yaml]\nservices: {db: {image: nginx}}\n")
    measure(stores, "web")
    (proposal,) = read_sizes(environment, ("web",), NOW).proposals
    assert "included or extended" in proposal.because


def test_the_change_shows_no_secret(stores: Stores, declare: Declare) -> None:
    environment = declare(
        "services:\n  web:\n    environment:\n      API_PASSWORD: hunter2-hunter2\n    image: nginx\n"
    )
    measure(stores, "web")
    report = read_sizes(environment, (), NOW)
    assert "API_PASSWORD" in report.diff
    assert "hunter2" not in str(report)


@pytest.mark.campaign
async def test_an_agent_reads_the_same(stores: Stores, declare: Declare, tmp_path: Path) -> None:
    declare("services:\n  web:\n    image: nginx\n    mem_limit: 16M\n")
    (tmp_path / "shop.yaml").write_text("project: shop\ncompose_files: [compose.yaml]\n")
    # The tool asks for the record as it is now.
    measure(stores, "web", until=datetime.now(UTC))
    async with agent(tmp_path) as client:
        found = (await answer_of(client, "size", {"environment": "shop"}))["answer"]
    assert "+    mem_limit: 46M" in found["diff"]
    assert found["written"] == []


def test_bad_input_is_one_sentence(stores: Stores, declare: Declare) -> None:
    environment = declare("services: {web: {image: nginx}}\n")
    with pytest.raises(BadInputError, match="shop has no service wbe; it has web"):
        read_sizes(environment, ("wbe",), NOW)
    (nothing,) = read_sizes(environment, (), NOW).proposals
    assert nothing.because == "measured in 0 hours, and 24 are needed"


def test_a_file_that_a_person_changed_meanwhile_is_left_to_them(tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text("mine\n")
    with pytest.raises(EnvironmentFileError, match="was changed meanwhile"):
        write_if_unchanged(file, "as it was read\n", "sized\n")
    assert file.read_text() == "mine\n"
    assert list(tmp_path.glob(".roas*")) == []


@pytest.mark.parametrize("is_before", [True, False])
def test_killed_while_it_writes_the_file_is_wholly_old_or_wholly_new(tmp_path: Path, *, is_before: bool) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text("old")

    def die(_: Path | None = None) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if (child := os.fork()) == 0:
        replace_content(file, b"new", die if is_before else lambda _: None)
        die()
    os.waitpid(child, 0)
    assert file.read_text() == ("old" if is_before else "new")
