"""Fields of probes that go together, and the secrets that they name."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from models.environments import PROBES_WITH_LOGIN, Environment, Probe

PROBE: TypeAdapter[Probe] = TypeAdapter(Probe)
KINDS = get_args(get_args(Probe)[0])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "http", "port": 80, "user": "shop"}, "user needs password_secret"),
        ({"kind": "http", "port": 80, "tls": {"server_name": "shop.test"}}, "tls needs scheme: https"),
        ({"kind": "http", "port": 80, "scheme": "https", "tls": {"verify": False}}, "needs a reason"),
        ({"kind": "http", "port": 80, "method": "HEAD", "contains": "ok"}, "contains needs another method"),
        ({"kind": "http", "port": 80, "headers": {"Authorization": "Basic eA=="}}, "would hold a secret"),
        ({"kind": "http", "port": 80, "headers": {"COOKIE": "session"}}, "would hold a secret"),
        ({"kind": "http", "port": 80, "headers": {"X Y": "1"}}, "is not the name of a header"),
        ({"kind": "http", "port": 80, "headers": {"X-Y": "1\r\nHost: other"}}, "is not one line of plain text"),
        ({"kind": "amqp", "user": "shop"}, "user needs password_secret"),
        ({"kind": "amqp", "max_messages": 3}, "max_messages needs queue"),
        ({"kind": "postgresql", "query": ""}, "this is not text"),
        ({"kind": "mysql", "user": "a\0b"}, "this is not text"),
        ({"kind": "postgresql", "password": "plain"}, "Extra inputs are not permitted"),
        ({"kind": "dns"}, "Field required"),
    ],
)
def test_a_probe_refuses_fields_that_contradict_each_other(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PROBE.validate_python(fields)


def environment(probe: dict[str, Any], *secrets: str) -> Environment:
    given = {"name": "shop", "project": "shop", "compose_files": ["compose.yaml"]}
    named = [{"name": one} for one in secrets]
    return Environment.model_validate(given | {"secrets": named, "services": {"it": {"probe": probe}}})


@pytest.mark.parametrize("kind", [one for one in KINDS if "password_secret" in one.model_fields])
def test_a_probe_names_a_secret_of_its_environment(kind: type) -> None:
    assert issubclass(kind, PROBES_WITH_LOGIN)
    probe = {"kind": get_args(kind.model_fields["kind"].annotation)[0], "port": 1, "password_secret": "DB_PASSWORD"}
    with pytest.raises(ValidationError, match=r"services\.it\.probe\.password_secret names 'DB_PASSWORD'"):
        environment(probe, "OTHER")
    assert environment(probe, "DB_PASSWORD").services["it"].probe is not None
