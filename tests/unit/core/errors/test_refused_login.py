"""Which words say that a login is refused, and which end of a log does."""

from __future__ import annotations

import pytest

from adapters.pattern_files import shipped_set
from core.errors.refused_login import is_refused_login, last_refusal_line

REFUSED = "ERROR 1045 (28000): Access denied for user 'app'@'172.18.0.3' (using password: YES)"


@pytest.mark.parametrize(
    "words",
    [
        REFUSED,
        'psql: error: connection to server at "127.0.0.1" failed: FATAL: password authentication failed for user "app"',
        "WRONGPASS invalid username-password pair or user is disabled.",
        "MongoServerError: Authentication failed.",
    ],
)
def test_servers_that_refuse_a_login_are_understood(words: str) -> None:
    assert is_refused_login(words, shipped_set())


@pytest.mark.parametrize(
    "words",
    [
        "ERROR 2002 (HY000): Can't connect to local server through socket '/run/mysqld/mysqld.sock' (2)",
        "FATAL:  the database system is starting up",
        "curl: (22) The requested URL returned error: 401",
        "connection refused",
    ],
)
def test_a_server_that_is_not_ready_refuses_no_login(words: str) -> None:
    assert not is_refused_login(words, shipped_set())


def test_the_end_of_a_log_counts_where_the_program_only_tries_again() -> None:
    assert last_refusal_line([REFUSED, "retrying in 5 s"], shipped_set()) == REFUSED
    assert last_refusal_line([REFUSED, "connected to db", "loading 12 models"], shipped_set()) == ""
    assert last_refusal_line([], shipped_set()) == ""


@pytest.mark.parametrize(
    "words",
    [
        "POST /login 401 Unauthorized",
        "WARNING:django.request:Unauthorized: /api/me/",
        "ERROR [ExceptionsHandler] Unauthorized",
        "UnauthorizedException: Unauthorized",
        "JsonWebTokenError: invalid token",
        "org.springframework.security.authentication.BadCredentialsException: Bad credentials",
        '{"level":"warn","msg":"http: authentication failed","remote":"203.0.113.9"}',
        "Invalid username or password for user admin",
    ],
)
def test_a_caller_whom_a_service_turns_away_is_no_login_of_its_own(words: str) -> None:
    assert last_refusal_line([words, words, words], shipped_set()) == ""
    assert last_refusal_line([REFUSED, words], shipped_set()) == ""
