"""Excerpts of logs: levels by the format of the logger, tracebacks reduced to their cause, what healed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pytest

from adapters.pattern_files import shipped_reader, shipped_set
from core.errors.classify import classify as classify_by
from core.errors.reading import (
    LONGEST_TEXT,
    BadReadingError,
    Level,
    LogFormat,
    LogFormats,
    LogLine,
    bounded,
    level_named,
    read_formats,
    without_frames,
)
from models.errors import Category

classify = partial(classify_by, patterns=shipped_set())

READER = shipped_reader()
RULES = READER.recoveries
LINES = [(one, line, parts) for one in READER.formats for line, parts in one.examples.items()]


@pytest.mark.parametrize(("one", "line", "parts"), LINES, ids=[f"{one.name}-{line[:30]}" for one, line, _ in LINES])
def test_a_format_reads_the_parts_of_its_examples(one: LogFormat, line: str, parts: Mapping[str, str]) -> None:
    assert one.expressions[0].search(line[READER.prefix.search(line).end() :]) is not None
    read = READER.read_line(line)
    assert read.level is level_named(parts.get("level", ""))
    others = {name: word for name, word in parts.items() if name != "level"}
    assert {name: getattr(read, name) for name in others} == others


def test_a_line_of_no_format_is_all_message() -> None:
    assert READER.read_line("the error of the day") == LogLine()


def test_the_service_of_compose_goes_before_the_program_of_the_line() -> None:
    read = READER.read_line("web-1  | nginx: [warn] conflicting server name")

    assert (read.program, read.level) == ("web-1", Level.WARNING)


def test_an_error_at_level_debug_is_none() -> None:
    assert classify("2026-01-02 10:00:00,123 DEBUG [main] retry after connection refused").category is Category.BENIGN


@pytest.mark.parametrize("text", RULES.healed if RULES else ())
def test_a_later_success_takes_back_what_failed_before(text: str) -> None:
    assert classify(text).category is Category.BENIGN


@pytest.mark.parametrize("text", RULES.not_healed if RULES else ())
def test_what_fails_last_is_not_healed(text: str) -> None:
    assert classify(text).category is not Category.BENIGN


def test_the_success_of_another_program_heals_nothing() -> None:
    text = "web-1 | dial tcp 172.18.0.3:5432: connect: connection refused\nworker-1 | connected to db"

    assert classify(text).category is Category.DEPENDENCY_REFUSED


TRACES = {
    "python": (
        ('Traceback (most recent call last):\n  File "/app/main.py", line 3, in <module>\n    connect(timeout_error)\n'
        "psycopg2.OperationalError: FATAL:  password authentication failed for user \"app\""),
        Category.AUTH_FAILED,
    ),
    "java": (
        ("org.springframework.beans.BeanCreationException: Error creating bean: connection timed out\n"
        "\tat org.app.Timeout.connectionRefused(Timeout.java:12)\n\tat java.base/java.lang.Thread.run(T.java:8)\n"
        "Caused by: org.app.DataException: failed to connect\n\t... 12 more\n"
        "Caused by: java.net.UnknownHostException: db\n\tat java.net.InetAddress.getAllByName(InetAddress.java:1)"),
        Category.DNS_FAILURE,
    ),
    "node": (
        ("Error: connect ECONNREFUSED 172.18.0.3:5432\n    at TCPConnectWrap.afterConnect [as done] (net.js:11:16)\n"
        "    at permission.denied (/app/no space left.js:1:2)"),
        Category.DEPENDENCY_REFUSED,
    ),
    "go": (
        "panic: dial tcp: lookup db: no such host\n\ngoroutine 1 [running]:\nmain.main()\n\t/app/timeout.go:12 +0x1d",
        Category.DNS_FAILURE,
    ),
    "dotnet": (
        ("Unhandled exception. Npgsql.NpgsqlException (0x80004005): Failed to connect to 172.18.0.3:5432\n"
        " ---> System.Net.Sockets.SocketException (111): Connection refused\n"
        "   at Npgsql.Timeout.Connect(NpgsqlTimeout timeout) in /src/Denied.cs:line 12"),
        Category.DEPENDENCY_REFUSED,
    ),
    "php": (
        ("PHP Fatal error:  Uncaught PDOException: SQLSTATE[HY000] [2002] Connection refused in /app/db.php:7\n"
        "Stack trace:\n#0 /app/timeout.php(7): PDO->__construct()\n#1 {main}"),
        Category.DEPENDENCY_REFUSED,
    ),
    "ruby": (
        ("/usr/lib/ruby/timeout.rb:3:in `block': No such file or directory @ rb_sysopen - /data/list (Errno::ENOENT)\n"
        "\tfrom /app/denied.rb:12:in `<main>'"),
        Category.VOLUME_MOUNT,
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", TRACES)
def test_a_traceback_is_reduced_to_its_cause(language: str) -> None:
    text, category = TRACES[language]

    verdict = classify(text)

    assert verdict.category is category
    assert verdict.span is not None
    assert text[slice(*verdict.span)].strip() in verdict.reason


def test_frames_become_blanks_and_positions_stay() -> None:
    text = TRACES["java"][0]
    read = without_frames(text)

    assert len(read) == len(text)
    assert "Timeout.java" not in read
    assert read.index("Caused by") == text.index("Caused by")


def test_a_line_that_raises_stays() -> None:
    text = 'File "/app/main.py", line 3, in <module>\n    raise ImportError("install it")'

    assert "raise ImportError" in without_frames("  " + text)


def test_of_a_very_long_text_the_ends_count() -> None:
    text = "\n".join(["bind: address already in use", *["x" * 1000] * 1000, "the end"])
    read = bounded(text)

    assert len(read) == len(text)
    assert len(read.replace(" ", "")) <= LONGEST_TEXT
    assert classify(text).category is Category.PORT_CONFLICT


@pytest.mark.parametrize("text", ["a: [", "- one", "formats: []\nwords: {A: '('}\n"])
def test_a_file_of_formats_that_cannot_be_used_is_reported(text: str) -> None:
    if "formats" in text:
        assert read_formats(text) == LogFormats()
    else:
        with pytest.raises(BadReadingError):
            read_formats(text)


def test_levels_have_an_order() -> None:
    assert Level.DEBUG < Level.NOTICE < Level.WARNING < Level.FATAL
