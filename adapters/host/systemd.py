"""Systemd units of `roas serve` and `roas worker`: their text, and installation for a user or, as root, the machine."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from adapters.host.programs import ProgramRun, run_to_end
from models.failures import BadInputError, RoasError

UNIT = "roas.service"
WORKER_UNIT = "roas-worker.service"
"""The unit of `roas worker`, beside or instead of that of `roas serve`."""

_FIRST_LINE = "# Written by `roas service install`, which writes it anew; `roas service remove` removes it."
_RUNS = Path("/run/systemd/system")
_STARTS_WITHIN_SECONDS = 300
_HUNG_AFTER_SECONDS = 90
_ANSWER_BYTES = 1024 * 1024
_MODE = 0o644

_HARDENED = """
# What is not needed is taken away. The engine's socket remains, which is as much as root on this machine.
NoNewPrivileges=yes
UMask=0077
PrivateTmp=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
"""
_HARDENED_USER = """ProtectSystem=full
"""
# A user's manager may set none of these up: they take privileges, or a user namespace that some systems forbid.
_HARDENED_SYSTEM = """ProtectSystem=strict
ProtectHome=read-only
# The kernel's log tells which container ran out of memory.
DevicePolicy=closed
DeviceAllow=/dev/kmsg r
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# Files of users are read, and recovery scripts run as another user.
CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_KILL CAP_SETGID CAP_SETUID CAP_SYSLOG
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the unit runs, and where."""

    program: Path
    data_dir: Path
    working_folder: Path | None = None
    """The checkout whose folder decides where things lie; elsewhere None, for the home folder."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """What else the command line found in its variables; no secrets."""
    is_system: bool
    """For the machine, run by root; else for one user."""
    command: tuple[str, ...] = ("serve",)
    """What the program is given: a worker gives signs of life, and is started anew where they stop."""

    @property
    def is_worker(self) -> bool:
        """Whether it runs `roas worker`."""
        return self.command[0] == "worker"

    @property
    def unit(self) -> str:
        """The name of its unit."""
        return WORKER_UNIT if self.is_worker else UNIT


@dataclass(frozen=True, slots=True)
class ServiceState:
    """State of the installed unit, as systemd reports it."""

    unit: str
    active: str
    """As systemd calls it: active, activating, inactive or failed; or "not installed"."""
    enabled: bool
    since: str = ""
    main_process: int = 0

    @property
    def is_running(self) -> bool:
        """Whether it serves now."""
        return self.active == "active"


def installed_program() -> Path:
    """The `roas` of this environment.

    Raises:
        RoasError: It is not there.
    """
    program = Path(sys.prefix) / "bin" / "roas"
    if not program.is_file():
        raise RoasError(f"{program} is missing;", advice="install roas-ops, for example with `uv tool install`.")
    return program


def unit_text(service: Service) -> str:
    """The unit file."""
    beside = "flow runs" if service.is_worker else "schedules"
    home = "root's home folder" if service.is_system else "the home folder"
    variables = {"ROAS_DATA_DIR": str(service.data_dir), **service.variables}
    lines = [
        _FIRST_LINE,
        "[Unit]",
        f"Description=ROAS Ops: watch, monitoring and {beside} of Docker Compose applications",
        *(["Wants=network-online.target", "After=network-online.target docker.service"] if service.is_system else []),
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={' '.join(map(_word, (str(service.program), *service.command)))}",
        f"# Where no checkout is named it runs in {home}.",
        f"WorkingDirectory={'~' if service.working_folder is None else _value(str(service.working_folder))}",
        *(f"Environment={_word(f'{name}={value}')}" for name, value in sorted(variables.items())),
        *(["Environment=HOME=%h"] if service.is_system else []),
        "# Settings and secrets, NAME=VALUE lines: /etc/roas for root, ~/.config/roas for a user.",
        "EnvironmentFile=-%E/roas/service.env",
        *([f"WatchdogSec={_HUNG_AFTER_SECONDS}"] if service.is_worker else []),
        "Restart=on-failure",
        "RestartSec=5",
        "# A setting or file that cannot be used is not mended by another start.",
        "RestartPreventExitStatus=2",
        f"TimeoutStartSec={_STARTS_WITHIN_SECONDS}",
        "TimeoutStopSec=30",
        "KillMode=mixed",
        "# A process that the kernel ends because memory ran out is started anew by the others, which go on.",
        "OOMPolicy=continue",
        *_HARDENED.rstrip().splitlines(),
        *(_HARDENED_SYSTEM if service.is_system else _HARDENED_USER).splitlines(),
    ]
    if service.is_system:
        lines.append("# Compose keeps its builds in the home folder. Add folders that recovery scripts write to.")
        lines.append(f"ReadWritePaths={_word(str(service.data_dir))} -%h/.docker")
    lines += ["", "[Install]", f"WantedBy={'multi-user' if service.is_system else 'default'}.target", ""]
    return "\n".join(lines)


def unit_file(*, is_system: bool, unit: str = UNIT) -> Path:
    """Where a unit is installed."""
    if is_system:
        return Path("/etc/systemd/system") / unit
    config_home = os.environ.get("XDG_CONFIG_HOME", "")
    config = Path(config_home) if config_home.startswith("/") else Path("~/.config").expanduser()
    return config / "systemd/user" / unit


def install(service: Service) -> Path:
    """Write the unit, enable it and start it anew; returns when it serves.

    Raises:
        RoasError: There is no systemd, the file cannot be written, or the service does not start.
        BadInputError: Another program's unit has the name.
    """
    _require_systemd(is_system=service.is_system)
    file = unit_file(is_system=service.is_system, unit=service.unit)
    _refuse_foreign(file)
    try:
        # The sandbox needs the folder before the first start.
        service.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(unit_text(service), encoding="utf-8")
        file.chmod(_MODE)
    except OSError as error:
        raise RoasError(f"{file} cannot be written: {error.strerror};", advice="may this user write there?") from error
    for words in (["daemon-reload"], ["enable", service.unit], ["restart", service.unit]):
        _systemctl(words, is_system=service.is_system, unit=service.unit)
    return file


def remove(*, is_system: bool, unit: str = UNIT) -> Path | None:
    """Stop the service and remove its unit; None where there is none.

    Raises:
        RoasError: There is no systemd, or it refuses.
        BadInputError: Another program's unit has the name.
    """
    _require_systemd(is_system=is_system)
    file = unit_file(is_system=is_system, unit=unit)
    if not file.exists():
        return None
    _refuse_foreign(file)
    _systemctl(["disable", "--now", unit], is_system=is_system, unit=unit)
    try:
        file.unlink()
    except OSError as error:
        raise RoasError(f"{file} cannot be removed: {error.strerror};", advice="remove it by hand.") from error
    _systemctl(["daemon-reload"], is_system=is_system)
    return file


def state(*, is_system: bool, unit: str = UNIT) -> ServiceState:
    """The state of the service. Raises RoasError where there is no systemd."""
    _require_systemd(is_system=is_system)
    file = unit_file(is_system=is_system, unit=unit)
    if not file.exists():
        return ServiceState(unit, "not installed", enabled=False)
    fields = "ActiveState,UnitFileState,ActiveEnterTimestamp,MainPID"
    shown = _systemctl(["show", unit, "--property", fields], is_system=is_system, unit=unit)
    facts = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    return ServiceState(
        str(file),
        facts.get("ActiveState", "unknown"),
        enabled=facts.get("UnitFileState") == "enabled",
        since=facts.get("ActiveEnterTimestamp", ""),
        main_process=int(facts.get("MainPID") or 0),
    )


def lingers() -> bool:
    """Whether the services of this user run while no user is logged in."""
    return (Path("/var/lib/systemd/linger") / str(os.environ.get("USER", ""))).is_file()


class ServiceManager:
    """The manager of this service, where systemd started it and waits for news (sd_notify)."""

    def __init__(self) -> None:
        # Processes that are started from here must not speak for the service.
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        is_watched = os.environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_seconds = int(microseconds) / 1e6 if is_watched and microseconds.isdecimal() else None
        """So long without a sign of life, and systemd kills the service and starts it anew; None: it waits for none."""

    def ready(self, status: str = "") -> None:
        """Say that the service serves."""
        self._say(f"READY=1\nSTATUS={status}" if status else "READY=1")

    def alive(self) -> None:
        """Give a sign of life."""
        self._say("WATCHDOG=1")

    def notify_stopping(self) -> None:
        """Say that the service ends."""
        self._say("STOPPING=1")

    def _say(self, what: str) -> None:
        if self._address:
            # A service that could not say it is ended by its manager, which says why.
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                connection.connect(f"\0{self._address[1:]}" if self._address.startswith("@") else self._address)
                connection.send(what.encode())


def report_ready() -> None:
    """Say to systemd that the service serves, where it waits for that (sd_notify)."""
    ServiceManager().ready()


def _require_systemd(*, is_system: bool) -> None:
    if not _RUNS.is_dir() or shutil.which("systemctl") is None:
        raise RoasError(
            "systemd does not run on this machine, so no service can be installed;",
            advice="run `roas serve` or `roas worker` under the supervisor that it has; `roas service install --print` "
            "prints the unit.",
        )
    if not is_system and not os.environ.get("XDG_RUNTIME_DIR"):
        raise RoasError(
            "The user manager of systemd is not known in this session: XDG_RUNTIME_DIR is not set;",
            advice="log in as this user, or use `machinectl shell USER@`.",
        )


def _refuse_foreign(file: Path) -> None:
    with suppress(FileNotFoundError):
        try:
            first = file.read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise RoasError(f"{file} cannot be read: {error};", advice="check it.") from error
        if first != _FIRST_LINE:
            raise BadInputError(
                f"{file} was not written by `roas service install` and stays as it is;",
                advice="move it away, or manage the service with systemctl.",
            )


def _systemctl(words: Sequence[str], *, is_system: bool, unit: str = UNIT) -> str:
    command = ["systemctl", *([] if is_system else ["--user"]), "--no-pager", *words]
    limit_seconds = _STARTS_WITHIN_SECONDS + 60
    program = ProgramRun(words=command, variables=os.environ, limit_seconds=limit_seconds, most_bytes=_ANSWER_BYTES)
    try:
        result = run_to_end(program)
        if result.code is None:
            raise TimeoutError(f"it took longer than {limit_seconds} s")
    except OSError as error:
        raise RoasError(f"{' '.join(command)} did not end well: {error};", advice="is systemd well?") from error
    if result.code != 0:
        logs = f"journalctl {'' if is_system else '--user '}-u {unit} -e"
        raise RoasError(
            f"{' '.join(command)} failed: {(result.err or result.out).strip()[:500]}", advice=f"`{logs}` shows why."
        )
    return result.out


def _value(text: str) -> str:
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """A word of a unit's line, in quotes where it has to be; `%` starts a specifier."""
    escaped = _value(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if any(character in escaped for character in " \t\"'\\;") else escaped
