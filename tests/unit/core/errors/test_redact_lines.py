from __future__ import annotations

import pytest

from core.errors.redact import Redactor
from core.errors.redact_lines import LineRedactor

SECRET = "correct-horse-battery-staple"


def redactor() -> LineRedactor:
    return LineRedactor(Redactor([SECRET]).text)


def test_each_line_comes_once_without_secrets() -> None:
    lines = redactor()
    assert lines.lines(["one", f"password is {SECRET}"]) == ["one", "password is [redacted]"]
    assert lines.lines([]) == []
    assert lines.lines(["three"]) == ["three"]
    assert lines.lines([f"{number}" for number in range(200)]) == [f"{number}" for number in range(200)]
    assert lines.lines(["last"]) == ["last"]


@pytest.mark.parametrize("length", [8, 12, 20])
def test_the_rest_of_a_secret_that_goes_on_in_the_next_batch_is_redacted(length: int) -> None:
    lines = redactor()
    lines.lines([f"token: {SECRET[:length]}"])
    [line] = lines.lines([SECRET[length:]])
    assert SECRET[length:] not in line


def test_the_middle_of_a_private_key_that_comes_line_by_line_is_redacted() -> None:
    lines = redactor()
    body = [f"MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQD{number:02d}" for number in range(20)]
    shown = [
        shown_line
        for line in ["-----BEGIN PRIVATE KEY-----", *body, "-----END PRIVATE KEY-----", "ready"]
        for shown_line in lines.lines([line])
    ]
    assert shown[-1] == "ready"
    assert not any(line in shown for line in body)
