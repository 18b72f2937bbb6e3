"""What containers print is text: no escape sequence of theirs reaches a terminal or a store."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.server.shared_server import end_unused_server
from tests.e2e.flows.conftest import IMAGE, Place
from tests.support.warm import warm_commands

# Some twenty commands.
pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign]

ROAS = Path(sys.executable).with_name("roas")
CLIPBOARD = "\x1b]52;c;Y3VybCBldmls\x07"
ATTACKS = ("\x1b]52", "\x1b[2K", "\x1b[1A", "\x07", "\u202e", "\u2066", "\u200b", "\x9b", "\x1bc", "\r")
HOSTILE = f"""
hostile:
  image: {IMAGE}
  command:
    - bash
    - -c
    - |
      printf 'FATAL: cannot open \u202e the data\\033]52;c;Y3VybCBldmls\\007 file\\n' >&2
      printf 'FATAL: the disk is gone\\033[2K\\rINFO all is well\\n' >&2
      printf 'FATAL: removed \\u202egpj.exe\\u2066 and hid\\u200bden \\302\\2332J \\033c\\033[1A\\n' >&2
      exit 3
"""
SICK = f"""
sick:
  image: {IMAGE}
  init: true
  command: [sleep, "600"]
  healthcheck:
    test: ["CMD-SHELL", "printf 'FATAL: bad \u202e \\\\033]52;c;Y3VybCBldmls\\\\007\\\\033[2K\\\\r well'; exit 1"]
    interval: 200ms
    timeout: 5s
    retries: 1
"""
# Colours of our own are the only escapes that reach a terminal.
OWN_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def server_ends(place: Place) -> Iterator[None]:
    """End the Prefect server that the commands of a test share."""
    yield
    end_unused_server(place.settings.prefect_home)


def _environment() -> dict[str, str]:
    return os.environ | warm_commands() | {"COLUMNS": "300", "TERM": "xterm-256color"}


def piped(*words: str) -> str:
    done = subprocess.run([ROAS, *words], capture_output=True, check=False, env=_environment())
    return (done.stdout + done.stderr).decode()


def on_a_terminal(*words: str) -> str:
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [ROAS, *words], stdin=follower, stdout=follower, stderr=follower, env=_environment()
    ) as process:
        os.close(follower)
        shown = b""
        try:
            while read := os.read(leader, 65536):
                shown += read
        except OSError:
            # Linux reports the end of the other side so.
            pass
        process.wait()
    os.close(leader)
    # The terminal itself writes a line's end as two characters.
    return OWN_COLOUR.sub(b"", shown).replace(b"\r\n", b"\n").decode()


def found_in(text: str) -> list[str]:
    return [repr(attack) for attack in ATTACKS if attack in text]


@pytest.mark.parametrize(("service", "declared"), [("hostile", HOSTILE), ("sick", SICK)])
def test_no_escape_sequence_of_a_container_reaches_the_terminal(place: Place, service: str, declared: str) -> None:
    place.declare(declared, start_timeout_seconds=20)

    shown = piped("start", "test")
    operation = json.loads(piped("history", "--json"))[0]["deployment_id"]
    piped("recover", "test", f"FATAL: {CLIPBOARD} \u202e on the line\x1b[2K\rwell", "--service", service)
    tickets = [one["ticket_id"] for one in json.loads(piped("tickets", "--json"))]
    views = [["why"], ["why", "--evidence"], ["history", operation], ["status"], ["history"], ["tickets"]]
    views += [["tickets", one] for one in tickets]
    for words in views:
        plain = on_a_terminal(*words)
        shown += piped(*words)
        assert found_in(plain) == [], (words, plain)

    assert tickets
    assert found_in(shown) == []
    # The words around are there, and what was taken away can be seen.
    assert r"\x1b]52;c;Y3VybCBldmls\x07" in shown
    assert r"\u202e" in shown
    # Stored text is clean too, as it is and where it is JSON.
    stored = [one.encode() for one in (*ATTACKS[:3], *ATTACKS[4:7], r"\u001b", r"\u0007")]
    for file in (place.folder / "data").rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert [one for one in stored if one in content] == [], file
