"""What tells a server a new password: hashes as the programs themselves make them, and no value in an argument."""

from __future__ import annotations

import base64

import pytest

from core.deployment.rotation import change_password, mariadb_hash, scram_verifier
from models.environments import AmqpProbe, MysqlProbe, PostgresqlProbe, Probe, RedisProbe

VALUE = "correct-horse-battery"


def test_the_verifier_is_that_of_the_scram_standard() -> None:
    # RFC 7677: user "user", password "pencil"; the keys follow from salt and rounds.
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    assert scram_verifier("pencil", salt) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_the_hash_is_that_of_mariadb() -> None:
    # As its documentation of PASSWORD() shows.
    assert mariadb_hash("notagoodpwd") == "*3A70EE9FC6594F88CE9E959CD51C5A1C002DC937"


@pytest.mark.parametrize(
    "probe",
    [
        PostgresqlProbe(kind="postgresql", user="shop"),
        MysqlProbe(kind="mysql", user="root"),
        RedisProbe(kind="redis"),
        AmqpProbe(kind="amqp", user="shop", password_secret="P"),
    ],
    ids=lambda probe: probe.kind,
)
def test_no_argument_has_the_value(probe: Probe) -> None:
    change = change_password(probe, VALUE, beside_old=True, salt=b"salt")

    assert not any(VALUE in word for word in change.command)
    assert VALUE not in repr(change)


@pytest.mark.parametrize("probe", [PostgresqlProbe(kind="postgresql"), RedisProbe(kind="redis")], ids=["pg", "redis"])
def test_a_server_that_takes_a_hash_gets_no_value(probe: Probe) -> None:
    assert VALUE not in change_password(probe, VALUE, beside_old=False, salt=b"salt").given


def test_redis_takes_both_passwords_until_it_is_started_again() -> None:
    probe = RedisProbe(kind="redis")

    assert "resetpass" not in change_password(probe, VALUE, beside_old=True, salt=b"").given
    assert "resetpass" in change_password(probe, VALUE, beside_old=False, salt=b"").given


def test_the_name_of_a_role_is_quoted() -> None:
    probe = PostgresqlProbe(kind="postgresql", user='a"; drop role b; --')

    assert change_password(probe, VALUE, beside_old=False, salt=b"").given.startswith(
        'ALTER ROLE "a""; drop role b; --" '
    )


def test_values_cannot_end_an_expression_of_rabbitmq() -> None:
    probe = AmqpProbe(kind="amqp", user='a"/utf8>>, b', password_secret="P")

    assert change_password(probe, 'é"\\x1', beside_old=False, salt=b"").given == (
        r'rabbit_auth_backend_internal:change_password(<<"a\x{22}\x{2f}utf8\x{3e}\x{3e}\x{2c}\x{20}b"/utf8>>, '
        r'<<"\x{e9}\x{22}\x{5c}x1"/utf8>>, <<"roas">>).' + "\n"
    )
