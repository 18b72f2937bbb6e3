"""Redaction: no secret survives, and the text stays readable."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.redaction import REDACTED, Redactor, secrets_among

SECRET = "pa/ss wörd+1"


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
        json.dumps(SECRET)[1:-1],
        SECRET.encode().hex(),
    ],
)
def test_a_known_secret_goes_in_every_usual_spelling(spelling: str) -> None:
    assert Redactor([SECRET]).text(f"login with {spelling} failed") == f"login with {REDACTED} failed"


def test_a_short_known_value_does_not_blot_out_ordinary_words() -> None:
    assert Redactor(["app"]).text("the application stopped") == "the application stopped"


def test_each_line_of_a_secret_of_many_lines_goes() -> None:
    redactor = Redactor(["first-line-of-the-key\nsecond-line-of-the-key"])

    assert "second-line" not in redactor.text("bot_1 | second-line-of-the-key")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("redis://user:pa@ss@redis:6379/0 refused", "redis://user:[redacted]@redis:6379/0 refused"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer [redacted]"),
        ("DISCORD_TOKEN=abc.def started", "DISCORD_TOKEN=[redacted] started"),
        ('{"password": "hunter2", "user": "x"}', '{"password": "[redacted]", "user": "x"}'),
        ("db_password: hunter2", "db_password: [redacted]"),
        ("redis-server --requirepass hunter2 --port 1", "redis-server --requirepass [redacted] --port 1"),
        ("key AKIAABCDEFGHIJKLMNOP used", "key [redacted] used"),
        ("GET /x?token=abc&page=2", "GET /x?token=[redacted]&page=2"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nnext",
            "[redacted]\nnext",
        ),
        ("post to /api/webhooks/1234/abcDEF-_9 failed", "post to /api/webhooks/1234/[redacted] failed"),
    ],
)
def test_what_has_the_shape_of_a_secret_goes(text: str, clean: str) -> None:
    assert Redactor(()).text(text) == clean


def test_a_discord_token_goes_wherever_it_stands() -> None:
    token = f"M{'a' * 23}.{'b' * 6}.{'c' * 30}"

    assert Redactor(()).text(f"logging in using {token}") == f"logging in using {REDACTED}"


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'DISCORD_TOKEN'",
        "An invalid token was provided.",
        "token: An invalid token was provided",
        "password authentication failed for user x",
        "TOKEN_FILE=/run/secrets/token",
        "PASSWORD=",
        "token=None",
        "POSTGRES_PASSWORD must be specified",
    ],
)
def test_words_about_secrets_stay(text: str) -> None:
    assert Redactor(()).text(text) == text


def test_values_under_a_secrets_name_go_at_any_depth() -> None:
    value = {"service": {"db_password": "x", "tokens": ["a", "b"], "token_count": 2, "token": None}, "n": [1, SECRET]}

    assert Redactor([SECRET]).value(value) == {
        "service": {"db_password": REDACTED, "tokens": [REDACTED, REDACTED], "token_count": 2, "token": None},
        "n": [1, REDACTED],
    }


@given(st.text(max_size=200), st.text(alphabet=st.characters(codec="ascii", categories=("L", "N")), min_size=8))
def test_a_known_secret_never_survives(around: str, secret: str) -> None:
    assert secret not in Redactor([secret]).text(f"{around}{secret}{around}").replace(REDACTED, "")


@given(st.text(max_size=300))
def test_redacting_twice_changes_nothing(text: str) -> None:
    once = Redactor(()).text(text)
    assert Redactor(()).text(once) == once


def test_secrets_are_known_by_the_names_of_their_variables_and_inside_of_urls() -> None:
    variables = {
        "DB_PASSWORD": "hunter2hunter2",
        "API_TOKEN_FILE": "/run/secrets/token",
        "LEVEL": "debug",
        "CACHE": "redis://user:in-the-url@cache:6379/0",
    }
    assert sorted(secrets_among(variables.items())) == ["hunter2hunter2", "in-the-url"]
