"""Run a program in the warm process, which has imported everything and forks (flows/warm/warm_process.py).

A user waits for this module before a command begins: it imports little, and of the standard library only.

The two talk over a Unix socket. The fork says FORKED; the client sends one request with its descriptors; the fork takes
them over and answers READY; the client sends GO, and from then on each byte is the number of a signal. The warm
process answers STOPPED or ENDED. Until GO either side may give up, and the client runs the program itself; after it,
the program never runs twice.
"""

from __future__ import annotations

import _locale
import fcntl
import marshal
import os
import resource
import select
import signal
import socket
import stat
import sys
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import NoReturn

SWITCH = "ROAS_WARM"
"""The variable that switches the warm process off where it is 0, or names the socket of a certain one."""

RUN_MODULES = (
    "prefect.flow_engine",
    "prefect._internal.metrics",
    "prefect._internal.pytz",
    "prefect.utilities.visualization",
    "anyio._backends._asyncio",
    "fastapi.encoders",
)
"""What a flow run imports besides our own packages."""

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""Variables with which importing NumPy begins no thread."""

FORKED, READY, STOPPED, ENDED = b"F", b"R", b"S", b"E"
GO = b"\0"
ANSWER_BYTES = 5
"""An answer is a letter and a number: the wait status of the program for STOPPED and ENDED."""

LOST = -1
"""Instead of a wait status: the warm process ended before the program did."""

SENT_TO_A_JOB = frozenset(
    {signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGHUP, signal.SIGWINCH, signal.SIGCONT}
)
"""The terminal sends these to all processes of a job; others concern one process."""

_FORWARDED = (SENT_TO_A_JOB - {signal.SIGCONT}) | {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
_READY_WITHIN_SECONDS = 5.0
_LONGEST_SOCKET_PATH = 106
_MOST_DESCRIPTORS = 250
_MEANS_THIS_PROCESS = ("/dev/fd/", "/dev/tty", "/proc/self/")
_CREDENTIALS_BYTES = 12
_DEATH_SIGNAL_OPTION = 1
"""prctl's PR_SET_PDEATHSIG."""

_STATUS_LINES = ("Uid:", "Gid:", "Groups:", "NoNewPrivs:", "Seccomp:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:")
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_KEPT_VARIABLES = ("HOME", "PATH", "TMPDIR", "LANG", "LC_", "PYTHON", "LD_")
_BOOT = (
    "import marshal, sys; given = marshal.load(sys.stdin.buffer); sys.path[:] = given['path']; "
    "from flows.warm.warm_process import main; main(given)"
)


def is_switched_on() -> bool:
    """Whether this process may use a warm process, and leave one behind."""
    return os.environ.get(SWITCH) != "0"


def run_in_warm_process(program: str) -> int | None:
    """Run a program (see `run_program`) there, with this process's arguments, variables, folder and streams.

    Returns its wait status, LOST, or None where nothing was run, so that this process has to do it.
    """
    if not is_switched_on() or _needs_this_process():
        return None
    common = identity()
    path = _named_socket() or socket_path(common)
    if path is None:
        return None
    forwarding, begun = _SignalForwarding(), False
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_READY_WITHIN_SECONDS)
            connection.connect(path)
            if user_of(connection) != os.geteuid():
                return None
            # A process that hangs would keep descriptors that it was sent, and the reader of our output waits for them.
            if _receive(connection)[:1] != FORKED:
                return None
            _send_request(connection, program, common)
            if _receive(connection)[:1] != READY:
                return None
            connection.sendall(GO)
            begun = True
            connection.settimeout(None)
            return forwarding.wait(connection)
    except OSError:
        return LOST if begun else None
    finally:
        forwarding.end()


def end_as(status: int) -> NoReturn:
    """End this process as a wait status says: with that exit code, or by that signal."""
    if status == LOST:
        os.write(2, b"roas: The warm process ended, and this command with it; `roas status` shows what was recorded.\n")
        os._exit(1)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        # The program's own process has left a core already, if it leaves one.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def run_program(program: str) -> None:
    """Run a program in this process: `module:function`, or a module as `python -m` does."""
    module, _, function = program.partition(":")
    if function:
        import importlib

        # Ctrl-C meanwhile just ends it: an exception would come out of whatever is imported, or be lost there.
        raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if raises:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        imported = importlib.import_module(module)
        if raises:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        getattr(imported, function)()
    else:
        import runpy

        runpy.run_module(module, run_name="__main__", alter_sys=True)


