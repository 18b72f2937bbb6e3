"""Whatever is typed, set or written: one clear line and exit code 2, a failure with 1, and never a traceback.

ROAS_FUZZ_EXAMPLES=20 runs twenty times as many examples, and other ones each time.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from models import environments, sources
from models.environments import Environment
from models.settings import WORK_POOL, Settings
from tests.integration.cli.hostile import (
    COMMON,
    EXAMPLES,
    NUMBERS,
    TEXTS,
    VARIABLES_OF_OTHERS,
    Done,
    HostileFolder,
    calls,
    check,
    commands,
    number,
    text,
)

ROAS = Path(sys.executable).with_name("roas")

_ENDLESS = {("metrics",), ("serve",), ("worker",)}
"""They serve until they are stopped: only what they refuse can be tried."""

_COMPOSE = {("validate",), ("plan",), ("host", "maintain")}
"""They run Compose, or open all environments, which takes a while."""

_ADDRESSES = (
    *("tcp://[::1", "tcp://", "ssh://\udcff", "unix://", "http://a b", "http://a:0/", "https://a..b", "ht!tp"),
    *("http://user:password@127.0.0.1/api", "redis://[::1", "redis://127.0.0.1:99999", "redis://127.0.0.1:1"),
    *("postgresql://", "postgresql://[::1", "postgresql://u:p@h/d", "postgresql://127.0.0.1:1/d", "sqlite:///x"),
    *("postgresql://a..b/d", "redis://a..b"),
)

COMMANDS = commands()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> HostileFolder:
    return HostileFolder(tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("words", sorted(COMMANDS.keys() - _ENDLESS), ids=" ".join)
def test_no_argument_or_option_ends_in_a_traceback(place: HostileFolder, words: tuple[str, ...]) -> None:
    @settings(max_examples=(1 if words in _COMPOSE else 5) * EXAMPLES, **COMMON)
    @given(said=calls(words, COMMANDS[words], place), fed=st.sampled_from([b"", b"\xff\0", b"x" * 100_000]))
    def attack(said: tuple[list[str], ...], fed: bytes) -> None:
        for one in said:
            check(place.run(*one, said=fed))

    attack()


@pytest.mark.parametrize("words", sorted(_ENDLESS), ids=" ".join)
def test_what_a_server_cannot_be_started_with_is_refused(place: HostileFolder, words: tuple[str, ...]) -> None:
    options = [one for one in COMMANDS[words].params if not getattr(one, "is_flag", False)]
    numbers = [name for name, field in Settings.model_fields.items() if field.annotation in (int, float)]
    said = [
        (option.opts[-1], value) for option in options for value in (*TEXTS, *NUMBERS) if not _may_be(option, value)
    ]

    refused = [
        *((part, place.run(*words, *part)) for part in said),
        *(((value,), place.run(*words, "--", value)) for value in TEXTS),
        *(((f"--{value}",), place.run(*words, f"--{value}")) for value in ("nosuch", "\x1b[31m", "\udcff", "=x")),
        *(((name,), place.run(*words, variables={f"ROAS_{name.upper()}": "nan"})) for name in numbers),
        *((("host", host), place.run(*words, variables={"ROAS_METRICS_HOST": host})) for host in ("a..b", "a" * 300)),
    ]

    for part, done in refused:
        check(done)
        assert done.code == 2, (part, done)


def _may_be(option: click.Parameter, value: str) -> bool:
    if option.name == "pool":
        return re.fullmatch(WORK_POOL, value, re.ASCII) is not None
    try:
        return 0 < int(value) < 65536
    except ValueError:
        return False


@pytest.mark.campaign(seconds=12)
@settings(max_examples=4 * EXAMPLES, **COMMON)
@given(data=st.data())
def test_no_value_of_a_setting_ends_in_a_traceback(place: HostileFolder, data: st.DataObject) -> None:
    # A folder that can be made is no attack, and takes a second to fill.
    taken = [path.name for path in place.cwd.iterdir() if path.name != "folder"]
    impossible = st.sampled_from([*taken, "/dev/null/x", "/proc/x", "/sys/x", "a" * 300, "a/" * 3000, "\udcff"])
    for field in Settings.model_fields:
        name = f"ROAS_{field.upper()}"
        values = (
            impossible
            if field.endswith(("_dir", "_file"))
            else st.one_of(st.sampled_from(_ADDRESSES), text)
            if field.endswith("_url")
            else st.one_of(number, text)
        )
        for words in (("history",), ("start", "good"), ("patterns", "list", "--json")):
            done = place.run(*words, variables={name: data.draw(values, label=name)})
            check(done)
            if done.code == 2:
                assert name in done.errors or "PREFECT_API_URL" in done.errors or field == "environments_dir", done


@pytest.mark.campaign(seconds=9)
@settings(max_examples=6 * EXAMPLES, **COMMON)
@given(data=st.data())
def test_no_value_of_another_variable_ends_in_a_traceback(place: HostileFolder, data: st.DataObject) -> None:
    for name in VARIABLES_OF_OTHERS:
        # An address that could be one would be asked.
        values = st.sampled_from(_ADDRESSES) if name == "PREFECT_API_URL" else st.one_of(number, text)
        value = data.draw(st.one_of(st.sampled_from(_ADDRESSES), values), label=name)
        for words in (("history",), ("start", "-f", "compose.yaml"), ("releases", "good")):
            check(place.run(*words, variables={name: value}))


_CELLS = st.one_of(st.sampled_from(["2026-01-01", "", "2026-99-99", "9999-12-31T23:59:59+14:00"]), number, text)
_ROWS = st.lists(st.lists(_CELLS, max_size=3).map(",".join), max_size=8).map(
    lambda lines: "\n".join(["timestamp,value", *lines]).encode("utf-8", "surrogatepass")
)
_BROKEN = [b"[" * 100_000, b'{"id": "\\ud800", "text": "\\ud800\\u0000"}', b'{"id": [], "text": 1e999}', b"null"]


@settings(max_examples=20 * EXAMPLES, **COMMON)
@given(said=st.one_of(_ROWS, st.binary(max_size=200), st.sampled_from(_BROKEN)))
def test_nothing_on_standard_input_ends_in_a_traceback(place: HostileFolder, said: bytes) -> None:
    for words in (("classify",), ("detect",), ("recover", "good", "-"), ("notify", "add", "slack")):
        check(place.run(*words, said=said))


WHOLE: dict[str, Any] = {
    "name": "whole",
    "compose_files": ["compose.yaml"],
    "project": "roas-fuzz",
    "engine": "unix:///nowhere.sock",
    "context": None,
    "env_files": ["file"],
    "profiles": ["one"],
    "variables": ["NEEDED"],
    "secrets": [{"name": "PASSWORD", "file": "file"}, {"name": "PRINTED", "command": ["echo", "x"]}],
    "services": {
        "web": {
            "probe": {
                "kind": "http",
                "port": 80,
                "path": "/",
                "status": 200,
                "contains": "x",
                "scheme": "https",
                "tls": {"server_name": "x", "verify": False, "reason": "x"},
                "method": "GET",
                "headers": {"Accept": "x"},
                "expected_headers": {"Server": "x"},
                "user": "x",
                "password_secret": "PASSWORD",
                "timeout_seconds": 1,
            },
            "dependencies": [{"service": "db", "type": "required", "impact": "critical"}],
            "required": True,
            "stabilisation_seconds": 1,
            "start_timeout_seconds": 1,
            "limits": {"cpu_percent": 1, "memory_percent": 1, "response_time_ms": 1},
            "outside_logins": False,
            "order": "start-first",
            "drain_seconds": 1,
            "proxy": "db",
            "shared_volumes": ["x"],
        },
        "db": {"probe": {"kind": "redis", "port": 1, "password_secret": "PASSWORD", "timeout_seconds": 1}},
        "tcp": {"probe": {"kind": "tcp", "port": 1, "timeout_seconds": 1}},
        "sql": {
            "probe": {
                "kind": "postgresql",
                "port": 1,
                "user": "x",
                "password_secret": "PASSWORD",
                "database": "x",
                "query": "select 1",
                "rows": 1,
                "value": "1",
                "replication_lag_seconds": 1,
                "timeout_seconds": 1,
            }
        },
        "queue": {
            "probe": {
                "kind": "amqp",
                "port": 1,
                "user": "x",
                "password_secret": "PASSWORD",
                "virtual_host": "/",
                "queue": "x",
                "max_messages": 1,
                "timeout_seconds": 1,
            }
        },
        "mail": {"probe": {"kind": "smtp", "port": 1, "starttls": True, "timeout_seconds": 1}},
        "names": {
            "probe": {
                "kind": "dns",
                "port": 1,
                "query_name": "x",
                "query_type": "A",
                "answer": "1.2.3.4",
                "timeout_seconds": 1,
            }
        },
        "figures": {"probe": {"kind": "prometheus", "port": 1, "targets_up": 1, "timeout_seconds": 1}},
        "cert": {
            "probe": {
                "kind": "certificate",
                "port": 443,
                "server_name": "x",
                "warning_days": 2,
                "critical_days": 1,
                "timeout_seconds": 1,
            }
        },
        "inside": {"probe": {"kind": "command", "command": ["true"], "timeout_seconds": 1}},
    },
    "stabilisation_seconds": 1,
    "start_timeout_seconds": 1,
    "collect_every_seconds": 60,
    "recovery": {
        "automatic": True,
        "attempts_per_error": 1,
        "attempts_per_service_15min": 1,
        "attempts_per_service_day": 1,
        "points_per_host_15min": 1,
        "points_per_host_day": 1,
        "verify_timeout_seconds": 1,
        "roll_back_within_seconds": 1,
        "dry_run": False,
    },
    "objective_percent": 99.5,
    "needs": ["base/web", "base"],
    "protected": True,
    "maintenance": [{"days": ["monday"], "from": "02:00", "to": "03:00", "services": ["web"]}],
    "notify": ["slack-webhook/operations"],
    "notify_about": ["failures", "deployments"],
    "quiet_hours": [{"days": ["friday"], "from": "22:00", "to": "06:00"}],
    "report": {"to": ["roas-email/operations"], "every": "weekly"},
    "status_page": {"title": "x", "services": {"web": "x"}},
    "update": {"minimum_age_hours": 1, "windows": [{"days": ["monday"], "from": "02:00", "to": "03:00"}]},
    "hooks": {
        "before": [
            {"name": "one", "service": "web", "command": ["true"], "failure": "warn", "again": True},
            {"name": "two", "exec": {"service": "web", "command": ["true"]}, "timeout_seconds": 1},
        ],
        "after": [{"name": "held", "canary": {"minutes": 1}, "timeout_seconds": 90}],
    },
    "gate": {
        "policies": [
            {"name": "said", "expression": "true", "failure": "warn", "message": "x", "timeout_seconds": 1},
            {"name": "asked", "command": ["true"]},
        ],
        "scan": {
            "program": "none",
            "fail_on": "high",
            "failure": "warn",
            "accepted": ["CVE-2024-1"],
            "unavailable": "warn",
            "timeout_seconds": 1,
        },
    },
    "data": {
        "save": [
            {"kind": "postgresql", "service": "sql", "user": "x", "password_secret": "PASSWORD", "database": "x"},
            {"kind": "sqlite", "service": "web", "file": "/x"},
            {"kind": "files", "volume": "x", "pause": True},
        ],
        "repository": "/nowhere/repository",
        "password_secret": "PASSWORD",
        "repository_secrets": ["PASSWORD"],
        "keep": {"last": 1, "daily": 1, "weekly": 1},
        "max_age_hours": 1,
        "before_updates": "all",
        "timeout_seconds": 1,
    },
    "source": {
        "repository": "https://127.0.0.1:1/shop.git",
        "max_mib": 10,
        "branch": "main",
        "tag": None,
        "path": "inside",
        "token_secret": "PASSWORD",
        "token_user": "x",
        "ssh_key": None,
        "known_hosts": None,
        "verify": "signed",
        "allowed_signers": "file",
        "gpg_keys": "file",
        "status": "gitea",
        "status_token_secret": "PASSWORD",
        "status_project": "x/y",
        "api": "https://127.0.0.1:1",
        "webhook_secret": "PASSWORD",
        "check_every_seconds": 60,
    },
    "schedules": {
        "saved": {
            "run": "snapshot",
            "at": "every day 03:00 Europe/Berlin",
            "limit_minutes": 1,
            "late_minutes": 1,
            "overlap": "wait",
            "retries": 1,
            "retry_after_seconds": 1,
            "ping_file": "file",
        },
        "renewed": {"run": "update", "at": "0 5 * * *", "rehearse": True},
        "tidied": {"run": {"service": "web", "command": ["true"]}, "at": "0 3 * * *"},
    },
    "drills": {
        "faults": ["kill"],
        "services": ["web"],
        "windows": [{"days": ["monday"], "from": "01:00", "to": "02:00"}],
        "detect_seconds": 1,
        "repair_seconds": 1,
        "message_seconds": 1,
    },
}
"""An environment with every field."""

OF_AN_ARTIFACT = WHOLE | {
    "source": {
        "oci": "127.0.0.1:1/ann/shop:v1@sha256:" + "0" * 64,
        "verify": {"key": "file"},
        "max_mib": 10,
        "check_every_seconds": 60,
    },
}
"""The same with the other kind of source."""

TOKENS = (
    *("null", "~", "true", "-1", "0", "1e308", ".nan", ".inf", "-.inf", "1" * 5000, "0o9", "0x", "190:20:30", "1_0"),
    *('"\\0"', '"\\ud800"', '"\\e[31m"', '"a\\nb"', '""', "''", "~nosuchuser/x", "../../../../etc/passwd", "/dev/zero"),
    *("tcp://[::1", '"tcp://a:99999"', "ssh://", "unix://", "http://a b", "[]", "{}", "[[[]]]", "{[]: 1}", "{1: 2}"),
    *("!!binary x", "!!binary /w==", "!!int x", "!!float x", "!!bool x", "!!null x", "!!timestamp x", "!!set {a}"),
    *("!!python/object:os.system {}", "!nosuch x", "&a [*a]", "*nosuch", "2026-01-01", "2026-99-99", "=", "<<", "@"),
    *(
        "[" * 500 + "]" * 500,
        "[" * 3000 + "]" * 3000,
        "'" + "a" * 100_000 + "'",
        "{'<<': 1}",
        "{<<: [1]}",
        "!!omap [1]",
    ),
)
"""YAML in the place of a value: of every type, nearly of one, and broken."""


def _places_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from _places_of(one, (*path, key))


_FILES = ("fifo", "folder", "loop", "device", "binary", "nul.yaml", "deep.yaml", "large.yaml", "long", "none")

PLACES = sorted(_places_of(WHOLE), key=str)
_ARTIFACT_PLACES = [path for path in sorted(_places_of(OF_AN_ARTIFACT), key=str) if path[0] == "source"]


def _with(value: Any, path: tuple[Any, ...], token: str) -> Any:
    if not path:
        return token
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _with(value[path[0]], path[1:], token)
    return copy


@cache
def _with_a_gap(path: tuple[Any, ...], *, of_artifact: bool = False) -> str:
    # Written by libyaml, since PyYAML's own writer took more time than what is tested.
    whole = _with(OF_AN_ARTIFACT if of_artifact else WHOLE, path, "HERE")
    return yaml.dump(whole, Dumper=yaml.CSafeDumper, default_flow_style=False)


def _corrupted(path: tuple[Any, ...], token: str) -> str:
    return _with_a_gap(path).replace("HERE", token)


def test_the_whole_environment_says_everything_and_is_valid(place: HostileFolder) -> None:
    models = [
        one
        for one in (*vars(environments).values(), *vars(sources).values())
        if isinstance(one, type) and issubclass(one, BaseModel) and not one.__name__.startswith("_")
    ]
    fields = {field.alias or name for model in models for name, field in model.model_fields.items()}

    assert fields <= {part for path in (*PLACES, *_ARTIFACT_PLACES) for part in path} | {"name"} - {"BaseModel"}
    Environment.model_validate(WHOLE)
    Environment.model_validate(OF_AN_ARTIFACT)


@pytest.mark.campaign(seconds=10)
@settings(max_examples=3 * EXAMPLES, **COMMON)
@given(data=st.data())
def test_no_value_of_a_field_ends_in_a_traceback(place: HostileFolder, data: st.DataObject) -> None:
    tokens = st.one_of(st.sampled_from(TOKENS), text.filter(lambda one: "\n" not in one))
    for path in PLACES:
        place.write_environment("whole", _corrupted(path, data.draw(tokens, label=str(path))))
        _check_start_of_whole(place)


_NAMES_FILES = (("compose_files", 0), ("env_files", 0), ("secrets", 0, "file"), ("engine",))


def test_no_value_of_an_artifact_ends_in_a_traceback(place: HostileFolder) -> None:
    for path in _ARTIFACT_PLACES:
        for token in (
            "null",
            "1e308",
            '"\\0"',
            '"a:99999/b"',
            "localhost:5/../x",
            "[]",
            "{1: 2}",
            "{oci: a.b/c, tag: v1}",
        ):
            place.write_environment("whole", _with_a_gap(path, of_artifact=True).replace("HERE", token))
            _check_start_of_whole(place)


@pytest.mark.campaign(seconds=5)
def test_no_path_or_address_of_an_environment_ends_in_a_traceback(place: HostileFolder) -> None:
    for token in (*TOKENS, *TEXTS):
        for path in _NAMES_FILES:
            if "\n" not in token:
                place.write_environment("whole", _corrupted(path, token))
                _check_start_of_whole(place)


def test_no_file_that_an_environment_names_ends_in_a_traceback(place: HostileFolder) -> None:
    for path in _NAMES_FILES:
        for name in _FILES:
            place.write_environment("whole", _corrupted(path, str(place.cwd / name)))
            check(place.run("validate", "whole"))


def _check_start_of_whole(place: HostileFolder) -> None:
    done = place.run("start", "whole")

    check(done)
    # A value that can be used goes on to what is refused after the file.
    assert done.code == 2, done
    assert "whole" in done.errors or "PREFECT_API_URL" in done.errors, done


@settings(max_examples=100 * EXAMPLES, **COMMON)
@given(data=st.data())
def test_no_bytes_in_an_environment_s_file_end_in_a_traceback(place: HostileFolder, data: st.DataObject) -> None:
    good = yaml.safe_dump(WHOLE, default_flow_style=False).encode()
    at = data.draw(st.integers(0, len(good)))
    end = at + data.draw(st.integers(0, 20))
    put = data.draw(
        st.one_of(st.binary(max_size=20), st.sampled_from([b"\0", b"\xff\xfe", b"\t", b"%", b"---\n", b"&a *a"]))
    )
    place.write_environment("whole", good[:at] + put + good[end:])

    check(place.run("start", "whole"))


def test_no_compose_file_ends_in_a_traceback(place: HostileFolder) -> None:
    for name in _FILES:
        done = place.run("start", "-f", name)

        check(done)
        assert done.code == 2, (name, done)


def test_a_process_of_its_own_ends_as_it_may(place: HostileFolder) -> None:
    variables = {
        "ROAS_DATA_DIR": str(place.data),
        "ROAS_ENVIRONMENTS_DIR": str(place.environments),
        "PREFECT_API_URL": "not an address",
        "PATH": "/usr/bin:/bin",
    }
    for words in (
        ("show", "\x1b]52;c;aGk=\x07"),
        ("show", "\udcff\udcfe"),
        ("start", "-f", "~nosuchuser/x"),
        ("start", "-f", "fifo"),
        ("pause", "--reason", "x", "--for", "999999999999d"),
    ):
        done = subprocess.run([ROAS, *words], capture_output=True, check=False, env=variables, cwd=place.cwd, input=b"")

        check(Done(code=done.returncode, output=done.stdout.decode(), errors=done.stderr.decode()))
        assert done.stderr, words
