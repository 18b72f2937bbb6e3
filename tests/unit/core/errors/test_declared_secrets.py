"""Secret values of a Compose document: by section, by name, by shape."""

from __future__ import annotations

import json

import pytest

from core.errors.declared_secrets import declared_secrets, fill_in_variables
from core.errors.secret_shapes import random_parts

CHANCE = "k3Jx9QmZ7vT2bN5wR8cL1dF4"


def service(**fields: object) -> dict[str, object]:
    return {"services": {"web": {"image": "shop/web:1.2", **fields}}}


@pytest.mark.parametrize(
    ("document", "values"),
    [
        (service(environment={"DB_PASS": "pw-planted-1"}), {"pw-planted-1"}),
        (service(environment=["PW=pw-planted-2", "LEVEL=debug"]), {"pw-planted-2"}),
        (service(environment={"SERVICE_REALM": CHANCE}), {CHANCE}),
        (service(environment={"TOKEN": "${GIVEN}"}), {"from-variable-3"}),
        (service(environment={"APP_KEY": "${UNSET:-default-key-4}"}), {"default-key-4"}),
        (service(command=["run", "--password", "pw-planted-5"]), {"pw-planted-5"}),
        (service(command="run --password=pw-planted-6"), {"pw-planted-6"}),
        (service(command=["run", CHANCE]), {CHANCE}),
        (service(labels={"shop.secret": "label-7"}), {"label-7"}),
        (service(build={"args": ["NPM_TOKEN=build-8"]}), {"build-8"}),
        (service(healthcheck={"test": ["CMD-SHELL", "curl -u a:pw-9 http://x"]}), {"pw-9"}),
        (service(environment={"DSN": "postgres://shop:pw-10@db/shop"}), {"postgres://shop:pw-10@db/shop", "pw-10"}),
        ({"secrets": {"a": {"environment": "GIVEN"}}}, {"from-variable-3"}),
        ({"configs": {"a": {"content": "inline-token-11"}}}, {"inline-token-11"}),
        ({"configs": {"a": {"content": "level = debug\npassword = config-12\n"}}}, {"config-12"}),
    ],
)
def test_a_secret_is_known_wherever_a_document_has_it(document: dict[str, object], values: set[str]) -> None:
    assert values <= declared_secrets(document, {"GIVEN": "from-variable-3"}).values


@pytest.mark.parametrize(
    "document",
    [
        service(environment={"POSTGRES_USER": "postgres", "POSTGRES_PASSWORD": "postgres"}),
        service(environment={"LOG_LEVEL": "debug", "HOME_URL": "https://shop.example/start", "PORT": 8080}),
        service(environment={"PUBLIC_KEY": "ssh-rsa-shop", "SORT_KEY": "created_at", "TOKEN_FILE": "/run/secrets/t"}),
        service(image="shop@sha256:" + "3fa4c2d1" * 8, labels={"org.opencontainers.image.revision": "3fa4c2d1" * 5}),
        service(
            command=["nginx", "-g", "daemon off;", "/usr/share/nginx/html/index-2024.html"], secrets=["db_password"]
        ),
        {"configs": {"a": {"content": "listen 8080\nlog_format combined\n"}}},
    ],
)
def test_what_is_no_secret_is_not_taken_for_one(document: dict[str, object]) -> None:
    assert declared_secrets(document, {}).values == set()


def test_files_of_secrets_are_secret_as_a_whole_and_those_of_configs_are_not() -> None:
    found = declared_secrets(
        {
            "services": {"web": {"env_file": ["web.env", {"path": "${WHERE}/more.env"}]}},
            "secrets": {"a": {"file": "./a"}},
            "configs": {"b": {"file": "./b"}},
        },
        {"WHERE": "here"},
    )
    assert found.files == {"./a": True, "./b": False}
    assert found.env_files == {"web.env", "here/more.env"}


def test_a_document_that_repeats_an_alias_is_read_once() -> None:
    part: dict[str, object] = {"PW": "pw-planted-1"}
    for _ in range(60):
        part = {"a": part, "b": part}
    assert declared_secrets(part, {}).values == {"pw-planted-1"}


@pytest.mark.parametrize(
    ("text", "filled"), [("a$$b", "a$b"), ("$A-${A}", "1-1"), ("${B:-two}${B-}", "two"), ("${A:?needed}", "1")]
)
def test_variables_are_filled_in_as_compose_does(text: str, filled: str) -> None:
    assert fill_in_variables(text, {"A": "1"}) == filled


@pytest.mark.parametrize(
    "text",
    [
        "com.docker.compose.config-hash", "/usr/share/nginx/html/index.html", "2024-06-24T06:50:12.123456789Z",
        "8f14e45f-ceea-467f-ad1e-37d0b0a5a5a5", "sha256:" + "3fa4c2d1" * 8, "ThisIsALongCamelCaseClassName2",
        "postgresql-client-common_15.4-1+deb12u1_amd64.deb", "max_connections_per_hour_0", json.dumps({"a": [1, 2]}),
    ],
)  # fmt: skip
def test_names_paths_and_digests_do_not_look_random(text: str) -> None:
    assert random_parts(text) == []


@pytest.mark.parametrize("text", [CHANCE, "d41d8cd98f00b204e9800998ecf8427e", "wJalrXUtnFEMI7K3MDENGbPxRfiCY9zQ2"])
def test_long_values_of_changing_characters_look_random(text: str) -> None:
    assert random_parts(f"--seed {text} on") == [text]