def end_with_parent(parent: int) -> None:
    """Let the kernel send this process SIGTERM when its parent ends, however that ends; ends now if it has."""
    import ctypes

    ctypes.CDLL(None).prctl(_DEATH_SIGNAL_OPTION, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def leave_warm_process(modules: Sequence[str], *, idle_seconds: float) -> None:
    """Start a warm process for later commands unless there is one; it ends after `idle_seconds` without a request.

    Where ROAS_WARM names a socket, the caller that set it starts and ends that process.
    """
    common = identity()
    path = socket_path(common)
    if _named_socket() or path is None or _is_held(f"{path}.lock"):
        return
    try:
        start_warm_process(path, common, modules, idle_seconds=idle_seconds)
    except OSError:
        # Later commands start cold as well, and need no warm process.
        return


def start_warm_process(
    path: str, common: str, modules: Sequence[str], *, idle_seconds: float | None
) -> tuple[int, int]:
    """Start a warm process, detached from this process's terminal and group.

    Without `idle_seconds` it ends when the returned descriptor is closed; else that is -1.

    Returns:
        Its process id, and the descriptor that keeps it.
    """
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    settings = {
        "socket": path,
        "identity": common,
        "path": sys.path,
        "modules": list(modules),
        "idle": idle_seconds or 0.0,
    }
    reading, writing = os.pipe()
    os.write(writing, marshal.dumps(settings))
    variables = variables_of_warm_process(path)
    try:
        process = os.posix_spawn(
            sys.executable,
            [sys.executable, *_args_from_interpreter_flags(), "-c", _BOOT, path],
            variables,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, reading, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, f"{path}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
    except OSError:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    if idle_seconds is None:
        return process, writing
    os.close(writing)
    return process, -1


def variables_of_warm_process(path: str) -> dict[str, str]:
    """The variables of the warm process that listens at a path: those of a user's session, none of a request."""
    folder = os.path.dirname(path)  # noqa: PTH120 - pathlib is slow to import
    variables = {name: value for name, value in os.environ.items() if name.startswith(_KEPT_VARIABLES)}
    return variables | {
        SWITCH: "0",
        # Imports make Prefect's folder, and NumPy's algebra a thread, which no process that forks may have.
        "PREFECT_HOME": f"{folder}/prefect",
        **ONE_THREAD,
    }


def identity() -> str:
    """All that a fork cannot take over from the client, so that both must have it in common."""
    code = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))  # noqa: PTH120 - pathlib is slow to import
    named = zip(sys.flags.__match_args__, sys.flags, strict=False)
    flags = [value for name, value in named if name not in ("safe_path", "utf8_mode")]
    # Python chooses UTF-8 in the C locale, and names it to its children by LC_CTYPE: they need not choose it again.
    encoding = "utf-8" if sys.flags.utf8_mode else _locale.getencoding().lower()
    limits = [resource.getrlimit(number)[1] for number in limit_numbers()]
    executable = os.path.realpath(sys.executable)
    lines = [
        code,
        executable,
        sys.prefix,
        sys.version,
        sys.getfilesystemencoding(),
        encoding,
        f"{flags} {sys.warnoptions}",
    ]
    lines += [f"{limits} {os.nice(0)} {os.sched_getscheduler(0)}", _read("cgroup")]
    lines += [_read("loginuid"), _read("sessionid")]
    lines += [line for line in _read("status").splitlines() if line.startswith(_STATUS_LINES)]
    lines += [os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES]  # noqa: PTH115 - as above
    lines += sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith("PYTHON"))
    return "\n".join(lines)


def limit_numbers() -> list[int]:
    """The resource limits of this system."""
    return sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


def socket_path(common: str) -> str | None:
    """Where the warm process of an identity listens, in a folder of this user; None where no such folder can be had."""
    folder = private_folder()
    if folder is None:
        return None
    path = f"{folder}/{zlib.crc32(common.encode('utf-8', 'surrogateescape')):08x}.sock"
    return path if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH else None


def user_of(connection: socket.socket) -> int:
    """The user at the other end of a Unix socket, as the kernel knows it."""
    return _credential(connection, 1)


def process_of(connection: socket.socket) -> int:
    """The process at the other end of a Unix socket."""
    return _credential(connection, 0)


