"""Messages of the usual failures, and the exit codes of the kinds of failure."""

from __future__ import annotations

import pytest

from tests.golden.conftest import RoasCommand, golden

CASES: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "no such command": (("strat",), {}, ""),
    "no such option": (("history", "--limitt", "3"), {}, ""),
    "value out of range": (("history", "--limit", "0"), {}, ""),
    "argument missing": (("resume",), {}, ""),
    "unknown environment": (("start", "nosuch"), {}, ""),
    "unknown environment, reading": (("releases", "nosuch"), {}, ""),
    "no environment": (("start",), {}, ""),
    "environment and file": (("start", "shop", "-f", "compose.yaml"), {}, ""),
    "no text": (("recover", "shop", " "), {}, ""),
    "no duration": (("pause", "web", "--for", "soon", "--reason", "x"), {}, ""),
    "no pause": (("unpause", "web"), {}, ""),
    "unknown operation": (("history", "--last", "nosuch"), {}, ""),
    "unknown ticket": (("tickets", "T-nosuch"), {}, ""),
    "neither environment nor operation": (("history", "nosuch"), {}, ""),
    "neither environment nor ticket": (("tickets", "nosuch"), {}, ""),
    "unknown ticket, resolving": (("resolve", "nosuch", "--note", "x"), {}, ""),
    "unknown alert": (("acknowledge", "nosuch"), {}, ""),
    "unknown pattern": (("patterns", "show", "nosuch"), {}, ""),
    "expression that is none": (("patterns", "add", "mine", "(", "--category", "timeout"), {}, ""),
    "pattern of the library": (("patterns", "remove", "redis_login"), {}, ""),
    "unknown archive": (("archive", "query", "nosuch"), {}, ""),
    "no backup": (("restore", "nosuch"), {}, ""),
    "series that is none": (("detect",), {}, "once upon a time\n"),
    "lines that are no JSON": (("classify",), {}, "not JSON\n"),
    "variable that cannot be used": (("history",), {"ROAS_METRICS_PORT": "abc"}, ""),
    "data folder that cannot be made": (("history",), {"ROAS_DATA_DIR": "/dev/null/data"}, ""),
    "store that is none": (("history",), {"ROAS_DATA_DIR": "FOLDER/damaged"}, ""),
    "Prefect address that is none": (("collect", "shop"), {"PREFECT_API_URL": "ht!tp"}, ""),
    "password in the Prefect address": (("collect", "shop"), {"PREFECT_API_URL": "http://a:b@127.0.0.1/api"}, ""),
}


@pytest.fixture
def prepared(empty: RoasCommand) -> RoasCommand:
    damaged = empty.folder / "damaged"
    damaged.mkdir(mode=0o700)
    for name in ("deployment_logs", "monitoring", "errors"):
        (damaged / f"{name}.db").write_text("this is no SQLite file\n" * 100)
    return empty


def test_messages_and_exit_codes(prepared: RoasCommand) -> None:
    texts = []
    for name, (words, variables, said) in CASES.items():
        given = {key: value.replace("FOLDER", str(prepared.folder)) for key, value in variables.items()}
        done = prepared(*words, said=said, **given)
        set_to = "".join(f"{key}={value} " for key, value in variables.items())
        texts.append(f"# {name}\n{done.transcript().replace('$ ', f'$ {set_to}', 1)}")

    golden("errors.txt", "\n".join(texts))
