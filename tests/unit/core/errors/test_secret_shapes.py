"""Secrets that are not declared go, whatever position, quoting, language or command they stand in; other lines stay."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from core.errors.redact import Redactor
from core.errors.secret_shapes import REDACTED

_ALPHABETS = {
    "HEX": "0123456789ABCDEF",
    "d": "0123456789",
    "aA0": "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789",
    "hex": "0123456789abcdef",
    "A0": "ABCDEFGHJKLMNPQRSTUVWXYZ234567",
    "a0": "abcdefghijklmnopqrstuvwxyz0123456789",
}


def _made(alphabet: str, length: int, seed: str) -> str:
    """Random letters, the same in each run."""
    digests = (hashlib.sha256(f"{seed}{at}".encode()).digest()[0] for at in range(length))
    return "".join(_ALPHABETS[alphabet][one % len(_ALPHABETS[alphabet])] for one in digests)


_DATA: dict[str, dict[str, list[Any]]] = yaml.safe_load(Path(__file__).with_name("secret_shapes.yaml").read_text())
_TEXTS = [one for part in _DATA.values() for one in part.get("texts", ())]
_TOKENS = [("".join(pieces), *rest) for part in _DATA.values() for pieces, *rest in part.get("tokens", ())]
_INNOCENT = [one for part in _DATA.values() for one in part.get("innocent", ())]
_PIECE = 4


def _filled(text: str) -> tuple[str, set[str]]:
    """A shape with a secret of its own, and every piece of what must not be seen."""
    own = _made("aA0", 8 + len(text) % 9, text)
    # A generator that keeps a policy puts one of each kind in.
    secret = f"{own[:4]}7Kq{own[4:]}"
    known = {"S": secret, "H": _made("hex", 64, "h"), "h": _made("hex", 32, "h"), "L": _made("aA0", 40, "l")}
    known |= {"W": "sunflower", "P": "v4,Kq;8&zR)2pW", "D": "k8$wQ!z@4#Lp"}
    known["B"] = base64.b64encode(f"app:{secret}".encode()).decode()
    secrets = []

    def value(found: re.Match[str]) -> str:
        alphabet, _, length = found[1].partition(":")
        secrets.append(_made(alphabet, int(length), text + str(found.start())) if length else known[alphabet])
        return str(secrets[-1])

    filled = re.sub(r"\{([SHhLWPDB]|\w+:\d+)\}", value, text)
    bare = [one.rstrip("=") for one in secrets]
    return filled, {one[at : at + _PIECE] for one in bare for at in range(max(1, len(one) - _PIECE + 1))}


def test_there_are_enough_shapes_to_judge_by() -> None:
    assert len(_TEXTS) + len(_TOKENS) >= 700
    assert len(_INNOCENT) >= 120


@pytest.mark.parametrize("text", _TEXTS)
def test_a_secret_that_nobody_declared_goes(text: str) -> None:
    filled, pieces = _filled(text)

    shown = Redactor([]).text(filled)

    assert not any(one in shown for one in pieces), shown


@pytest.mark.parametrize(("prefix", "alphabet", "length"), _TOKENS, ids=[one[0] for one in _TOKENS])
def test_a_token_of_a_known_kind_goes(prefix: str, alphabet: str, length: int) -> None:
    token = prefix + _made(alphabet, length, prefix)
    assert token[-8:] not in Redactor([]).text(f"login with {token} failed")


def test_no_pattern_is_too_large_for_the_memory_that_it_may_use(capfd: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(_filled(one)[0] for one in (*_TEXTS, *_INNOCENT))
    for part in (text, *text.splitlines()):
        Redactor([]).text(part)
    # RE2 says so there, and is slow from then on.
    assert capfd.readouterr().err == ""


def test_a_name_behind_another_one_counts() -> None:
    assert Redactor([]).text("bad credentials: password: tR7xq2Lm9Zw") == f"bad credentials: password: {REDACTED}"


def test_a_putty_key_goes() -> None:
    lines = [_made("aA0", 64, str(at)) for at in range(3)]
    shown = Redactor([]).text("Private-Lines: 3\n" + "\n".join(lines) + "\nPrivate-MAC: 00")
    assert shown == f"{REDACTED}\nPrivate-MAC: 00"


@pytest.mark.parametrize("text", _INNOCENT)
def test_a_line_without_a_secret_stays(text: str) -> None:
    filled, _ = _filled(text)
    assert Redactor([]).text(filled) == filled


def test_a_block_scalar_ends_with_its_indentation() -> None:
    text = "db:\n  password: |-\n    first\n\n    second\n  host: db\n  token:\n    - a\nsecrets:\n  db:\n    file: x\n"
    assert Redactor([]).text(text) == text.replace("first\n\n    second", REDACTED)


_ODD = 'it\'s <a> "b"&\\x ü%9Zq'


@pytest.mark.parametrize(
    "spelling",
    [
        repr(_ODD),
        repr(_ODD.encode()),
        shlex.quote(_ODD),
        quote(_ODD),
        quote(_ODD, safe=""),
        "".join(f"%{byte:02X}" for byte in _ODD.encode()),
        html.escape(_ODD),
        html.escape(_ODD, quote=False),
        html.escape(_ODD).replace("&#x27;", "&#39;"),
    ],
)
def test_a_declared_secret_goes_as_programs_quote_it(spelling: str) -> None:
    shown = Redactor([_ODD]).text(f"used {spelling} twice")
    assert REDACTED in shown
    assert "9Zq" not in shown


@pytest.mark.parametrize(
    "written", ["key={0}\n{1} used", "web-1  | key={0}\nweb-1  | {1} used", "key={0}\\\n  {1} used", '"{0}"\n"{1}"']
)
def test_a_declared_secret_goes_where_a_line_breaks_it(written: str) -> None:
    secret = "pa55wordPlanted0123456789abcXYZ"
    for at in range(8, len(secret) - 7):
        shown = Redactor([secret]).text(written.format(secret[:at], secret[at:]))
        left = [secret[begin : begin + 8] for begin in range(len(secret) - 7) if secret[begin : begin + 8] in shown]
        assert left == [], shown


@pytest.mark.parametrize(
    "spelling",
    [
        quote(quote(_ODD, safe=""), safe=""),
        html.escape(_ODD).replace("&#x27;", "&apos;"),
        "".join(f"&#{ord(one)};" for one in _ODD),
        "".join(one if one.isascii() and one.isalnum() else f"&#x{ord(one):X};" for one in _ODD),
        "".join(one if one.isascii() and one.isalnum() else f"\\u{ord(one):04x}" for one in _ODD),
        "".join(f"\\{byte:03o}" for byte in _ODD.encode()),
        _ODD.encode().hex(":"),
        _ODD.encode().hex(" "),
        _ODD.replace('"', '""'),
        _ODD.replace("\\", "\\\\").replace('"', '\\"'),
        re.sub(r"[^\w]", r"\\\g<0>", _ODD),
        _ODD.replace("\\", "\\\\").replace('"', '\\"').replace("ü", "\\303\\274"),
    ],
)
def test_a_declared_secret_goes_as_pages_shells_and_dumps_write_it(spelling: str) -> None:
    assert Redactor([_ODD]).text(f"used {spelling} twice") == f"used {REDACTED} twice"
