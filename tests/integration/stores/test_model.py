"""The stores against plain dictionaries, with crashes between the steps."""

import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from adapters.stores import Stores
from adapters.stores.archives import archives
from adapters.stores.batch import BatchWriter
from adapters.stores.lifecycle.steps import RetentionPolicy, archive_deployments, clean_errors, compress_monitoring
from models.metrics import Metric
from models.operations import Operation, OperationStatus, OperationType
from models.operations.record import OperationRecord
from models.settings import Settings
from tests.integration.stores.test_batch import put
from tests.integration.stores.values import ERROR
from tests.support.store_rows import all_or_none, probe_rows, series

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ONE_DAY = RetentionPolicy(**dict.fromkeys(("monitoring", "errors", "deployments", "failed_deployments"), timedelta(1)))

names = st.sampled_from(["a", "b", "c"])
environments = st.sampled_from(["dev", "prod"])


class StoresAndDictionaries(RuleBasedStateMachine):
    """Every rule does the same to the stores and to plain dictionaries."""

    @initialize()
    def begin(self) -> None:
        self.scratch = Path(tempfile.mkdtemp())
        self.folder = self.scratch / "0"
        self.crashes = 0
        self.open()
        self.operations: dict[str, tuple[OperationStatus, dict]] = {}
        self.errors: dict[tuple[str, str], int] = {}
        self.error_ids = 0
        self.leases: dict[str, str] = {}
        self.samples: dict[int, float] = {}
        self.probes = self.first_probe = 0
        self.archived = 0
        self.cleaned = False

    def open(self) -> None:
        self.stores = Stores.open(Settings(data_dir=self.folder))
        self.writer = BatchWriter(self.stores, batch_size=5)

    def teardown(self) -> None:
        self.writer.close()
        self.stores.close()
        shutil.rmtree(self.scratch)

    @rule(name=names, environment=environments)
    def begin_operation(self, name: str, environment: str) -> None:
        self.stores.operations.begin(operation(name, environment))
        self.operations.setdefault(name, (OperationStatus.RUNNING, {}))

    @rule(name=names, status=st.sampled_from([OperationStatus.SUCCESS, OperationStatus.FAILED]))
    def finish_operation(self, name: str, status: OperationStatus) -> None:
        if name not in self.operations:
            return
        running, details = self.operations[name]
        done = self.stores.operations.finish(name, status, NOON + MINUTE, OperationRecord(reason="done"))
        assert done is (running is OperationStatus.RUNNING)
        if done:
            self.operations[name] = (status, details | {"reason": "done"})

    @rule(service=names, environment=environments)
    def record_error(self, service: str, environment: str) -> None:
        self.error_ids += 1
        error = replace(ERROR, error_id=f"e{self.error_ids}", service=service, environment=environment)
        self.stores.errors.record(error)
        self.errors[environment, service] = self.errors.get((environment, service), 0) + 1

    @rule(service=names, environment=environments)
    def resolve_error(self, service: str, environment: str) -> None:
        for error in self.stores.errors.list_unresolved(environment):
            if error.service == service:
                assert self.stores.errors.resolve(error.error_id, NOON, "done")
        self.errors.pop((environment, service), None)

    @rule(name=st.sampled_from(["d", "e", "f", "g"]), service=names)
    def fail_a_start(self, name: str, service: str) -> None:
        self.error_ids += 1
        error = replace(ERROR, error_id=f"e{self.error_ids}", service=service)
        all_or_none(
            self.stores,
            [
                lambda inside: inside.operations.begin(operation(name, "prod")),
                lambda inside: inside.errors.record(error),
            ],
        )
        self.operations.setdefault(name, (OperationStatus.RUNNING, {}))
        self.errors["prod", service] = self.errors.get(("prod", service), 0) + 1

    @rule(environment=environments, owner=names)
    def take(self, environment: str, owner: str) -> None:
        answer = self.stores.leases.acquire(environment, owner, "r", NOON, MINUTE)
        assert answer.acquired is (self.leases.get(environment, owner) == owner)
        if answer.acquired:
            self.leases[environment] = owner

    @rule(environment=environments, owner=names)
    def release(self, environment: str, owner: str) -> None:
        held = self.leases.get(environment) == owner
        assert self.stores.leases.release(environment, owner) is held
        if held:
            del self.leases[environment]

    @rule(place=st.integers(0, 5), value=st.floats(-1e9, 1e9))
    def sample(self, place: int, value: float) -> None:
        at = NOON + place * MINUTE
        self.stores.metrics.add([Metric(environment="prod", service="s", name="m", value=value, sampled_at=at)])
        self.samples[place] = value

    @rule()
    def put_probe(self) -> None:
        put(self.writer, self.probes)
        self.probes += 1

    @precondition(lambda self: not self.cleaned)
    @rule()
    def clean_up(self) -> None:
        """Two days later all that is over leaves, but for the last success of each kind; once, since it is slow."""
        self.cleaned = True
        self.writer.flush()
        for step in (compress_monitoring, clean_errors, archive_deployments):
            assert step(self.stores, NOON + timedelta(days=2), ONE_DAY).complete
        self.archived += len(self.samples)
        self.samples = {}
        self.first_probe = self.probes
        self.operations = {
            name: known for name, known in self.operations.items() if known[0] is not OperationStatus.FAILED
        }

    @rule()
    def crash(self) -> None:
        """Go on with the files as a killed process leaves them at this moment."""
        self.crashes += 1
        after = self.scratch / str(self.crashes)
        shutil.copytree(self.folder, after, ignore=shutil.ignore_patterns("*-shm"))
        self.writer.close()
        self.stores.close()
        self.folder = after
        self.open()

    @invariant()
    def agree(self) -> None:
        assert {
            one.deployment_id: (one.status, one.details) for one in self.stores.operations.history()
        } == self.operations
        assert {
            (one.environment, one.service): one.count for one in self.stores.errors.list_unresolved()
        } == self.errors
        found = series(self.stores, "prod", "s", "m", NOON)
        assert found == [(NOON + place * MINUTE, value) for place, value in sorted(self.samples.items())]
        for environment in ("dev", "prod"):
            lease = self.stores.leases.current(environment, NOON)
            assert (lease.holder if lease else None) == self.leases.get(environment)

    @rule()
    def probes_agree(self) -> None:
        self.writer.flush()
        found = [one["detail"] for one in probe_rows(self.stores)]
        assert found == [str(place) for place in range(self.first_probe, self.probes)]

    @rule()
    def archives_agree(self) -> None:
        assert sum(one.rows for one in archives(self.stores) if one.table == "metric_samples") == self.archived

    @rule()
    def one_moment_agrees(self) -> None:
        with self.stores.read_one_moment() as moment:
            assert {one.deployment_id for one in moment.operations.history()} == self.operations.keys()
            assert sum(one.count for one in moment.errors.list_unresolved()) == sum(self.errors.values())


def operation(name: str, environment: str) -> Operation:
    return Operation(
        deployment_id=name,
        operation_type=OperationType.START,
        environment=environment,
        status=OperationStatus.RUNNING,
        started_at=NOON,
    )


TestStoresAndDictionaries = StoresAndDictionaries.TestCase
TestStoresAndDictionaries.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