def _credential(connection: socket.socket, place: int) -> int:
    """One of the three numbers of 4 bytes that the kernel has of the other end: process, user, group."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS_BYTES)
    return int.from_bytes(credentials[4 * place : 4 * place + 4], sys.byteorder)


def private_folder() -> str | None:
    """The folder of the sockets, which is this user's alone; None where there can be none."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and _is_private(runtime):
        folder = f"{runtime}/roas"
    else:
        folder = f"{os.environ.get('TMPDIR') or '/tmp'}/roas-{os.geteuid()}"  # noqa: S108 - its owner and mode are checked
    try:
        os.mkdir(folder, 0o700)  # noqa: PTH102 - pathlib is slow to import
    except FileExistsError:
        pass
    except OSError:
        return None
    return folder if _is_private(folder) else None


def _named_socket() -> str | None:
    path = os.environ.get(SWITCH, "")
    return path if path.startswith("/") else None


def _is_private(folder: str) -> bool:
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _is_held(path: str) -> bool:
    """Whether a warm process holds the lock, or is about to: it takes it before it imports anything."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(lock)


def _needs_this_process() -> bool:
    """Whether the program may use what another process does not have: descriptors by name, a job in the background."""
    try:
        for number in range(3):
            os.fstat(number)
    except OSError:
        return True
    if any(name in word for word in sys.argv for name in _MEANS_THIS_PROCESS):
        return True
    try:
        # Only a process of the terminal's own session is stopped when it reads the terminal in the background.
        return os.tcgetpgrp(0) != os.getpgrp()
    except OSError:
        return False


def _send_request(connection: socket.socket, program: str, common: str) -> None:
    ignored = [int(number) for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN]
    request = marshal.dumps(
        {
            "identity": common,
            "program": program,
            "arguments": sys.argv,
            "variables": dict(os.environb),
            "path": sys.path,
            "limits": [resource.getrlimit(number) for number in limit_numbers()],
            "processors": sorted(os.sched_getaffinity(0)),
            "oom_score": _read("oom_score_adj").strip(),
            "ignored": ignored,
            "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
            "streams": [_text_layer(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        }
    )
    folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        message = len(request).to_bytes(4, "big") + request
        sent = socket.send_fds(connection, [message], [folder, 0, 1, 2])
        connection.sendall(message[sent:])
    finally:
        os.close(folder)


def _text_layer(stream: object) -> tuple[str, str, bool, bool]:
    """How Python set a standard stream up: encoding, error handler, line buffering, write-through."""
    return stream.encoding, stream.errors, stream.line_buffering, stream.write_through  # type: ignore[attr-defined]


def _receive(connection: socket.socket) -> bytes:
    """The next answer, or less where the connection ended."""
    answer = b""
    while len(answer) < ANSWER_BYTES and (more := connection.recv(ANSWER_BYTES - len(answer))):
        answer += more
    return answer


def _read(name: str) -> str:
    try:
        with open(f"/proc/self/{name}") as file:  # noqa: PTH123 - pathlib is slow to import
            return file.read()
    except OSError:
        return ""


class _SignalForwarding:
    """Takes this process's signals and hands them to the program, from its creation to `end`."""

    def __init__(self) -> None:
        self._reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._writing = writing
        self._earlier_descriptor = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        # A signal that this process ignores, as after nohup, is ignored by the program as well.
        numbers = [number for number in _FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
        self._earlier = {number: signal.signal(number, _do_nothing) for number in numbers}

    def wait(self, connection: socket.socket) -> int:
        """Forward signals until the program ends; its wait status, or LOST."""
        waiting = select.poll()
        waiting.register(connection, select.POLLIN)
        waiting.register(self._reading, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in waiting.poll()]
            if self._reading in ready:
                connection.sendall(os.read(self._reading, 512))
            if connection.fileno() in ready:
                answer = _receive(connection)
                if len(answer) < ANSWER_BYTES:
                    return LOST
                status = int.from_bytes(answer[1:], "big")
                if answer[:1] == ENDED:
                    return status
                self._stop_too(os.WSTOPSIG(status))
                connection.sendall(bytes([signal.SIGCONT]))

    def end(self) -> None:
        """Restore the earlier handlers; signals that were not forwarded reach this process."""
        for signal_number, handler in self._earlier.items():
            signal.signal(signal_number, handler)
        signal.set_wakeup_fd(self._earlier_descriptor)
        try:
            pending = os.read(self._reading, 512)
        except BlockingIOError:
            pending = b""
        os.close(self._reading)
        os.close(self._writing)
        for number in pending:
            os.kill(os.getpid(), number)

    def _stop_too(self, number: int) -> None:
        """Stop this process, so that its shell sees the job stopped; returns when it is continued.

        The kernel stops no process of a group without a shell by SIGTSTP; by SIGSTOP it stops every one.
        """
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSTOP if number == signal.SIGSTOP else signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Let the number of the signal be written to the wakeup descriptor."""
