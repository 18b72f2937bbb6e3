"""Excerpts of logs: levels by the format of the logger, tracebacks reduced to their cause, what healed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial

import pytest

from adapters.pattern_files import shipped_reader, shipped_set
from core.errors.classify import classify as classify_by
from core.errors.reading import (
    LONGEST_TEXT,
    BadReadingError,
    LogFormat,
    LogFormats,
    LogLevel,
    LogLine,
    blank_middle,
    last_cause,
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

    assert (read.program, read.level) == ("web-1", LogLevel.WARNING)


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
    "python, direct cause": (
        ('Traceback (most recent call last):\n  File "/app/timeout.py", line 3, in connect\n    sock.connect(address)\n'
        "socket.gaierror: [Errno -2] Name or service not known\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        'Traceback (most recent call last):\n  File "/app/main.py", line 9, in <module>\n    start()\n'
        "RuntimeError: the shop could not be started"),
        Category.DNS_FAILURE,
    ),
    "python, during handling": (
        ('Traceback (most recent call last):\n  File "/app/main.py", line 3, in load\n    open(path)\n'
        "OSError: [Errno 28] No space left on device\n\n"
        "During handling of the above exception, another exception occurred:\n\n"
        'Traceback (most recent call last):\n  File "/app/main.py", line 9, in <module>\n    load()\n'
        "RuntimeError: the state was not written"),
        Category.DISK_FULL,
    ),
    "node, cause": (
        ("Error: connection timed out while loading the user\n    at load (/app/user.js:12:9) {\n"
        "  [cause]: Error: getaddrinfo ENOTFOUND db\n      at GetAddrInfoReqWrap.onlookup (node:dns:107:26)\n  }"),
        Category.DNS_FAILURE,
    ),
    "go, goroutines": (
        ("panic: dial tcp: lookup db: no such host\n\ngoroutine 1 [running]:\n"
        "main.(*Store).permissionDenied(0xc00001c0a0)\n\t/app/denied.go:12 +0x1d\n"
        "created by main.noSpaceLeft in goroutine 7\n\t/app/main.go:3 +0x55\nexit status 2"),
        Category.DNS_FAILURE,
    ),
    "dotnet, inner exceptions on one line": (
        ("System.AggregateException: One or more errors occurred. (operation timed out) "
        "---> System.Net.Http.HttpRequestException: Name or service not known (db:80)\n"
        "   --- End of inner exception stack trace ---\n   at App.Timeout.Connect[T](Timeout`1 denied)"),
        Category.DNS_FAILURE,
    ),
    "php, previous exception": (
        ("PHP Fatal error:  Uncaught PDOException: SQLSTATE[HY000] [2002] Connection refused in /app/db.php:7\n"
        "Stack trace:\n#0 /app/timeout.php(7): PDO->__construct()\n#1 {main}\n\n"
        "Next App\\StoreException: the shop has no store in /app/shop.php:12\nStack trace:\n#0 {main}\n"
        "  thrown in /app/permission denied.php on line 12"),
        Category.DEPENDENCY_REFUSED,
    ),
    "ruby, a program without an ending": (
        ("/app/list.rb:3:in `block': No such file or directory @ rb_sysopen - /data/list (Errno::ENOENT)\n"
        "\tfrom /usr/local/bundle/bin/no_space_left_on_device:25:in `load'\n\tfrom /app/denied.rb:12:in `<main>'"),
        Category.VOLUME_MOUNT,
    ),
}  # fmt: skip


def test_an_arrow_of_a_builder_is_no_cause() -> None:
    assert last_cause("Step 3/9 : RUN make\n ---> Running in 4bb46517cac3\nmake: *** Error 1") == (-1, -1)


def test_frames_of_every_language_are_left_out() -> None:
    for text, _ in TRACES.values():
        read = without_frames(text).lower()
        assert len(read) == len(text)
        assert not [word for word in ("denied.", "denied(", "no_space_left", "nospace") if word in read]


def test_what_repeats_counts_once_and_is_counted() -> None:
    refused = "2026-01-02 10:00:{:02} ERROR dial tcp 172.18.0.3:5432: connect: connection refused"
    once, often = classify(refused.format(0)), classify("\n".join(refused.format(n) for n in range(40)))

    assert (often.category, often.confidence, often.strategy) == (once.category, once.confidence, once.strategy)
    assert often.reason == f"{once.reason} 40 lines say so."


def test_what_fails_again_after_a_success_is_not_healed() -> None:
    refused = "ERROR dial tcp 172.18.0.3:5432: connect: connection refused"
    healed = "\n".join([*[refused] * 40, "INFO connected to db"])

    assert classify(healed).category is Category.BENIGN
    assert classify(f"{healed}\n{refused}").category is Category.DEPENDENCY_REFUSED


def calls(text: str) -> int:
    """How many functions, of Python and of C, run while a text is classified."""
    count = 0

    def see(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        classify(text)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("line", ["{} ERROR dial tcp 10.0.0.{}: connection refused\n", "{} x {}\n"])
def test_work_grows_with_the_lines_and_no_further_than_the_longest_text(line: str) -> None:
    texts = {count: "".join(line.format(n, n) for n in range(count)) for count in (400, 800, 20_000, 100_000)}
    work = {count: calls(text) for count, text in texts.items()}

    assert work[800] < 2.5 * work[400]
    assert work[100_000] < 1.2 * work[20_000]


def test_work_on_one_line_grows_no_further_than_the_longest_text() -> None:
    assert calls("connection refused " * 60_000) < 1.2 * calls("connection refused " * 6_000)


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
    read = blank_middle(text)

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
    assert LogLevel.DEBUG < LogLevel.NOTICE < LogLevel.WARNING < LogLevel.FATAL
