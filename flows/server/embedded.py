"""The Prefect API for one command: the server that is there, or a temporary one of our own.

A temporary server needs seconds to import and start, so it is started before anything else is imported
and waited for only when the first flow needs it.
"""

from __future__ import annotations

import base64
import os
import pwd
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from adapters.host.listeners import listening_users
from adapters.host.private_files import FILE_MODE
from adapters.host.programs import kills_for_memory
from adapters.host.warm_client import is_switched_on
from adapters.server.credentials import ServerCredentials, encryption_key, server_credentials
from adapters.server.made_database import DATABASE_ELSEWHERE
from adapters.server.membership import reach_control_plane, read_membership
from core.common.exit_codes import MORE_MEMORY, describe_end
from flows.common.terminal import echo
from flows.server.shared_server import IDLE_SECONDS, shared_server, stamp_of
from models.failures import RoasError
from models.settings import Settings, current_settings

RUN_SETTINGS = {
    # Our own log goes to the server as well, where a run's page shows it; that a task came to its end as it should
    # is no news there.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "roas",
    "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",
    # What is logged outside a run has no page.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # A user who can write a pickled result runs code in the process that reads it.
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
}
"""Default settings of Prefect in a process that runs flows."""

HEARTBEAT_SECONDS = "30"

START_WITHIN = timedelta(seconds=240)
"""The first start of a new data folder also makes the server's own database; under load 90 s were too few."""

ANSWERS_WITHIN = timedelta(seconds=30)
"""A server of another process either answers by then, or is away."""


