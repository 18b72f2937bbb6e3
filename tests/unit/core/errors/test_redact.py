"""Redaction: no secret survives, and the text stays readable."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors.redact import Redactor, secrets_among
from core.errors.secret_shapes import REDACTED

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


@pytest.mark.parametrize("before", ["", "u", "user:", "ab"])
def test_a_known_secret_within_a_longer_text_goes_in_base64(before: str) -> None:
    secret = "pa55-word-planted"
    written = base64.b64encode(f"{before}{secret}".encode()).decode()

    left = Redactor([secret]).text(written).replace(REDACTED, "")

    assert len(left) <= len(before) + 6


def test_a_known_secret_that_is_broken_between_lines_goes() -> None:
    secret, stamp = "pa55wordPlanted0123456789abc", "2026-11-26T06:36:58.123456789Z "
    shown = Redactor([secret]).text(f"{stamp}key={secret[:14]}\n{stamp}{secret[14:]} was used\n{stamp}ready")

    assert shown == f"{stamp}key={REDACTED}\n{stamp}{REDACTED} was used\n{stamp}ready"
    assert Redactor([secret]).text(f"INFO: {secret[:14]}\nINFO: {secret[14:]}") == f"INFO: {REDACTED}\nINFO: {REDACTED}"


@pytest.mark.parametrize("line", ["refused password=", "FATAL: wrong password", "no planted password_file"])
def test_a_word_that_a_known_secret_ends_with_stays_at_the_end_of_a_line(line: str) -> None:
    assert Redactor(["planted-password"]).text(f"{line}\nready") == f"{line}\nready"


def test_a_known_secret_goes_where_its_control_characters_were_made_visible() -> None:
    assert Redactor(["pass\x1bword"]).text(r"it is pass\x1bword") == f"it is {REDACTED}"


def test_a_short_known_value_does_not_blot_out_ordinary_words() -> None:
    assert Redactor(["app"]).text("the application stopped") == "the application stopped"


def test_each_line_of_a_secret_of_many_lines_goes() -> None:
    redactor = Redactor(["first-line-of-the-key\nsecond-line-of-the-key"])

    assert "second-line" not in redactor.text("bot_1 | second-line-of-the-key")


# Put together here, so that no scanner takes them for real ones.
SHAPES = [
    *(f"{begin}{'aB3' * 12}" for begin in ("gh" + "p_", "gl" + "pat-", "npm" + "_", "pypi" + "-", "sk_" + "live_")),
    *(f"{begin}{'aB3' * 12}" for begin in ("xox" + "b-", "xapp" + "-", "sk" + "-", "dckr_" + "pat_", "whsec" + "_")),
    *(f"{begin}.{'aB3' * 12}" for begin in ("mfa", "ya29", "hvs")),
    f"SG.{'a' * 22}.{'b' * 43}",
]


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
        ("https://hooks.slack.com/services/T1/B2/abc3", "https://hooks.slack.com/services/[redacted]"),
        ('Authorization: Digest username="a", response="b1"', "Authorization: Digest [redacted]"),
        ('msg="{\\"password\\":\\"hunter2\\"}" a=1', 'msg="{\\"password\\":\\"[redacted]\\"}" a=1'),
        ("password => hunter2", "password => [redacted]"),
        ("auth_token: abc # a note", "auth_token: [redacted]"),
        ("GENERATED ROOT PASSWORD: hunter2", "GENERATED ROOT PASSWORD: [redacted]"),
        ("ALTER ROLE bot PASSWORD 'hunter2'", "ALTER ROLE bot PASSWORD '[redacted]'"),
        ("<password>hunter2</password>", "<password>[redacted]</password>"),
        ('"AUTH" "default" "hunter2"', '"AUTH" "default" "[redacted]"'),
        (">>> 'requirepass hunter2'", ">>> 'requirepass [redacted]'"),
        ("redis-cli -h cache -a hunter2 ping", "redis-cli -h cache -a [redacted] ping"),
        ("mysql -uroot -phunter2 shop", "mysql -uroot -p[redacted] shop"),
        ("curl -s -u admin:hunter2 https://x", "curl -s -u admin:[redacted] https://x"),
        ("AccountName=a;AccountKey=abc123==;x=y", "AccountName=a;AccountKey=[redacted];x=y"),
        (f"https://{'0a' * 16}@errors.example/2", "https://[redacted]@errors.example/2"),
        (f"https://api.telegram.org/bot123456789:AA{'b' * 33}/getMe", "https://api.telegram.org/bot[redacted]/getMe"),
        ("DB_PASS=hunter2 PW=hunter2", "DB_PASS=[redacted] PW=[redacted]"),
        ("APP_KEY=base64:x1 APP_SALT=x2", "APP_KEY=[redacted] APP_SALT=[redacted]"),
        ("STRIPE_KEY=abc SESSION_COOKIE=abc", "STRIPE_KEY=[redacted] SESSION_COOKIE=[redacted]"),
        ("SENTRY_DSN=https://1@x/2 PEPPER=p1", "SENTRY_DSN=[redacted] PEPPER=[redacted]"),
        ("WEBHOOK_URL=https://x/in/1a", "WEBHOOK_URL=[redacted]"),
        ("Cookie: theme=dark; session=abc1", "Cookie: [redacted]"),
        ("the password is hunter2", "the password is [redacted]"),
        ("https://x/y?sv=1&sig=" + "aB3%2F" * 6, "https://x/y?sv=1&sig=[redacted]"),
        ("admin:$2y$10$" + "aB3" * 17, "admin:[redacted]"),
        ("client-key-data: " + "LS0tLS1CRUdJTi" + "BSU0E" * 6, "client-key-data: [redacted]"),
        *((f"key {shape} used", "key [redacted] used") for shape in SHAPES),
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
        "max_tokens=4096 prompt_tokens: 12",
        "tokenizer=bert of the secretary=anna",
        "private_key: /run/secrets/key.pem",
        "Bearer authentication is required, basic authentication is refused",
        "requirepass is not set",
        "ERR AUTH <password> called without any password configured",
        "pass=12 fail=0 bypass=1 compass: north",
        "primary_key=id CACHE_KEY=user:12 PUBLIC_KEY=ssh sort_key: name",
        "PWD=/app OLDPWD=/",
        "the password is wrong, salt: 10",
        "webhook delivered to https://example.com/hook in 12 ms",
        "request_id=8f14e45f-ceea-467f-ad1e-37d0b0a5a5a5",
        "GET /assets/index-3f2a9c8d7e6b5a4f.js 200",
        "docker run -p 8080:80 -a stdout -u 1000:1000",
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


@pytest.mark.parametrize("scheme", ["", "Basic ", "Bearer "])
def test_a_redacted_header_is_redacted_once(scheme: str) -> None:
    once = Redactor(()).text(f"Authorization: {scheme}dXNlcjpwYXNzd29yZDEyMw==")
    assert once.endswith(REDACTED)
    assert Redactor(()).text(once) == once


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
        # A shell's own: the paths in messages and tracebacks are to stay.
        "PWD": "/home/deploy/shop-2",
        "OLDPWD": "/home/deploy/a folder",
    }
    assert sorted(secrets_among(variables.items())) == ["hunter2hunter2", "in-the-url"]


@pytest.mark.parametrize(("length", "rest"), [(8, "Qr7sT0"), (15, "Qr7sT0"), (16, ""), (255, ""), (256, "")])
def test_the_rest_of_a_secret_that_begins_like_a_known_one_goes_with_it_unless_that_is_short(
    length: int, rest: str
) -> None:
    known = ("aB3dE6gH9kL2mN5p" * 16)[:length]

    assert Redactor([known]).text(f"hook {known}Qr7sT0 answers") == f"hook [redacted]{rest} answers"
