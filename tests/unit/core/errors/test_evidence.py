"""What signs add up to, what failed first, which lines show it, and what fits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from adapters.pattern_files import shipped_set
from core.common.exit_codes import LEFT_THE_FOREGROUND
from core.common.stamps import moment_of
from core.errors import evidence as evidence_module
from core.errors.evidence import container_evidence, evidence_of, grade_memory, reachable, time_of_failure
from core.errors.evidence_page import page
from core.errors.evidence_size import excerpt, fit_bundle
from models.containers import ContainerEvent, ContainerState
from models.evidence import (
    ContainerEvidence,
    LogExcerpt,
    MemoryFinding,
    MemoryGrade,
    MemorySigns,
    ProbeOutput,
)
from tests.integration.stores.values import BUNDLE

best_line = partial(evidence_module.best_line, patterns=shipped_set())
first_cause = partial(evidence_module.first_cause, patterns=shipped_set())
telling_lines = partial(evidence_module.failure_lines, patterns=shipped_set())

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

KILLED = ContainerState(
    container_id="c" * 64,
    name="app-bot-1",
    service="bot",
    project="app",
    number=1,
    image="bot:1",
    image_id="sha256:1",
    state="exited",
    seen_at=NOON,
    exit_code=137,
    memory_limit_bytes=16 * 1024 * 1024,
    finished_at=NOON,
)
DIED = ContainerEvent(happened_at=NOON, container_id=KILLED.container_id, service="bot", project="app", action="die")
CRASHED = container_evidence(replace(KILLED, exit_code=3), MemorySigns(), [])


def of(service: str, evidence: ContainerEvidence = CRASHED, **change: object) -> ContainerEvidence:
    return replace(evidence, service=service, name=f"app-{service}-1", **change)


def said(service: str, *lines: str) -> LogExcerpt:
    return LogExcerpt(service=service, container=f"app-{service}-1", lines=lines)


def answer(service: str = "bot", *, ok: bool = False, output: str = "refused", at: datetime = NOON) -> ProbeOutput:
    return ProbeOutput(service=service, source="tcp probe", ok=ok, output=output, first_at=at, last_at=at)


@pytest.mark.parametrize(
    ("container_state", "signs", "events", "words"),
    [
        (replace(KILLED, oom_killed=True), MemorySigns(), [], "the engine says so"),
        (KILLED, MemorySigns(oom_kills=2), [], "the kernel counts 2"),
        (KILLED, MemorySigns(kernel_lines=("oom-kill",)), [], "the kernel's log names its container"),
        (KILLED, MemorySigns(), [replace(DIED, action="oom")], "the engine reported it once"),
    ],
)
def test_a_sign_of_kernel_or_engine_proves_a_kill_for_memory(container_state, signs, events, words) -> None:
    found = grade_memory(container_state, signs, events)

    assert found.grade is MemoryGrade.PROVEN
    assert found.sentence.startswith("killed for using too much memory (limit 16 MiB)")
    assert words in found.sentence


def test_exit_code_137_alone_is_only_probable() -> None:
    found = grade_memory(KILLED, MemorySigns(oom_kills=0, kernel_lines=()), [DIED])

    assert found.grade is MemoryGrade.PROBABLE
    assert found.sentence.startswith("probably")


@pytest.mark.parametrize("action", ["stop", "kill"])
def test_a_stop_that_was_asked_for_is_no_sign_of_memory(action) -> None:
    asked = grade_memory(KILLED, MemorySigns(), [replace(DIED, action=action), DIED])

    assert asked.grade is MemoryGrade.NONE


@pytest.mark.parametrize("events", [None, []])
def test_without_the_events_of_its_end_exit_code_137_says_nothing_of_memory(events) -> None:
    assert grade_memory(KILLED, MemorySigns(), events).grade is MemoryGrade.NONE


def test_events_of_another_container_do_not_count() -> None:
    other = replace(DIED, container_id="d" * 64, action="oom")

    assert grade_memory(replace(KILLED, exit_code=1), MemorySigns(), [other]).grade is MemoryGrade.NONE


def test_a_child_killed_in_a_container_that_goes_on_is_reported_as_such() -> None:
    found = grade_memory(replace(KILLED, state="running", exit_code=0), MemorySigns(oom_kills=1), [])

    assert found.sentence.startswith("a process in it was killed")


@pytest.mark.parametrize(("seconds_ago", "counts"), [(3, True), (60, False)])
def test_a_kill_for_memory_counts_for_a_container_that_is_back_already_where_it_was_just_now(
    seconds_ago: int, counts: bool
) -> None:
    events = tuple(
        replace(DIED, action=action, happened_at=BUNDLE.taken_at - timedelta(seconds=seconds_ago))
        for action in ("oom", "die")
    )
    back = container_evidence(replace(KILLED, state="running", service=BUNDLE.service), MemorySigns(), events)
    found = evidence_of(replace(BUNDLE, containers=(back,), events=events))
    assert found is not None
    assert found.oom_killed is counts


def test_a_proven_kill_is_in_the_words_of_the_end_and_guesses_are_not() -> None:
    proven = container_evidence(replace(KILLED, oom_killed=True), MemorySigns())

    assert "killed for using too much memory" in proven.ended
    assert "or by the kernel" not in proven.ended


def test_a_running_container_has_no_end() -> None:
    running = container_evidence(replace(KILLED, state="running"), MemorySigns())

    assert (running.exit_code, running.ended) == (None, "")


def test_the_first_cause_names_the_exit_and_the_last_log_line() -> None:
    cause, sentence = first_cause("bot", {}, [of("bot")], [said("bot", "starting", "KeyError: 'TOKEN' missing")], [])

    assert cause == "bot"
    assert sentence == "bot ended with exit code 3; it said \"KeyError: 'TOKEN' missing\""


def test_a_failed_dependency_comes_before_its_dependant() -> None:
    containers = [of("bot"), of("redis", finished_at=NOON + SECOND)]

    cause, sentence = first_cause("bot", {"bot": ("redis",)}, containers, [], [])

    assert cause == "redis"
    assert sentence.endswith("bot needs it")


def test_a_healthy_dependency_is_no_first_cause() -> None:
    well = of("redis", state="running", exit_code=None, ended="", health="healthy", finished_at=None)

    assert first_cause("bot", {"bot": ("redis",)}, [of("bot"), well], [], [])[0] == "bot"


def test_the_deepest_failed_dependency_is_the_first() -> None:
    needs = {"bot": ("cache", "db"), "cache": ("db",)}
    containers = [of("bot"), of("cache", finished_at=NOON - SECOND), of("db", finished_at=NOON + SECOND)]

    assert first_cause("bot", needs, containers, [], [])[0] == "db"


def test_of_two_failed_dependencies_the_earlier_one_is_the_first() -> None:
    containers = [of("bot"), of("a", finished_at=NOON), of("b", finished_at=NOON - SECOND)]

    assert first_cause("bot", {"bot": ("a", "b")}, containers, [], [])[0] == "b"


def test_a_dependency_cycle_ends() -> None:
    assert reachable("a", {"a": ("b",), "b": ("a", "c"), "c": ("b",)}) == ("b", "c")


def test_a_service_that_runs_but_does_not_answer_is_reported_by_its_probe() -> None:
    running = of("bot", state="running", exit_code=None, ended="")

    _, sentence = first_cause("bot", {}, [running], [], [answer(ok=True), answer(output="HTTP 503", at=NOON + SECOND)])

    assert sentence == "bot runs but does not serve: HTTP 503"


def test_a_health_check_that_passes_later_does_not_answer_for_a_probe_that_fails() -> None:
    check = replace(answer(ok=True, output="", at=NOON + SECOND), source="health check of bot-1")

    running = of("bot", state="running", exit_code=None, ended="", health="healthy")

    _, sentence = first_cause("bot", {}, [running], [], [answer(), check])

    assert sentence == "bot runs but does not serve: refused"
    assert time_of_failure(replace(BUNDLE, cause_service="bot", containers=(), probes=(answer(), check))) == NOON


def test_a_service_that_answers_again_shows_no_failure() -> None:
    running = of("bot", state="running", exit_code=None, ended="", health="healthy")

    _, sentence = first_cause("bot", {}, [running], [], [answer(), answer(ok=True, at=NOON + SECOND)])

    assert sentence == "bot shows no failure of its own: it was running and healthy"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": "restarting", "restart_count": 4}, "keeps crashing, restarted 4 times, last with exit code 3"),
        ({"state": "created", "ended": "no such file", "exit_code": None}, "could not be started: no such file"),
        ({"state": "running", "health": "unhealthy"}, "fails its health check"),
        ({"state": "paused", "health": "unhealthy"}, "is paused: docker unpause app-bot-1"),
        ({"exit_code": 0, "ended": "exit code 0"}, "ended with exit code 0"),
        (
            {"exit_code": 0, "ended": "exit code 0", "state": "restarting", "restart_count": 6},
            f"was restarted 6 times and always ended with {LEFT_THE_FOREGROUND}",
        ),
    ],
)
def test_each_way_to_fail_has_its_words(change, words) -> None:
    assert first_cause("bot", {}, [of("bot", **change)], [], [])[1] == f"bot {words}"


def test_a_service_without_a_container_is_reported_as_such() -> None:
    assert first_cause("bot", {}, [], [], [])[1] == "bot has no container"


def test_it_began_to_fail_with_the_first_answer_of_the_last_bad_row() -> None:
    answers = [answer("web", ok=second == 1, at=NOON + second * SECOND) for second in range(4)]

    assert time_of_failure(replace(BUNDLE, containers=(), probes=tuple(answers))) == NOON + 2 * SECOND


def test_a_crash_loop_began_with_its_first_crash_not_with_an_earlier_end() -> None:
    crashing = replace(BUNDLE.containers[0], state="restarting", restart_count=2, finished_at=NOON)
    ends = tuple(replace(BUNDLE.events[0], happened_at=NOON - minutes * 60 * SECOND) for minutes in (9, 3, 2, 1))

    assert time_of_failure(replace(BUNDLE, containers=(crashing,), events=ends)) == NOON - 3 * 60 * SECOND


def test_the_line_that_names_a_cause_is_preferred_to_later_ones() -> None:
    lines = ("2026-07-01T12:00:00.123456789Z bind: address already in use", "2026-07-01T12:00:01Z error: giving up")

    assert best_line("bot", [said("bot", *lines)]) == "bind: address already in use"


def test_a_log_that_speaks_of_no_failure_has_no_best_line() -> None:
    assert best_line("bot", [said("bot", "INFO ready", "INFO bye")]) is None


STAMP = "2026-11-27T13:34:{:06.3f}000000Z "


def stamped(*lines: str, every: float = 0.01) -> LogExcerpt:
    return said("bot", *(STAMP.format(number * every) + line for number, line in enumerate(lines)))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            (
                "[NOTICE]   (1) : haproxy version is 3.0.11-1+deb13u5",
                "[ALERT]    (1) : config : parsing [/etc/haproxy.cfg:12] : unknown keyword 'blance'",
                "[ALERT]    (1) : config : Error(s) found in configuration file : /etc/haproxy.cfg",
                "[ALERT]    (1) : config : Fatal errors found in configuration.",
            ),
            "unknown keyword 'blance'",
        ),
        (
            (
                '2026-11-27 13:44:30.010 GMT [1] LOG:  skipping missing configuration file "postgresql.auto.conf"',
                '2026-11-27 13:44:30.011 GMT [1] FATAL:  data directory "/data" has wrong ownership',
                "2026-11-27 13:44:30.011 GMT [1] HINT:  The server must be started by the user that owns it.",
            ),
            "has wrong ownership",
        ),
        (
            (
                "2026-11-27 13:44:58 0 [Note] InnoDB: Completed initialization of buffer pool",
                "2026-11-27 13:44:58 0 [ERROR] InnoDB: redo log file './ib_logfile0' exists.",
                "2026-11-27 13:44:58 0 [Note] InnoDB: Starting shutdown...",
                "2026-11-27 13:44:58 0 [ERROR] Unknown/unsupported storage engine: InnoDB",
                "2026-11-27 13:44:58 0 [ERROR] Aborting",
            ),
            "redo log file",
        ),
        (
            (
                "[27-Nov-2026 13:40:09] ERROR: [/etc/shop/fpm.conf:7] unable to parse value for entry 'pm'",
                "[27-Nov-2026 13:40:09] ERROR: failed to load configuration file '/etc/shop/fpm.conf'",
                "[27-Nov-2026 13:40:09] ERROR: FPM initialization failed",
            ),
            "unable to parse value",
        ),
        (
            (
                "Error: Database is uninitialized and superuser password is not specified.",
                "       You must specify POSTGRES_PASSWORD to a non-empty value for the",
            ),
            "superuser password is not specified",
        ),
        (
            (
                "2026-11-27 13:35:40.6+00:00 [error] <0.1.0> You set a.b, but there is no setting with that name.",
                "2026-11-27 13:35:40.6+00:00 [error] <0.1.0> Did you mean one of these?",
                "2026-11-27 13:35:40.6+00:00 [error] <0.1.0>     vm_memory_high_watermark.relative",
                'Kernel pid terminated (application_controller) ("{prelaunch,failed_to_prepare_configuration}")',
            ),
            "no setting with that name",
        ),
        (
            (
                'Exception in thread "main" java.lang.IllegalStateException: catalogue is not usable',
                "\tat Shop.main(Shop.java:16)",
                "Caused by: java.lang.NullPointerException: item is null",
            ),
            "item is null",
        ),
        (
            (
                "Traceback (most recent call last):",
                '  File "/app.py", line 5, in <module>',
                'psycopg2.OperationalError: it failed: FATAL:  Passwort-Authentifizierung für "app" fehlgeschlagen',
            ),
            "Passwort-Authentifizierung",
        ),
        (
            (
                "2026-11-27 14:35:08.136 GMT [1] FATAL:  database files are incompatible with server",
                "2026-11-27 14:35:08.136 GMT [1] DETAIL:  The data directory was initialized by PostgreSQL version 15.",
            ),
            "initialized by PostgreSQL version 15",
        ),
        (
            ("usage: import [-h] --source SOURCE", "import: error: the following arguments are required: --source"),
            "arguments are required",
        ),
        (
            (
                "ERROR:shop:the shop could not be started",
                "Traceback (most recent call last):",
                '  File "/app.py", line 5, in <module>',
                "ModuleNotFoundError: No module named 'yaml'",
            ),
            "ModuleNotFoundError",
        ),
    ],
    ids=[
        "haproxy",
        "postgresql",
        "mariadb",
        "php-fpm",
        "indented",
        "rabbitmq",
        "java",
        "german",
        "detail",
        "argparse",
        "python",
    ],
)
def test_the_first_error_of_those_written_together_tells_the_cause(lines: tuple[str, ...], words: str) -> None:
    assert words in (best_line("bot", [stamped(*lines)]) or "")


@pytest.mark.parametrize("raised", ["OSError: queue is not connected", "shop.errors.Closed: come back on Monday"])
def test_a_traceback_is_summarised_by_what_it_raises(raised: str) -> None:
    name, _, text = raised.partition(": ")
    head, frame = "Traceback (most recent call last):", '  File "/srv/app.py", line 26, in do_GET'
    crash = (head, frame, f'    raise {name}("{text}")', raised)

    for lines in (crash, ("listening", *crash, *crash), (head, frame, "    order()", "    ~~~~~^^", raised, "bye")):
        assert best_line("bot", [stamped(*lines)]) == raised


def test_an_error_long_before_is_another_one() -> None:
    lines = ("2026-11-27 13:34:00 ERROR could not warm the cache", "2026-11-27 13:34:30 ERROR giving up")

    assert "giving up" in (best_line("bot", [stamped(*lines, every=30)]) or "")
    assert "could not warm" in (best_line("bot", [stamped(*lines)]) or "")


def test_the_lines_since_the_last_start_decide_if_they_report_a_failure() -> None:
    log = stamped("bind: address already in use", "error: disk is slow", every=30)
    last_start = datetime(2026, 11, 27, 13, 34, 20, tzinfo=UTC)

    assert best_line("bot", [log], started_at=last_start) == "error: disk is slow"
    assert best_line("bot", [log], started_at=last_start + 60 * SECOND) == "bind: address already in use"


def test_a_service_that_reports_no_failure_is_quoted_with_its_last_line() -> None:
    waiting = of("bot", state="running", exit_code=None, ended="")

    _, sentence = first_cause("bot", {}, [waiting], [said("bot", "Waiting for changelog lock....", "")], [])

    assert (
        sentence == 'bot shows no failure of its own: it was running; its last line is "Waiting for changelog lock...."'
    )


def test_a_cause_before_a_long_traceback_is_evidence() -> None:
    lines = ("ERROR the pool could not be started", *(f"\tat shop.Pool.open{n}(Pool.java:{n})" for n in range(100)))
    log = replace(stamped(*lines), container=BUNDLE.containers[0].name)

    found = evidence_of(replace(BUNDLE, logs=(log,)))

    assert found is not None
    assert [line.partition(" ")[2] for line in found.logs] == [lines[0]]


def test_a_service_that_waits_silently_is_explained_by_what_its_dependency_reports_since() -> None:
    lines = ("2026-11-27 13:34:00 UTC [80] LOG:  process 80 still waiting for AccessExclusiveLock on relation 16384",)
    log = replace(stamped(*lines), service="db")
    began = datetime(2026, 11, 27, 13, 33, tzinfo=UTC)
    waiting = of("bot", state="running", exit_code=None, ended="", started_at=began)

    _, sentence = first_cause("bot", {"bot": ("db",)}, [waiting], [log], [])
    _, later = first_cause("bot", {"bot": ("db",)}, [replace(waiting, started_at=began + 600 * SECOND)], [log], [])

    assert 'it was running; db, which it needs, said "' in sentence
    assert "AccessExclusiveLock" in sentence
    assert later == "bot shows no failure of its own: it was running"


def test_a_dependency_that_left_the_foreground_is_the_cause_of_a_dependant_that_does_not_reach_it() -> None:
    gone = of("cache", exit_code=0, ended="exit code 0")
    refused = said("bot", "redis.exceptions.ConnectionError: Error -2 connecting to cache:6379. Name not known.")
    other = said("bot", "KeyError: 'TOKEN' missing")

    cause, sentence = first_cause("bot", {"bot": ("cache",)}, [of("bot"), gone], [refused], [])

    assert cause == "cache"
    assert sentence.startswith("cache ended with exit code 0, as a program does that goes into the background")
    assert first_cause("bot", {"bot": ("cache",)}, [of("bot"), gone], [other], [])[0] == "bot"


def test_telling_lines_are_those_with_the_cause_and_what_leads_up_to_it() -> None:
    lines = [f"INFO tick {number}" for number in range(50)]
    lines[20:23] = [
        "Traceback (most recent call last):",
        "  import yaml",
        "ModuleNotFoundError: No module named 'yaml'",
    ]

    assert telling_lines(lines, 3) == [21, 22]


def test_lines_that_a_crash_loop_repeats_are_shown_once_with_what_led_up_to_the_last() -> None:
    lines = ["INFO loading", "Traceback", "  File bot.py, line 3", "KeyError: TOKEN"] * 5

    assert telling_lines(lines, 6) == [16, 17, 18, 19]


def test_without_a_word_of_failure_the_last_lines_are_shown() -> None:
    assert telling_lines(["one", "two", "three", ""], 2) == [1, 2]


def test_a_log_is_cut_between_lines_and_from_its_beginning() -> None:
    cut = excerpt("bot", "app-bot-1", "a" * 50 + "\n" + "b" * 50 + "\nc", 100, most_bytes=60)

    assert cut.lines == ("b" * 50, "c")
    assert cut.cut
    assert not excerpt("bot", "app-bot-1", "a\nb", 100).cut
    assert excerpt("bot", "app-bot-1", "a\nb", 2).cut


def test_a_bundle_that_is_too_large_loses_the_logs_of_others_first() -> None:
    own = LogExcerpt(service="web", container="prod-web-1", lines=("x" * 99,) * 10)
    other = replace(own, service="db", container="prod-db-1")

    smaller = fit_bundle(replace(BUNDLE, logs=(own, other), probes=(), events=()), 1500)

    assert [len(log.lines) for log in smaller.logs] == [10, 5]
    assert [log.cut for log in smaller.logs] == [False, True]


def test_a_bundle_keeps_its_size_whatever_it_holds() -> None:
    log = LogExcerpt(service="web", container="prod-web-1", lines=("x" * 999,) * 60)
    probes = tuple(answer(output=f"{number} " + "y" * 4000, at=NOON + number * SECOND) for number in range(100))

    smaller = fit_bundle(replace(BUNDLE, logs=(log,) * 20, probes=probes), 256 * 1024)

    size = sum(len(line) + 1 for log in smaller.logs for line in log.lines)
    assert size + sum(len(probe.output) for probe in smaller.probes) <= 256 * 1024
    assert smaller.probes[0] == probes[0]
    assert smaller.probes[-1] == probes[-1]


def test_classification_gets_the_worst_container_of_the_service_itself() -> None:
    well = replace(BUNDLE.containers[0], name="prod-web-2", state="running", exit_code=None)
    other = replace(BUNDLE.containers[0], service="db", exit_code=9)

    ended = replace(BUNDLE.containers[0], finished_at=NOON + 5 * SECOND)
    found = evidence_of(replace(BUNDLE, containers=(well, ended, other)))

    assert found is not None
    assert (found.exit_code, found.container_state) == (1, "exited")
    assert found.logs == ("bind: address already in use",)
    assert found.probe_outputs == ("refused",)


def test_log_lines_before_a_kill_are_no_cause_of_it() -> None:
    one = BUNDLE.containers[0]
    died = replace(DIED, container_id=one.container_id, service="web")
    killed = replace(died, action="kill", attributes={"signal": "9"})

    def logs(*events: ContainerEvent) -> tuple[str, ...]:
        found = evidence_of(replace(BUNDLE, events=events))
        assert found is not None
        return found.logs

    assert logs(killed, died) == ()
    assert logs(killed, replace(died, happened_at=NOON + timedelta(hours=1))) != ()
    assert logs(replace(killed, attributes={"signal": "1"}), died) != ()


def test_a_kill_before_the_last_start_of_a_container_ended_an_earlier_run() -> None:
    one = replace(BUNDLE.containers[0], started_at=NOON - SECOND)
    died = replace(DIED, container_id=one.container_id, service="web")
    killed = replace(died, action="kill", attributes={"signal": "9"}, happened_at=NOON - 2 * SECOND)

    found = evidence_of(replace(BUNDLE, containers=(one,), events=(killed, died)))

    assert found is not None
    assert found.logs == ("bind: address already in use",)


def test_only_what_was_written_since_a_moment_is_weighed_where_one_is_given() -> None:
    lines = ("2026-07-01T11:59:59.9Z of before", "2026-07-01T12:00:00.1Z bind: address already in use")
    log = replace(BUNDLE.logs[0], lines=lines)
    found = evidence_of(replace(BUNDLE, logs=(log,)), since=NOON)
    assert found is not None
    assert found.logs == lines[1:]


def test_a_bundle_without_containers_weighs_nothing() -> None:
    assert evidence_of(replace(BUNDLE, containers=())) is None


@pytest.mark.parametrize("text", ["2026-11-24T19:57:07.299002238Z", "2026-11-24T20:57:07.299002238+01:00"])
def test_the_engines_times_are_read_to_the_microsecond_in_utc(text) -> None:
    assert moment_of(text) == datetime(2026, 11, 24, 19, 57, 7, 299002, tzinfo=UTC)


def test_a_page_cannot_be_broken_by_what_a_log_or_a_name_holds() -> None:
    shown = page([replace(BUNDLE, first_cause="a | b `c`", logs=(said("web", "```", "**x**"),))])

    assert "a \\| b \\`c\\`" in shown
    assert "````text\n```\n**x**\n````" in shown


def test_a_check_that_passed_since_explains_no_failure_of_today() -> None:
    refused = answer("web")
    passed = answer("web", ok=True, output="", at=NOON + SECOND)
    again = answer("web", output="503", at=NOON + 2 * SECOND)

    def weighed(*answers: ProbeOutput) -> tuple[str, ...]:
        running = replace(BUNDLE.containers[0], state="running", exit_code=None)
        found = evidence_of(replace(BUNDLE, probes=answers, containers=(running,)))
        assert found is not None
        return found.probe_outputs

    assert weighed(refused) == ("refused",)
    assert weighed(refused, passed) == ()
    assert weighed(refused, passed, again) == ("503",)


@pytest.mark.parametrize(
    ("state", "seconds_before_the_end", "counts"),
    [
        ("running", 0, True),
        ("exited", -2, False),
        ("exited", 0, False),
        ("exited", 1, False),
        ("exited", 1.1, True),
        ("exited", 5, True),
    ],
)
def test_a_check_that_met_a_container_which_was_ending_does_not_explain_its_end(
    state: str, seconds_before_the_end: float, counts: bool
) -> None:
    ended = NOON + seconds_before_the_end * SECOND
    containers = tuple(replace(one, state=state, finished_at=ended) for one in BUNDLE.containers)

    found = evidence_of(replace(BUNDLE, probes=(answer("web", output="refused"),), containers=containers))

    assert found is not None
    assert found.probe_outputs == (("refused",) if counts else ())


def test_lines_of_the_container_that_failed_are_quoted_and_not_those_of_the_one_that_serves_beside_it() -> None:
    serves = replace(CRASHED, name="app-bot-1", state="running", exit_code=None, health="healthy", started_at=NOON)
    slow = replace(serves, name="app-bot-2", health="starting", started_at=NOON + SECOND)
    logs = [
        LogExcerpt(service="bot", container="app-bot-1", lines=("2026-07-01T12:00:09Z GET / 200",)),
        LogExcerpt(service="bot", container="app-bot-2", lines=("2026-07-01T12:00:02Z loading the model",)),
    ]
    _, sentence = first_cause("bot", {}, [serves, slow], logs, [])
    assert 'its last line is "loading the model"' in sentence


def test_the_last_line_is_of_this_start_and_not_of_the_one_before() -> None:
    started = replace(CRASHED, name="app-bot-1", state="running", exit_code=None, started_at=NOON + SECOND)
    logs = [LogExcerpt(service="bot", container="app-bot-1", lines=("2026-07-01T11:59:59Z shutting down",))]
    _, sentence = first_cause("bot", {}, [started], logs, [])
    assert "shutting down" not in sentence


def test_of_a_health_check_that_raised_only_what_it_raised_is_shown() -> None:
    said = (
        'exit code 1: Traceback (most recent call last):\n  File "<string>", line 1, in <module>\n'
        "    open(\n        'http://127.0.0.1:8000/')\n    ~~~^^^^^^\nHTTPError: HTTP Error 500: INTERNAL SERVER ERROR"
    )
    failing = replace(BUNDLE.containers[0], state="running", exit_code=None, health="unhealthy")
    answer = replace(BUNDLE.probes[0], output=said)

    _, sentence = first_cause("web", {}, [failing], [], [answer])

    assert sentence == "web fails its health check: exit code 1: HTTPError: HTTP Error 500: INTERNAL SERVER ERROR"


def test_a_kill_for_memory_comes_before_the_health_check_that_fails_since() -> None:
    killed = MemoryFinding(grade=MemoryGrade.PROVEN, sentence="a process in it was killed for using too much memory")
    one = replace(BUNDLE.containers[0], state="running", exit_code=None, health="unhealthy", memory=killed)

    _, sentence = first_cause("web", {}, [one], [], [])

    assert sentence.endswith("killed for using too much memory; it fails its health check")