@dataclass(slots=True)
class ServerProcess:
    """A Prefect API server that this process started; its process is another one after `start_anew`."""

    url: str
    listening: socket.socket
    """Its socket, which is closed here where it cannot be started anew."""
    _begin: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.process = self._begin()

    def start_anew(self) -> None:
        """Start it at its place, after its process has ended.

        Raises:
            OSError: It cannot be started.
        """
        _close_input(self.process)
        self.process = self._begin()

    def end(self) -> None:
        """Ask it to end, and kill it where it does not."""
        self.process.terminate()
        try:
            self.process.wait(timeout=_SERVER_ENDS_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        _close_input(self.process)


_ROOT = 0
_ANSWERS_SECONDS = 2.0
_BUSY_SECONDS = 10.0
"""So long a command waits for a control plane that takes connections, or swallows them."""
_AGAIN_SECONDS = 0.5
_GONE_AFTER_SECONDS = 10.0
_NO_LOG_OF_ITS_OWN = {"PREFECT_LOGGING_TO_API_ENABLED": "false"}
_SERVER_ENDS_WITHIN_SECONDS = 5


@contextmanager
def prefect_api(settings: Settings) -> Iterator[timedelta]:
    """Give the commands inside a Prefect API to record their runs on; how long to wait for it.

    PREFECT_API_URL wins; then the control plane of an enrolled host; then a server at the usual place (`roas serve`),
    where this user or root listens there; then the one that an earlier command left in the data folder, or a new one,
    whose runs `roas serve` shows later.
    It stays for later commands, or with ROAS_WARM=0 ends with this one.

    Raises:
        RoasError: The temporary server did not start.
    """
    for name, value in RUN_SETTINGS.items():
        os.environ.setdefault(name, value)
    usual = f"http://127.0.0.1:{settings.server_port}/api"
    named = os.environ.get("PREFECT_API_URL")
    if named and named != usual:
        # The profile of our own server, which the checkout's settings name, has no password for another one.
        home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
        os.environ.setdefault("PREFECT_PROFILES_PATH", str(home / "profiles.toml"))
        yield ANSWERS_WITHIN
        return
    if named is None and control_plane_answers(settings):
        yield ANSWERS_WITHIN
        return
    credentials = server_credentials(settings.prefect_home)
    ours = listener_is_ours(settings.server_port)
    if ours:
        os.environ.setdefault("PREFECT_API_AUTH_STRING", credentials.auth_string)
    if named or (ours and _status(usual) == HTTPStatus.OK):
        os.environ["PREFECT_API_URL"] = usual
        # By these `roas serve` notices that a command was killed.
        os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", HEARTBEAT_SECONDS)
        yield ANSWERS_WITHIN
        return
    if is_switched_on():
        stamp = stamp_of(_environment_of_a_command(credentials, 0))
        with shared_server(credentials.home, stamp, partial(_leave_server, credentials)) as port:
            if port is not None:
                os.environ |= client_environment(credentials, f"http://127.0.0.1:{port}/api")
                yield START_WITHIN
                return
    with listening_socket(0) as listening, api_server(credentials, listening, with_ui=False) as server:
        os.environ |= client_environment(credentials, server.url)
        yield START_WITHIN


def control_plane_answers(settings: Settings) -> bool:
    """Use the control plane that this host is enrolled at, where there is one and it answers.

    Raises:
        RoasError: This host's enrolment cannot be read.
    """
    member = read_membership(settings)
    if member is None:
        return False
    before = dict(os.environ)
    reach_control_plane(member)
    status = _status_of_busy(os.environ["PREFECT_API_URL"])
    if status == HTTPStatus.OK:
        return True
    os.environ.clear()
    os.environ |= before
    why = "refuses this host" if status == HTTPStatus.UNAUTHORIZED else "does not answer"
    echo(f"roas: the control plane at {member.server} {why}; this host's own server shows what runs now", err=True)
    return False


def wait_for_api(within: timedelta = START_WITHIN, server: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until the API that `prefect_api` promised answers; `server` is its process, where it is ours.

    Raises:
        RoasError: It did not answer in time, does not let us in, or its process ended.
    """
    url = os.environ["PREFECT_API_URL"]
    port, listened, kills = urlsplit(url).port or 0, time.monotonic(), kills_for_memory()
    deadline = listened + within.total_seconds()
    while (status := _status(url)) != HTTPStatus.OK:
        if status == HTTPStatus.UNAUTHORIZED:
            raise RoasError(
                f"Prefect API at {url} refuses the password;",
                advice="set PREFECT_API_AUTH_STRING to that server's auth string.",
            )
        if server is not None and server.poll() is not None:
            raise _ended_too_soon(server.returncode, kills)
        # A server of ours listens before it starts; one that was killed is started anew at its place.
        listened = time.monotonic() if server or within < START_WITHIN or listening_users(port) else listened
        if time.monotonic() - listened > _GONE_AFTER_SECONDS:
            raise _ended_too_soon(None, kills)
        if time.monotonic() > deadline:
            raise RoasError(
                f"Prefect API at {url} did not answer;", advice="does the server run, and does PREFECT_API_URL name it?"
            )
        time.sleep(0.05)


def _ended_too_soon(code: int | None, kills_before: int) -> RoasError:
    """The error for a server whose process has ended, with this exit code where it is known."""
    memory_ran_out = kills_for_memory() > kills_before
    ending = "ended" if code is None else describe_end(code, memory_ran_out=memory_ran_out)
    log = current_settings().prefect_home / "server.log"
    return RoasError(
        f"The Prefect server {ending} before it answered;",
        advice=f"memory of this machine ran out. {MORE_MEMORY}" if memory_ran_out else f"see {log}.",
    )


def listener_is_ours(port: int) -> bool:
    """Whether only this user or root listens on a port of the loopback; another user is reported.

    A stranger's program would be handed our password, and whatever it answers would be believed.
    """
    users = listening_users(port)
    strangers = users - {_ROOT, os.geteuid()}
    if strangers:
        echo(
            f"roas: Port {port} is held by {' and '.join(map(_user, sorted(strangers)))}, so the server there is not "
            "used and gets no password. End what listens there, or name your server with ROAS_SERVER_PORT or "
            "PREFECT_API_URL.",
            err=True,
        )
    return bool(users) and not strangers


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"the user with uid {uid}"


def own_origins(port: int) -> tuple[str, ...]:
    """The origins of the UI's page, by each name of this machine's loopback."""
    return tuple(f"http://{name}:{port}" for name in ("127.0.0.1", "localhost"))


def client_environment(credentials: ServerCredentials, url: str) -> dict[str, str]:
    """What the clients of our server need: its address, their files and credentials."""
    return {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(credentials.home),
        "PREFECT_API_AUTH_STRING": credentials.auth_string,
    }


def server_environment(credentials: ServerCredentials, port: int) -> dict[str, str]:
    """What our Prefect server is started with: its files in one folder, nothing sent elsewhere, for its own page only.

    Raises:
        RoasError: The key of its encrypted blocks can be neither read nor moved.
    """
    retention = current_settings().retention
    return {
        **os.environ,
        **_encryption(credentials.home),
        "PREFECT_HOME": str(credentials.home),
        "PREFECT_SERVER_API_AUTH_STRING": credentials.auth_string,
        "PREFECT_API_AUTH_STRING": credentials.auth_string,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(own_origins(port)),
        "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # The newer UI calls an analytics host whatever is set, and hides Resume and Retry in a menu.
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # Kept in memory, the leases of runs that live on die with a server that is killed, and their limit with them.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_API_URL": "",
        # Its own record grows by 17 to 221 KB a run; the life cycle looks after servers that live for a moment.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(round(retention.failed_runs.total_seconds())),
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P7D",
        # The recorder's defaults write one row at a time, which SQLite answers slowly.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "2",
    }


def _encryption(home: Path) -> dict[str, str]:
    """The key of encrypted blocks, where the server keeps its database in its folder and no key is configured."""
    if any(map(os.environ.get, (*DATABASE_ELSEWHERE, "PREFECT_SERVER_ENCRYPTION_KEY"))):
        return {}
    key, moved = encryption_key(home)
    if moved:
        echo(
            f"roas: The key of the Prefect server's encrypted blocks left its database for a file in {home}. "
            "Its blocks were encrypted anew.",
            err=True,
        )
    return {"PREFECT_SERVER_ENCRYPTION_KEY": key}


def listening_socket(port: int) -> socket.socket:
    """Take a port of the loopback (0: any free one) before a server is started, so that no other user can.

    Raises:
        OSError: The port is taken.
    """
    listening = socket.socket()
    try:
        # Two sockets that both may share an address can be bound to one port. A named port is taken again after a
        # restart, when connections of the server before still linger; it listens at once, which ends the sharing.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(port != 0))
        listening.bind(("127.0.0.1", port))
        listening.listen(128)
        # Its connections may linger after its server was killed, and the next one takes the same port.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError:
        listening.close()
        raise
    return listening


@contextmanager
def api_server(credentials: ServerCredentials, listening: socket.socket, *, with_ui: bool) -> Iterator[ServerProcess]:
    """Run a Prefect API server in a process of its own until the end of the block; it ends with this process, too.

    Without the UI it also has no background services but those of a server for a moment, and it alone listens: its port
    is free as soon as it has ended. With the UI it can be started anew, and no other program can take its port
    meanwhile, and with it the password that clients send there; they wait.

    Raises:
        RoasError: The key of its encrypted blocks can be neither read nor moved.
    """
    port = listening.getsockname()[1]
    environment = server_environment(credentials, port) if with_ui else _environment_of_a_command(credentials, port)

    def begin() -> subprocess.Popen[bytes]:
        with _private_log(credentials.home / "server.log") as server_log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "flows.server.server_process", str(listening.fileno())],
                env=environment | _NO_LOG_OF_ITS_OWN,
                pass_fds=[listening.fileno()],
                # It ends when this pipe does, also where this process is killed.
                stdin=subprocess.PIPE,
                stdout=server_log,
                stderr=server_log,
                # Ctrl-C in a terminal goes to a whole group, and an interrupted operation still has to record its end.
                start_new_session=True,
            )

    server = ServerProcess(f"http://127.0.0.1:{port}/api", listening, begin)
    if not with_ui:
        listening.close()
    try:
        yield server
    finally:
        server.end()


def _close_input(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 - it was asked for where it began
    process.stdin.close()


def _environment_of_a_command(credentials: ServerCredentials, port: int) -> dict[str, str]:
    """What a server without the UI is started with."""
    less = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    return server_environment(credentials, port) | less


def _leave_server(credentials: ServerCredentials, port: int) -> tuple[int, int]:
    """Start a server that outlives this process, and ends when no command uses it any more; its port and process."""
    with listening_socket(port) as listening, _private_log(credentials.home / "server.log") as log:
        port = listening.getsockname()[1]
        module = ["-P", "-m", "flows.server.server_process", "3", str(credentials.home), str(IDLE_SECONDS)]
        process = os.posix_spawn(
            sys.executable,
            [sys.executable, *module],
            _environment_of_a_command(credentials, port) | _NO_LOG_OF_ITS_OWN,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
                (os.POSIX_SPAWN_DUP2, listening.fileno(), 3),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP],
        )
    return port, process


def _private_log(path: Path) -> IO[str]:
    return open(path, "a", opener=lambda name, flags: os.open(name, flags, FILE_MODE))


def _status_of_busy(url: str) -> int | None:
    """The status of a server that is asked again where it is busy: it answers late, or with an error of its own."""
    deadline = time.monotonic() + _BUSY_SECONDS
    timeout = _ANSWERS_SECONDS
    while True:
        try:
            status = _ask_status(url, timeout)
            is_busy = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        except (HTTPException, OSError) as error:
            status = None
            is_busy = isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError)
        timeout = deadline - time.monotonic()
        if not is_busy or timeout <= 0:
            return status
        time.sleep(min(_AGAIN_SECONDS, timeout))


def _status(url: str) -> int | None:
    """The status with which a Prefect API answers us; None where nothing answers."""
    try:
        return _ask_status(url, _ANSWERS_SECONDS)
    except (HTTPException, OSError):
        return None


def _ask_status(url: str, timeout: float) -> int:
    question = urllib.request.Request(f"{url}/admin/version")  # noqa: S310 - http by construction
    if credentials := os.environ.get("PREFECT_API_AUTH_STRING"):
        question.add_header("Authorization", "Basic " + base64.b64encode(credentials.encode()).decode())
    try:
        with urllib.request.urlopen(question, timeout=timeout, context=ssl_context(url)) as answer:  # noqa: S310 - as above
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def ssl_context(url: str) -> ssl.SSLContext | None:
    """Whose certificates to trust, as Prefect's own clients do; None for the machine's."""
    file = os.environ.get("PREFECT_API_SSL_CERT_FILE")
    return ssl.create_default_context(cafile=file) if file and url.startswith("https:") else None
