"""Answers of health checks are kept as they come, though the engine shows the last five only."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from models.containers import ContainerState, HealthLogEntry
from models.health import ProbeResult
from tasks.errors.evidence import ProbeJournal

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
SEEN = ContainerState(
    container_id="c1",
    name="app-bot-1",
    service="bot",
    project="app",
    number=1,
    image="bot:1",
    image_id="sha256:1",
    state="running",
    seen_at=NOON,
)


def entry(second: int, output: str = "", exit_code: int = 1) -> HealthLogEntry:
    at = NOON + timedelta(seconds=second)
    return HealthLogEntry(ended_at=f"{at:%Y-%m-%dT%H:%M:%S}.123456789Z", exit_code=exit_code, output=output)


def test_a_window_that_slides_past_the_engines_five_is_kept_whole() -> None:
    journal, log = ProbeJournal(), [entry(second, f"answer {second}") for second in range(20)]

    for end in range(5, 21, 2):
        journal.note_health_log([replace(SEEN, health_log=tuple(log[end - 5 : end]))])

    assert [one.output for one in journal.outputs_of("bot")] == [
        f"exit code 1: answer {second}" for second in range(19)
    ]


def test_seeing_the_same_answers_again_adds_nothing() -> None:
    journal, seen = ProbeJournal(), replace(SEEN, health_log=(entry(1, "a"), entry(2, "b")))

    journal.note_health_log([seen])
    journal.note_health_log([seen])

    assert [one.times for one in journal.outputs_of("bot")] == [1, 1]


def test_the_same_answer_given_again_is_counted_with_its_first_and_last_time() -> None:
    journal = ProbeJournal()

    journal.note_health_log([replace(SEEN, health_log=tuple(entry(second, "refused") for second in range(4)))])

    (one,) = journal.outputs_of("bot")
    assert one.times == 4
    assert one.last_at - one.first_at == timedelta(seconds=3)


def test_replicas_and_probes_are_kept_apart() -> None:
    journal = ProbeJournal()
    answer = ProbeResult(service="bot", kind="tcp", target="10.0.0.1:1", ok=False, detail="refused", checked_at=NOON)

    journal.note_health_log([replace(SEEN, health_log=(entry(1, "refused"),))])
    journal.note_health_log([replace(SEEN, container_id="c2", name="app-bot-2", health_log=(entry(1, "refused"),))])
    journal.keep_answer(answer)
    journal.keep_answer(answer)

    assert [(one.source, one.times) for one in journal.outputs_of("bot")] == [
        ("health check of app-bot-1", 1),
        ("health check of app-bot-2", 1),
        ("tcp probe", 2),
    ]


def test_a_check_that_passes_has_no_exit_code_in_its_words() -> None:
    journal = ProbeJournal()

    journal.note_health_log([replace(SEEN, health_log=(entry(1, "fine\n", exit_code=0),))])

    assert [(one.ok, one.output) for one in journal.outputs_of("bot")] == [(True, "fine")]


def test_the_end_of_an_answer_that_the_engine_cut_is_dropped_since_it_may_be_half_a_secret() -> None:
    journal = ProbeJournal()

    journal.note_health_log([replace(SEEN, health_log=(entry(1, "a\n" + "x" * 4094), entry(2, "y" * 4096)))])

    assert [one.output for one in journal.outputs_of("bot")] == ["exit code 1: a", "exit code 1: " + "y" * (4096 - 512)]


def test_of_very_many_answers_the_first_and_the_latest_stay() -> None:
    journal = ProbeJournal()

    for second in range(500):
        journal.note_health_log([replace(SEEN, health_log=(entry(second, str(second)),))])

    kept = [int(one.output.removeprefix("exit code 1: ")) for one in journal.outputs_of("bot")]
    assert kept == [*range(20), *range(420, 500)]


def test_a_service_that_was_not_probed_has_no_answers() -> None:
    assert ProbeJournal().outputs_of("bot") == ()
