"""Spans reach a collector that the standard variables name, without texts, and one that is away costs nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.otlp_receiver import Received, otlp_receiver
from tests.support.ports import free_port

ROOT = Path(__file__).parents[3]
SECRET = "correct-horse-battery"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def run(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=kept | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def received() -> Iterator[Received]:
    with otlp_receiver() as receiver:
        yield receiver


def test_spans_arrive_with_their_attributes_below_each_other(received: Received) -> None:
    done = run(
        """
from tasks.runtime.traces import describe_span, record_wait, span
with span("start dev", environment="dev", release=None):
    record_wait("web waits", 1.5, service="web")
    describe_span(outcome="success", kept=True, probe_seconds=0.25)
""",
        **{ENDPOINT: received.url},
    )
    assert (done.returncode, done.stderr) == (0, "")
    start, waits = received.named("start dev"), received.named("web waits")
    assert start.attributes == {
        "roas.environment": "dev", "roas.outcome": "success", "roas.kept": True, "roas.probe_seconds": 0.25,
    }  # fmt: skip
    assert start.resource["service.name"] == "roas-ops"
    assert (waits.trace_id, waits.parent_id) == (start.trace_id, start.span_id)
    assert waits.seconds == pytest.approx(1.5)


def test_no_text_of_an_error_or_state_is_sent(received: Received) -> None:
    done = run(
        f"""
from contextlib import suppress
from opentelemetry import trace
from tasks.runtime.traces import span
with suppress(ValueError), span("own"):
    raise ValueError("{SECRET}")
# As Prefect does.
prefect = trace.get_tracer("prefect").start_span("run", attributes={{"prefect.run.id": "1", "note": "{SECRET}"}})
prefect.record_exception(ValueError("{SECRET}"))
prefect.add_event("Failed", {{"prefect.state.message": "{SECRET}", "prefect.state.type": "FAILED"}})
prefect.set_status(trace.Status(trace.StatusCode.ERROR, "{SECRET}"))
prefect.end()
""",
        **{ENDPOINT: received.url},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert SECRET.encode() not in b"".join(received.bodies)
    own, of_run = received.named("own"), received.named("run")
    assert (own.failed, own.attributes, own.events) == (True, {"error.type": "ValueError"}, ())
    assert (of_run.failed, of_run.message, of_run.attributes) == (True, "", {"prefect.run.id": "1"})
    assert of_run.events == (
        ("exception", {"exception.type": "ValueError"}), ("Failed", {"prefect.state.type": "FAILED"}),
    )  # fmt: skip


def test_a_separate_trace_links_to_the_run_and_to_a_span_of_before(received: Received) -> None:
    done = run(
        """
from tasks.runtime.traces import link_span, separate_trace, span, traceparent
with span("operation"):
    before = traceparent()
with span("error recovery"), separate_trace("recover web", error_id="e1"):
    link_span("operation", before)
    link_span("other", None)
    with span("restart web"):
        pass
""",
        **{ENDPOINT: received.url},
    )
    assert (done.returncode, done.stderr) == (0, "")
    recovery, step = received.named("recover web"), received.named("restart web")
    operation, run_span = received.named("operation"), received.named("error recovery")
    assert (recovery.parent_id, step.trace_id, step.parent_id) == ("", recovery.trace_id, recovery.span_id)
    assert len({recovery.trace_id, operation.trace_id, run_span.trace_id}) == 3
    assert recovery.links == (
        (run_span.trace_id, run_span.span_id, {"roas.link": "run"}),
        (operation.trace_id, operation.span_id, {"roas.link": "operation"}),
    )


def test_a_run_of_many_hours_sends_only_its_separate_traces(received: Received) -> None:
    done = run(
        """
from tasks.runtime.traces import separate_trace, span, pause_tracing
with span("watch"), pause_tracing():
    with span("sweep"):
        pass
    with separate_trace("recover web"), span("restart web"):
        pass
""",
        **{ENDPOINT: received.url},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {one.name for one in received.spans} == {"watch", "recover web", "restart web"}
    assert received.named("recover web").links == ()


@pytest.mark.parametrize("parent_first", [False, True])
def test_a_fork_sends_its_own_spans(received: Received, parent_first: bool) -> None:
    done = run(
        f"""
import atexit, os
from tasks.runtime.traces import span
if {parent_first}:
    with span("parent"):
        pass
if os.fork() == 0:
    with span("child"):
        pass
    atexit._run_exitfuncs()
    os._exit(0)
os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
""",
        **{ENDPOINT: received.url},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [one.name for one in received.spans if one.name == "child"] == ["child"]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "RECEIVER", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: "RECEIVER", "OTEL_TRACES_EXPORTER": "none"},
    ],
    ids=str,
)
def test_without_a_collector_nothing_is_sent_and_the_sdk_is_not_imported(
    received: Received, variables: dict[str, str]
) -> None:
    done = run(
        """
import sys
from tasks.runtime.traces import describe_span, separate_trace, span, traceparent, pause_tracing
with span("start dev"), pause_tracing(), separate_trace("recover"):
    describe_span(outcome="success")
    assert traceparent() is None
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
""",
        **{name: value.replace("RECEIVER", received.url) for name, value in variables.items()},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not received.bodies


@contextmanager
def hanging_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def refused_port() -> Iterator[int]:
    yield free_port()


@pytest.mark.parametrize("port", [hanging_port, refused_port])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_collector_that_is_away_neither_keeps_a_program_nor_fails_it(port: object, protocol: str) -> None:
    with port() as number:  # type: ignore[operator]
        done = run(
            """
from tasks.runtime.traces import span
with span("start dev"):
    print("done")
""",
            # Longer than this test may take: the program must not wait so long.
            **{ENDPOINT: f"http://user:{SECRET}@127.0.0.1:{number}", "OTEL_EXPORTER_OTLP_TIMEOUT": "600"},
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        )
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr == f"The collector at 127.0.0.1:{number} did not take the last traces of this process.\n"


def test_without_the_sdk_the_user_learns_what_to_install() -> None:
    done = run(
        """
import sys
sys.modules["opentelemetry.sdk.trace"] = None
from tasks.runtime.traces import span
with span("start dev"), span("below"):
    print("done")
""",
        **{ENDPOINT: "http://127.0.0.1:4318"},
    )
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr.startswith("Traces are not sent: OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry's SDK is")
    assert done.stderr.count("\n") == 1
