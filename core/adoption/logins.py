"""Find the login that a program's image is set up with, and the probe that uses it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from models.adoption import Login, Program, ServiceTraits, UsedVariable
from models.environments import AmqpProbe, Probe, RedisProbe, Secret

_NOT_IN_A_NAME = re.compile(r"[^A-Z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginProbe:
    """A probe with a login, the secret it takes the password from, and the reason for it."""

    probe: Probe
    secret: UsedVariable | None
    reason: str


def login_probe(program: Program, traits: ServiceTraits, variables: Mapping[str, UsedVariable]) -> LoginProbe | None:
    """The probe with the first login whose password can be had when it runs; None where there is none.

    `variables` are those of the Compose files.
    """
    for login in program.logins:
        user = traits.settings.get(login.user or "") or login.default_user
        if program.login_probe is None or user is None:
            continue
        if (secret := _secret(login, traits, variables)) is not None:
            reason = f"it is {program.name}, and its password comes from {secret.file or secret.name}"
            return LoginProbe(
                probe=_fill_in(program.login_probe, login, user, traits, secret), secret=secret, reason=reason
            )
        if _is_open(login, traits):
            probe = _fill_in(program.login_probe, login, user, traits, None)
            return LoginProbe(probe=probe, secret=None, reason=f"it is {program.name} without a password")
    return None


def logins_of_secret(program: Program, traits: ServiceTraits, secret: Secret) -> Iterator[Probe]:
    """The probes that log in with a secret at a server that gets it: one for each user whose password it is."""
    variable = UsedVariable(name=secret.name, is_secret=True, is_set=True, file=secret.file)
    for login in program.logins:
        user = traits.settings.get(login.user or "") or login.default_user
        found = _secret(login, traits, {secret.name: variable})
        if program.login_probe and user and found and (found.name == secret.name or found.file == secret.file):
            yield _fill_in(program.login_probe, login, user, traits, variable)
    if isinstance(program.probe, RedisProbe):
        # Its password may come in any way, such as by a shell that reads a file: its first login proves it.
        yield program.probe.model_copy(update={"password_secret": secret.name})


def _secret(login: Login, traits: ServiceTraits, variables: Mapping[str, UsedVariable]) -> UsedVariable | None:
    source = traits.passwords.get(login.password)
    if (password_file := traits.password_files.get(f"{login.password}_FILE")) is not None:
        if password_file.file is not None:
            name = _NOT_IN_A_NAME.sub("_", password_file.name.upper()).strip("_") or "PASSWORD"
            name = f"FILE_{name}" if name[0].isdigit() else name
            name = f"{name}_FROM_FILE" if name in variables else name
            return UsedVariable(name=name, is_secret=True, is_set=True, file=password_file.file)
        source = password_file.variable
    if source is None or (variable := variables.get(source)) is None:
        return None
    # Where the Compose file holds a default, the variable may never be set.
    return replace(variable, is_secret=True) if variable.is_set or not variable.has_default else None


def _is_open(login: Login, traits: ServiceTraits) -> bool:
    value = traits.settings.get(login.open_variable or "")
    return bool(value) and login.open_value in (None, value)


def _fill_in(template: Probe, login: Login, user: str, traits: ServiceTraits, secret: UsedVariable | None) -> Probe:
    fields: dict[str, Any] = {"user": user}
    if database := traits.settings.get(login.database or ""):
        fields["virtual_host" if isinstance(template, AmqpProbe) else "database"] = database
    if secret is not None:
        fields["password_secret"] = secret.name
    return type(template).model_validate(template.model_dump(exclude_unset=True) | fields)
