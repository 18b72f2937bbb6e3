"""Say what tells a server a new password: a hash of it where the program takes one, so that no log has the value."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field

from models.environments import AmqpProbe, MysqlProbe, PostgresqlProbe, Probe

_ROUNDS = 4096
_EITHER = 'program=$(command -v "$1" || command -v "$2") && shift 2 && exec "$program" "$@"'

# rabbitmqctl reads no standard input without a terminal, so its file is in memory; Debian's runs it as rabbitmq.
_BY_FILE = (
    'file=/dev/shm/roas-$$; trap "rm -f $file" EXIT; umask 077; cat >"$file"; chown rabbitmq "$file" 2>/dev/null; '
    'rabbitmqctl --quiet eval_file "$file" </dev/null'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordChange:
    """A program in a server's container, its input, and the variable that it takes the present password from."""

    command: tuple[str, ...]
    given: str = field(repr=False)
    variable: str = ""


def change_password(probe: Probe, value: str, *, beside_old: bool, salt: bytes) -> PasswordChange:
    """What lets the user of a probe log in with a value. Redis takes it `beside_old` until it is started again."""
    match probe:
        case PostgresqlProbe(user=user):
            options = ("--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--host=127.0.0.1")
            database = probe.database or user
            role = user.replace('"', '""')
            return PasswordChange(
                command=("psql", *options, f"--username={user}", f"--dbname={database}"),
                given=f"ALTER ROLE \"{role}\" PASSWORD '{scram_verifier(value, salt)}';\n",
                variable="PGPASSWORD",
            )
        case MysqlProbe(user=user):
            # Each server runs the comments that are meant for it; MySQL takes no hash, and has none in its logs.
            hashed = f"'{mariadb_hash(value)}'"
            lines = [
                f"/*M! SET PASSWORD = {hashed} */;",
                f"/*!50706 ALTER USER USER() IDENTIFIED BY '{_sql(value)}' */;",
            ]
            for host in ("%", "localhost") if user == "root" else ():
                lines.append(f"/*M! SET PASSWORD FOR 'root'@'{host}' = {hashed} */;")
                lines.append(f"/*!50706 ALTER USER 'root'@'{host}' IDENTIFIED BY '{_sql(value)}' */;")
            command = ("sh", "-c", _EITHER, "sh", "mariadb", "mysql", "--host=127.0.0.1", f"--user={user}", "--force")
            return PasswordChange(command=command, given="\n".join(lines) + "\n", variable="MYSQL_PWD")
        case AmqpProbe(user=user):
            # A hash would have to be of the algorithm that the server is set up with; this is in none of its logs.
            change = f'rabbit_auth_backend_internal:change_password({_erlang(user)}, {_erlang(value)}, <<"roas">>).\n'
            return PasswordChange(command=("sh", "-c", _BY_FILE), given=change)
        case _:
            hashed = hashlib.sha256(value.encode()).hexdigest()
            others = "" if beside_old else "resetpass "
            return PasswordChange(
                command=("sh", "-c", _EITHER, "sh", "redis-cli", "valkey-cli"),
                given=f"ACL SETUSER default {others}#{hashed}\n",
                variable="REDISCLI_AUTH",
            )


def scram_verifier(value: str, salt: bytes) -> str:
    """The verifier that PostgreSQL stores of a password of plain ASCII (RFC 5803)."""
    salted = hashlib.pbkdf2_hmac("sha256", value.encode(), salt, _ROUNDS)
    stored = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    keys = ":".join(base64.b64encode(key).decode() for key in (stored, _hmac(salted, b"Server Key")))
    return f"SCRAM-SHA-256${_ROUNDS}:{base64.b64encode(salt).decode()}${keys}"


def mariadb_hash(value: str) -> str:
    """The hash that mysql_native_password stores of a password."""
    return "*" + hashlib.sha1(hashlib.sha1(value.encode()).digest()).hexdigest().upper()  # noqa: S324 - MariaDB's own


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).digest()


def _sql(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _erlang(value: str) -> str:
    """A value as an Erlang binary, in plain ASCII."""
    plain = (one if one.isascii() and one.isalnum() else f"\\x{{{ord(one):x}}}" for one in value)
    return f'<<"{"".join(plain)}"/utf8>>'
